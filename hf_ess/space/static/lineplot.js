// Lines over a common horizontal axis, in one or more panels: pure drawing, no events.

import { shape } from "./dom.js";
import { tickText } from "./format.js";
import { makeScale } from "./scales.js";

// The heat map keeps the same margins, so that a position stands in one column in both.
export const MARGINS = { left: 52, right: 12 };

const TOP = 0;
const GAP = 22;
const FOOT = 34;
const SMALL = 11;

// A rim in the colour of the ground keeps a label readable where lines cross it.
export function rim(theme) {
  return {
    stroke: theme.surface,
    "stroke-width": 3,
    "paint-order": "stroke",
    "stroke-linejoin": "round",
  };
}

function text(theme, attributes, words, colour = theme.muted) {
  return shape(
    "text",
    { fill: colour, "font-size": SMALL, "font-family": theme.font, ...attributes },
    words,
  );
}

// Measured neighbours are joined by a full line; across positions that were not measured the
// line is faint, since nothing is known there.
function paths(series, xOf, yOf) {
  const full = [];
  const faint = [];
  let last = -1;
  for (let k = 0; k < series.xs.length; k += 1) {
    if (Number.isNaN(series.ys[k])) continue;
    if (last >= 0) {
      const near = series.xs[k] - series.xs[last] <= (series.step ?? Infinity);
      const from = `M${xOf(series.xs[last]).toFixed(2)} ${yOf(series.ys[last]).toFixed(2)}`;
      (near ? full : faint).push(
        `${from}L${xOf(series.xs[k]).toFixed(2)} ${yOf(series.ys[k]).toFixed(2)}`,
      );
    }
    last = k;
  }
  return { full: full.join(""), faint: faint.join("") };
}

// One value alone makes no line.
function isAlone(series) {
  return series.ys.filter((y) => !Number.isNaN(y)).length === 1;
}

function marks(series, xOf, yOf) {
  if (!series.marker && !isAlone(series)) return [];
  const half = series.markerSize ?? 2.5;
  const result = [];
  series.xs.forEach((x, k) => {
    if (Number.isNaN(series.ys[k])) return;
    const [cx, cy] = [xOf(x), yOf(series.ys[k])];
    result.push(
      series.marker === "square"
        ? shape(
          "rect",
          { x: cx - half, y: cy - half, width: 2 * half, height: 2 * half, fill: series.colour },
        )
        : shape("circle", { cx, cy, r: half, fill: series.colour }),
    );
  });
  return result;
}

function drawSeries(series, xOf, yOf) {
  const { full, faint } = paths(series, xOf, yOf);
  const stroke = {
    fill: "none",
    stroke: series.colour,
    "stroke-width": series.width ?? 1.5,
    "stroke-dasharray": series.dash,
    "stroke-linejoin": "round",
    "stroke-linecap": "round",
  };
  return shape(
    "g",
    { "data-series": series.name, opacity: series.opacity },
    full && !series.bare ? shape("path", { ...stroke, d: full }) : null,
    faint && !series.bare ? shape("path", { ...stroke, d: faint, opacity: 0.3 }) : null,
    marks(series, xOf, yOf),
  );
}

function drawPanel(panel, yOf, xOf, box, theme) {
  const nodes = [];
  for (const tick of yOf.ticks(Math.max(2, Math.floor(panel.height / 34)))) {
    const y = yOf(tick);
    nodes.push(shape("line", { x1: box.left, x2: box.right, y1: y, y2: y, stroke: theme.line }));
    nodes.push(
      text(
        theme,
        { x: box.left - 6, y: y + 4, "text-anchor": "end" },
        (panel.format ?? tickText)(tick),
      ),
    );
  }
  for (const shade of panel.shades ?? []) {
    const [top, bottom] = [yOf(shade.high), yOf(shade.low)];
    const frame = {
      x: box.left,
      y: top,
      width: box.right - box.left,
      height: Math.max(0, bottom - top),
    };
    nodes.push(
      shape("rect", { ...frame, fill: theme.hatch, opacity: 0.35, "data-shade": shade.name }),
    );
    nodes.push(
      text(
        theme,
        { x: box.right - 4, y: Math.min(bottom, box.bottom) - 5, "text-anchor": "end" },
        shade.label,
      ),
    );
  }
  nodes.push(panel.series.map((series) => drawSeries(series, xOf, yOf)));
  for (const line of panel.lines ?? []) {
    const y = yOf(line.y);
    nodes.push(shape("line", {
      x1: box.left, x2: box.right, y1: y, y2: y, stroke: line.colour,
      "stroke-dasharray": "5 3", "data-line": line.name,
    }));
    nodes.push(
      text(
        theme,
        { ...rim(theme), x: box.right - 4, y: y - 5, "text-anchor": "end" },
        line.label,
        line.colour,
      ),
    );
  }
  nodes.push(
    text(theme, { x: box.left, y: box.top - 4, "font-weight": 600 }, panel.label, theme.muted),
  );
  return nodes.flat();
}

