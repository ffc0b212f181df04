// Total ESS by position, and its share of what is attainable there.

import { element } from "./dom.js";
import { svgAsPng, svgBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { cell, decimal, percent, signed } from "./format.js";
import { positionDomain } from "./heatmap_draw.js";
import { linePlot } from "./lineplot.js";
import { range } from "./measures.js";
import { nearestPosition } from "./positions.js";
import { roundUp } from "./scales.js";
import { capitalized, positionLines, readingName } from "./words.js";

const MOST_SEPARATORS = 60;
const MOST_MARKERS = 130;
const COLUMNS = ["position", "total", "change", "attainable", "share of attainable"];

// The lower end of a logarithmic axis: lines need no zero.
export function valueDomain(kind, values) {
  const [low, high] = range(values);
  const top = roundUp(high || 1);
  return kind === "log" && low > 2 ? [low * 0.8, high * 1.1] : [0, top];
}

// A share that rounding puts a hair above one does not need an axis to 120 %.
function shareTop(highest) {
  return highest > 1.001 ? roundUp(highest) : Math.min(1, roundUp(highest || 1));
}

export function separatorLines(data) {
  return data.separators.length <= MOST_SEPARATORS ? data.separators : [];
}

export function createCurve(env, options = {}) {
  const stage = element("div", {
    class: "hfess-stage", tabindex: "0", role: "application", "aria-roledescription": "curve",
  });
  const line = element("div", { class: "hfess-cursor-line", hidden: true });
  const dots = [0, 1].map(() => element("div", { class: "hfess-cursor-dot", hidden: true }));
  const figure = createFigure({
    name: options.name ?? "curve",
    title: options.title ?? "Total by position",
    formats: {
      SVG: () => svgBlob(plot.drawing, env.theme()),
      PNG: () => svgAsPng(plot.drawing, env.theme()),
    },
    numbers,
    download: env.download,
  });
  figure.body.append(stage);
  let model = null;
  let plot = null;
  let cursor = { p: null };

  function numbers() {
    const sides = model.beside ? [["A", model], ["B", model.beside]] : [["", model]];
    const side = model.beside ? [{ label: "report", numeric: false }] : [];
    return {
      caption: `${capitalized(readingName(model))}, total over channels, mean over verified layers`,
      columns: [...side, ...COLUMNS.map((label) => ({ label, numeric: true }))],
      rows: sides.flatMap(([name, of]) => rowsOf(of).map((row) => (name ? [name, ...row] : row))),
    };
  }

  function update(next) {
    model = next;
    const width = env.widthOf(figure.body);
    if (!width) return;
    const theme = env.theme();
    const { data, derived, state } = model;
    const marker = data.positions.length <= MOST_MARKERS ? "circle" : null;
    const [low, high] = model.curveDomain ?? valueDomain(state.scale, derived.total);
    const one = (of, take, colour, dash) => ({
      xs: of.data.positions, ys: take(of.derived), colour, dash, marker, markerSize: 1.8, step: 1,
    });
    const series = (take, colour, name) =>
      model.beside
        ? [
            { ...one(model, take, theme.data), name: `${name} A`, label: "A" },
            { ...one(model.beside, take, theme.second, "5 3"), name: `${name} B`, label: "B" },
          ]
        : [{ ...one(model, take, colour), name }];
    const highestShare = range([...derived.share, ...(model.beside?.derived.share ?? [])])[1];
    const [first, last] = positionDomain(data);
    plot = linePlot({
      width,
      theme,
      title: `${data.title}: ${readingName(model)}, total by position`,
      x: { low: first, high: last, label: "position i: tokens before the split" },
      verticals: separatorLines(data),
      panels: [
        {
          height: 150, kind: state.scale, low, high, label: "state dimensions, mean of layers",
          series: series((each) => each.total, theme.data, "total"),
        },
        {
          height: 54, kind: "linear", low: 0, high: shareTop(highestShare),
          label: "share of attainable",
          format: (share) => `${Number((100 * share).toPrecision(3))}%`,
          series: series((each) => each.share, theme.second, "share"),
        },
      ],
    });
    stage.replaceChildren(plot.drawing, line, ...dots);
    figure.setNote(
      "Mean of layers. Blocks are small near both ends: the share tells a real fall.",
    );
    stage.setAttribute("aria-label", description());
    point(cursor);
    figure.refresh();
  }

  function description() {
    const { total } = model.derived;
    const [low, high] = range(total);
    const at = (value) => model.data.positions[total.indexOf(value)];
    return Number.isNaN(low)
      ? "Total by position: no layer is verified."
      : `${capitalized(readingName(model))}, total by position: ` +
          `lowest ${decimal(low)} at ${at(low)}, highest ${decimal(high)} at ${at(high)}, ` +
          `mean ${decimal(model.derived.meanTotal)}. Left and right arrows move.`;
  }

  function point(next) {
    cursor = next;
    if (!plot) return;
    const { p } = cursor;
    line.hidden = p === null;
    const x = p === null ? 0 : plot.xOf(model.data.positions[p]);
    line.style.transform = `translateX(${x}px)`;
    line.style.top = `${plot.box.top}px`;
    line.style.height = `${plot.box.bottom - plot.box.top}px`;
    [model.derived.total, model.derived.share].forEach((values, k) => {
      dots[k].hidden = p === null || Number.isNaN(values[p]);
      const y = plot.scales[k](values[p] ?? NaN);
      if (!dots[k].hidden) dots[k].style.transform = `translate(${x}px, ${y}px)`;
    });
  }

  function linesAt(p) {
    const [title, lines] = positionLines(model, p);
    const beside = model.beside?.data.indexOf.get(model.data.positions[p]);
    if (beside === undefined) return [title, lines];
    return [title, [...named("A", lines), ...named("B", positionLines(model.beside, beside)[1])]];
  }

  function at(event) {
    const x = event.clientX - stage.getBoundingClientRect().left;
    return nearestPosition(model.data.positions, plot.xOf.invert(x));
  }
  const ready = () => Boolean(model && plot && model.data.positions.length);
  stage.addEventListener("pointermove", (event) => {
    if (!ready()) return;
    const p = at(event);
    env.hover({ p, order: null }, options.side);
    env.tip.show(event, ...linesAt(p));
  });
  stage.addEventListener("pointerleave", () => {
    env.tip.hide();
    env.hover({ p: null, order: null }, options.side);
  });
  stage.addEventListener("click", (event) => {
    if (ready()) env.pick({ position: model.data.positions[at(event)] }, options.side);
  });
  stage.addEventListener("keydown", (event) => env.moveAlong(event, model, options.side));

  return { element: figure.element, update, point };
}

function rowsOf({ data, derived }) {
  return data.positions.map((position, p) => [
    String(position),
    cell(derived.total[p]),
    cell(derived.change[p], signed),
    cell(derived.attainable[p]),
    cell(derived.share[p], percent),
  ]);
}

function named(side, lines) {
  return lines.map(([label, text]) => [`${side}: ${label}`, text]);
}
