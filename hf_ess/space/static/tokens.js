// The text, token by token. Token i carries the colour of position i: the cut before it.

import { choice, element } from "./dom.js";
import { createFigure } from "./figure.js";
import { cell, percent, signed } from "./format.js";
import { createLegend } from "./legend.js";
import { range } from "./measures.js";
import { cssColour, parseHex } from "./palette.js";
import { makeScale } from "./scales.js";
import { positionLines, visibleToken } from "./words.js";

const LEVELS = 24;
const STRONGEST = 0.55; // text stays readable on the strongest tint
const OUTLIERS = 0.02; // share of changes beyond the ends of the scale

const COLUMNS = ["position", "token", "total ESS", "change", "share of attainable"];
const CARRIED =
  "A token\u2019s colour is the state carried across the cut before it, from all tokens before. ";
const CHANGED =
  "A token\u2019s colour is the change of that state since the last measured position before it. ";

function shownText(token) {
  if (token === "") return "\u00b7";
  const marked = token.replace(/\r?\n/g, "\u23ce\n").replace(/\t/g, "\u21e5");
  return /^\s+$/u.test(token) ? marked.replace(/[^\S\n]/gu, "\u2423") : marked;
}

function tokenSpan(token, index, data) {
  const span = element("span", { class: "hfess-token", "data-i": index }, shownText(token));
  if (/^\s*$/u.test(token)) span.classList.add("hfess-token-blank");
  if (!data.indexOf.has(index)) span.classList.add("hfess-token-unmeasured");
  return span;
}

function largestUsual(changes) {
  const sizes = Array.from(changes, Math.abs).filter(
    (size) => !Number.isNaN(size),
  ).sort((a, b) => a - b);
  return sizes.length ? sizes[Math.floor((sizes.length - 1) * (1 - OUTLIERS))] || 1 : 1;
}