const LETTER = 6.2; // pixels, about

// Which line is which, on the row of the panel's label, from the right.
function drawKeys(panel, box, theme) {
  const nodes = [];
  let right = box.right;
  for (const series of [...panel.series].reverse().filter((each) => each.label)) {
    const left = right - LETTER * series.label.length - 28;
    const y = box.top - 8;
    const sample = { xs: [left, left + 20], ys: [y, y], colour: series.colour, dash: series.dash };
    nodes.push(
      drawSeries({ ...sample, width: series.width, bare: series.bare }, (x) => x, (value) => value),
      ...marks({ ...sample, xs: [left + 10], ys: [y], marker: series.marker }, (x) => x, (v) => v),
      text(theme, { x: left + 25, y: y + 4 }, series.label),
    );
    right = left - 14;
  }
  return nodes;
}

// x: {low, high, label, kind?, format?, ticks?}; verticals: [x].
// panels: [{height, kind, low, high, label, series, lines, shades, format}]; a series is
// {xs, ys, colour, name} and where wanted dash, width, opacity, marker, label, step (the largest
// distance of neighbours), bare (marks without a line). Returns the drawing and its scales.
export function linePlot({ width, x, panels, verticals = [], theme, title }) {
  const box = {
    left: MARGINS.left,
    right: Math.max(MARGINS.left + 40, width - MARGINS.right),
  };
  const xOf = makeScale(x.kind ?? "linear", [x.low, x.high], [box.left, box.right]);
  const nodes = [];
  const scales = [];
  let top = TOP;
  for (const panel of panels) {
    top += GAP;
    const yOf = makeScale(panel.kind, [panel.low, panel.high], [top + panel.height, top]);
    const frame = { ...box, top, bottom: top + panel.height };
    for (const at of verticals) {
      nodes.push(shape("line", {
        x1: xOf(at), x2: xOf(at), y1: top, y2: frame.bottom, stroke: theme.muted, opacity: 0.5,
        "stroke-dasharray": "1 3",
      }));
    }
    nodes.push(...drawPanel(panel, yOf, xOf, frame, theme));
    if (panel === panels[0]) nodes.push(...drawKeys(panel, frame, theme));
    scales.push(yOf);
    top = frame.bottom;
  }
  nodes.push(shape("line", { x1: box.left, x2: box.right, y1: top, y2: top, stroke: theme.muted }));
  const room = Math.max(2, Math.floor((box.right - box.left) / 70));
  for (const tick of x.ticks?.(room) ?? xOf.ticks(room)) {
    nodes.push(
      text(
        theme,
        { x: xOf(tick), y: top + 14, "text-anchor": "middle" },
        (x.format ?? tickText)(tick),
      ),
    );
  }
  nodes.push(
    text(theme, { x: (box.left + box.right) / 2, y: top + 29, "text-anchor": "middle" }, x.label),
  );
  const height = top + FOOT;
  const size = {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    xmlns: "http://www.w3.org/2000/svg",
  };
  const drawing = shape(
    "svg",
    { ...size, class: "hfess-drawing", "aria-hidden": "true" },
    shape("title", {}, title),
    nodes,
  );
  return { drawing, xOf, scales, box: { ...box, top: TOP, bottom: top } };
}
