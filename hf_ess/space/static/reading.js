// What stands under the cursor, or else at the chosen cell: the cut in its context, and numbers.

import { element } from "./dom.js";
import { blockLines, positionLines, visibleToken } from "./words.js";

const BEFORE = 9;
const AFTER = 5;
const CUT = "cut before";

function context(data, position) {
  if (data.samples !== 1 || !data.tokens) return null;
  const words = (from, to) => data.tokens.slice(Math.max(0, from), to).map(inLine).join("");
  return element(
    "p",
    { class: "hfess-context", dir: "auto" },
    element("span", { class: "hfess-context-past" }, words(position - BEFORE, position)),
    element("i", { class: "hfess-context-cut" }),
    element("span", {}, words(position, position + AFTER)),
  );
}

function inLine(token) {
  return /^\s*$/u.test(token) || /[\n\r\t]/.test(token) ? visibleToken(token) : token;
}

function pairs(lines) {
  return lines
    .filter(([label]) => label !== CUT)
    .map(([label, text]) =>
      element(
        "div",
        { class: "hfess-tip-row" },
        element("span", {}, label),
        element("b", {}, text),
      ),
    );
}

export function createReading() {
  const box = element("section", { class: "hfess-reader", "aria-hidden": "true" });
  let model = null;
  let cursor = { p: null, order: null };

  function draw() {
    const { data, state } = model;
    const p = cursor.p ?? data.indexOf.get(state.position) ?? null;
    const order = cursor.order ?? (data.layers[state.layer] ? state.layer : null);
    if (p === null) {
      const hint =
        "Point at the text or at a plot: the cut in its context and its numbers stand here.";
      box.replaceChildren(element("p", { class: "hfess-message" }, hint));
      return;
    }
    const [title, lines] = positionLines(model, p);
    const block = order === null ? null : blockLines(model, { order, p });
    const parts = [
      element("h3", { class: "hfess-figure-title" }, title),
      context(data, data.positions[p]),
      ...pairs(lines),
    ];
    if (block) {
      const label = `Layer ${data.layers[order].label}`;
      parts.push(element("div", { class: "hfess-reader-layer" }, label), ...pairs(block[1]));
    }
    box.replaceChildren(...parts.filter(Boolean));
  }

  return {
    element: box,
    update(next) {
      model = next;
      draw();
    },
    point(next) {
      cursor = next;
      if (model) draw();
    },
  };
}
