// A row per layer, as high as its row in the heat map: bars, marks and aligned numbers.

import { shape } from "./dom.js";
import { decimal, percent, tickText } from "./format.js";
import { ROWS_TOP } from "./heatmap_draw.js";
import { rim } from "./lineplot.js";
import { makeScale, roundUp } from "./scales.js";
import { shortLabel } from "./words.js";

const COLUMN = 54;
const LABEL = 38;
const FOOT = 56;
const SMALL = 11;

const COLUMNS = [
  ["ESS", (row) => decimal(row.ess)],
  ["attain.", (row) => decimal(row.attainable)],
  ["capacity", (row) => decimal(row.capacity)],
  ["utiliz.", (row) => percent(row.utilization)],
];

function highest(profile, kind) {
  const ofRow = (row) => (kind === "log" ? Math.max(row.high, row.attainable || 0) : row.high);
  return roundUp(Math.max(0, ...profile.map(ofRow).filter((value) => !Number.isNaN(value))));
}

export function profileLayout(profile, width, rowHeight, kind) {
  const columns = width < 380 ? [COLUMNS[0], COLUMNS[1], COLUMNS[3]] : COLUMNS;
  const right = width - columns.length * COLUMN;
  const bottom = ROWS_TOP + rowHeight * profile.length;
  return {
    width, rowHeight, columns, left: LABEL, right, top: ROWS_TOP, bottom, height: bottom + FOOT,
    xOf: makeScale(kind, [0, highest(profile, kind)], [LABEL, right - 8]),
  };
}

function words(theme, x, y, text, attributes = {}) {
  const base = { x, y, fill: theme.muted, "font-size": SMALL, "font-family": theme.font };
  return shape(
    "text",
    { ...base, style: "font-variant-numeric: tabular-nums", ...attributes },
    text,
  );
}

function tick(x, middle, half, colour, width = 1.5) {
  return shape(
    "line",
    { x1: x, x2: x, y1: middle - half, y2: middle + half, stroke: colour, "stroke-width": width },
  );
}

function unverifiedRow(layout, middle, theme) {
  return [
    shape("line", {
      x1: layout.left, x2: layout.width, y1: middle, y2: middle, stroke: theme.hatch,
      "stroke-dasharray": "2 3",
    }),
    words(theme, layout.left + 4, middle + 4, "not verified", rim(theme)),
  ];
}

function bars(row, layout, middle, theme) {
  const half = Math.max(2, Math.min(6, layout.rowHeight * 0.28));
  const start = layout.xOf(0);
  const nodes = [
    shape("rect", {
      x: start, y: middle - half, width: Math.max(
        0,
        layout.xOf(row.ess) - start,
      ), height: 2 * half, fill: theme.data, "data-bar": row.ess,
    }),
  ];
  // From the lowest to the highest position.
  nodes.push(shape("line", {
    x1: layout.xOf(row.low), x2: layout.xOf(row.high), y1: middle, y2: middle,
    stroke: theme.ink, opacity: 0.45,
  }));
  if (row.attainable <= layout.xOf.high) nodes.push(
    tick(layout.xOf(row.attainable), middle, half + 1, theme.second, 2),
  );
  return nodes;
}

function drawRow(row, order, layout, theme, selected) {
  const middle = layout.top + (order + 0.5) * layout.rowHeight;
  const nodes = [];
  if (selected === order) {
    nodes.push(shape("rect", {
      x: 0, y: layout.top + order * layout.rowHeight, width: layout.width,
      height: layout.rowHeight, fill: theme.faint,
    }));
  }
  const step = Math.ceil(12 / layout.rowHeight);
  const written = order % step === 0 || selected === order;
  if (written) nodes.push(
    words(theme, LABEL - 6, middle + 4, shortLabel(row.layer.label), { "text-anchor": "end" }),
  );
  if (!row.layer.verified) return [...nodes, ...unverifiedRow(layout, middle, theme)];
  nodes.push(...bars(row, layout, middle, theme));
  if (row.layer.verdict && written) {
    nodes.push(words(theme, layout.right - 8, middle + 4, verdictWord(row.layer.verdict), {
      "text-anchor": "end", fill: theme.warn, ...rim(theme),
    }));
  }
  if (written) {
    layout.columns.forEach(([, write], k) => {
      const x = layout.right + (k + 1) * COLUMN - 4;
      nodes.push(
        words(theme, x, middle + 4, write(row), { "text-anchor": "end", fill: theme.ink }),
      );
    });
  }
  return nodes;
}

// "Collapsed: one direction carries ..." has its word before the colon.
function verdictWord(verdict) {
  return verdict.split(":")[0].toLowerCase();
}

function drawAxis(layout, theme) {
  return layout.xOf.ticks(3).flatMap((value) => {
    const x = layout.xOf(value);
    return [
      shape("line", { x1: x, x2: x, y1: layout.top, y2: layout.bottom, stroke: theme.line }),
      words(theme, x, layout.bottom + 14, tickText(value), { "text-anchor": "middle" }),
    ];
  });
}

function drawKeys(profile, layout, theme) {
  const y = layout.bottom + 31;
  const { left } = layout;
  const nodes = [
    shape("rect", { x: left, y: y - 8, width: 14, height: 7, fill: theme.data }),
    words(theme, left + 19, y, "mean"),
    shape("line", {
      x1: left + 72, x2: left + 88, y1: y - 4, y2: y - 4, stroke: theme.ink, opacity: 0.45,
    }),
    words(theme, left + 93, y, "range over positions"),
  ];
  if (profile.some((row) => row.attainable <= layout.xOf.high)) {
    nodes.push(
      tick(left + 7, y + 12, 5, theme.second, 2),
      words(theme, left + 19, y + 16, "attainable, where the axis reaches it"),
    );
  }
  return nodes;
}

export function drawProfile({ profile, layout, theme, selected, title }) {
  const headings = layout.columns.map(([name], k) => {
    const x = layout.right + (k + 1) * COLUMN - 4;
    return words(theme, x, layout.top - 8, name, { "text-anchor": "end" });
  });
  const { width, height } = layout;
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  return shape(
    "svg",
    {
      ...size, xmlns: "http://www.w3.org/2000/svg", class: "hfess-drawing", "aria-hidden": "true",
    },
    shape("title", {}, title),
    drawAxis(layout, theme),
    headings,
    words(theme, layout.left, layout.top - 8, "per channel"),
    profile.flatMap((row, order) => drawRow(row, order, layout, theme, selected)),
    drawKeys(profile, layout, theme),
  );
}