export function createTokens(env, options = {}) {
  const colour = choice(
    "Colour",
    `${env.id}-colour-${options.name ?? "text"}`,
    [["total", "Total ESS"], ["change", "Change"]],
    (value) => env.change({ colour: value }),
  );
  const text = element("div", { class: "hfess-text", tabindex: "0", role: "group", dir: "auto" });
  const legend = createLegend();
  const figure = createFigure({
    name: options.name ?? "text",
    title: options.title ?? "The text",
    numbers: () => ({
      caption: "Total ESS at the cut before each token",
      columns: COLUMNS.map((label, k) => ({ label, numeric: k > 1 })),
      rows: model.data.positions.map((position, p) => [
        String(position),
        visibleToken(model.data.tokens?.[position] ?? ""),
        cell(model.derived.total[p]),
        cell(model.derived.change[p], signed),
        cell(model.derived.share[p], percent),
      ]),
    }),
    download: env.download,
  });
  figure.tools.prepend(colour.element);
  figure.body.append(text, legend.element);

  let model = null;
  let shownData = null;
  let spans = [];
  let painted = [];
  let current = null;
  let inside = false;

  function build(data) {
    shownData = data;
    const ends = new Set(data.separators);
    spans = (data.tokens ?? []).map((token, index) => {
      const span = tokenSpan(token, index, data);
      if (ends.has(index)) span.classList.add("hfess-token-end");
      return span;
    });
    painted = new Array(spans.length).fill(null);
    current = null;
    text.replaceChildren(...spans);
    text.hidden = spans.length === 0;
    figure.setNote(noteOf(data));
  }

  function coloured(data) {
    return Boolean(data.tokens) && data.samples === 1;
  }

  function noteOf(data) {
    if (!data.tokens) return "The text was not kept with this report; see the curve below.";
    if (!coloured(data)) {
      return (
        `The first of ${data.samples} texts. An average over texts belongs to the tokens of none ` +
        "of them, so it is not coloured."
      );
    }
    const words = model.state.colour === "total" ? CARRIED : CHANGED;
    const partial = data.positions.length < data.tokens.length;
    const dotted = partial ? "Dotted underline: not measured. " : "";
    return `${words}${dotted}A bar ends a sentence or passage.`;
  }

  // A painter gives each position a place on the scale and each place a colour.
  function painter() {
    const { derived, state } = model;
    const theme = env.theme();
    const tint = (hex) => (share) => cssColour(
      parseHex(hex),
      Number((STRONGEST * share).toFixed(3)),
    );
    if (state.colour === "total") {
      const [low, high] = range(derived.total);
      const scale = makeScale(state.scale, [low, high], [0, 1]);
      return {
        values: derived.total,
        share: scale,
        css: tint(theme.data),
        ticks: scale.ticks(4),
        words: "total ESS",
      };
    }
    const most = largestUsual(derived.change);
    const scale = makeScale("linear", [-most, most], [0, 1]);
    const [up, down] = [tint(theme.data), tint(theme.second)];
    const css = (share) => (share >= 0.5 ? up(2 * share - 1) : down(1 - 2 * share));
    return {
      values: derived.change,
      share: scale,
      css,
      ticks: scale.ticks(4),
      words: "change of total ESS",
      diverging: true,
    };
  }

  function paint() {
    const { values, share, css, ticks, words, diverging } = painter();
    model.data.positions.forEach((position, p) => {
      const span = spans[position];
      if (!span) return;
      const place = Number.isNaN(values[p])
        ? -1
        : Math.round(LEVELS * Math.min(1, Math.max(0, share(values[p]))));
      const sign = diverging && place >= 0 ? Math.sign(place - LEVELS / 2) : 0;
      const key = `${place}/${sign}/${words}/${env.theme().surface}`;
      if (painted[position] === key) return;
      painted[position] = key;
      span.style.backgroundColor = place < 0 ? "" : css(place / LEVELS);
      span.dataset.level = String(place);
      span.classList.toggle("hfess-token-up", sign > 0);
      span.classList.toggle("hfess-token-down", sign < 0);
    });
    const keys = diverging ? [["up", "more state"], ["down", "state let go"]] : [];
    legend.update({ words, css, ticks, position: share, notes: keys });
  }

  function update(next) {
    model = next;
    if (model.data !== shownData) build(model.data);
    colour.set(model.state.colour);
    colour.element.hidden = legend.element.hidden = !coloured(model.data);
    figure.setNote(noteOf(model.data));
    text.setAttribute(
      "aria-label",
      `The text as ${spans.length} tokens. ` +
        "Left and right arrows move between measured positions and read their values.",
    );
    if (coloured(model.data)) paint();
    spans.forEach((span, index) => {
      if (span.classList.contains("hfess-token-chosen") !== (index === model.state.position)) {
        span.classList.toggle("hfess-token-chosen");
      }
    });
    figure.refresh();
  }

  function point({ p }) {
    const span = p === null ? null : spans[model?.data.positions[p]];
    if (span === current) return;
    current?.classList.remove("hfess-token-current");
    current = span ?? null;
    current?.classList.add("hfess-token-current");
    if (current && !inside) reveal(current);
  }

  // Scrolls the box only: the page stays where the reader looks.
  function reveal(span) {
    const top = span.offsetTop - text.offsetTop;
    const bottom = top + span.offsetHeight;
    if (top < text.scrollTop) text.scrollTop = top - 8;
    else if (bottom > text.scrollTop + text.clientHeight) {
      text.scrollTop = bottom - text.clientHeight + 8;
    }
  }

  function positionOf(event) {
    const span = event.target.closest?.(".hfess-token");
    return span ? model.data.indexOf.get(Number(span.dataset.i)) ?? null : null;
  }

  text.addEventListener("pointermove", (event) => {
    inside = true;
    const span = event.target.closest?.(".hfess-token");
    if (!span) return leave();
    const p = positionOf(event);
    env.hover({ p, order: null }, options.side);
    if (p !== null) env.tip.show(event, ...positionLines(model, p));
    else env.tip.show(event, `Position ${span.dataset.i}`, [["not measured", ""]]);
    return undefined;
  });
  function leave() {
    env.tip.hide();
    env.hover({ p: null, order: null }, options.side);
  }
  text.addEventListener("pointerleave", () => {
    inside = false;
    leave();
  });
  text.addEventListener("click", (event) => {
    const p = positionOf(event);
    if (p !== null) env.pick({ position: model.data.positions[p] }, options.side);
  });
  text.addEventListener("keydown", (event) => {
    if (env.moveAlong(event, model, options.side)) inside = false;
  });

  return { element: figure.element, update, point };
}
