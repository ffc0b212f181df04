// Layers by positions as pixels: pure drawing on any canvas, on screen or for a file.

import { tickText } from "./format.js";
import { MARGINS } from "./lineplot.js";
import { PIXELS, SEQUENTIAL, cssColour, level } from "./palette.js";
import { makeScale } from "./scales.js";
import { shortLabel } from "./words.js";

export const ROWS_TOP = 26;
const FOOT = 38;
const FILL_OF_PITCH = 0.6;
const LEAST_WIDTH = 1; // pixels of the page

export function rowHeight(layers) {
  return Math.round(Math.min(26, Math.max(9, 430 / Math.max(1, layers))));
}

// The horizontal axis of every plot over positions.
export function positionDomain(data) {
  return [0.5, Math.max(1.5, data.length - 0.5)];
}

export function heatmapLayout(data, width, height = rowHeight(data.layers.length)) {
  const left = MARGINS.left;
  const right = Math.max(left + 40, width - MARGINS.right);
  const bottom = ROWS_TOP + height * data.layers.length;
  return {
    left,
    right,
    top: ROWS_TOP,
    bottom,
    rowHeight: height,
    width,
    height: bottom + FOOT,
    xOf: makeScale("linear", positionDomain(data), [left, right]),
  };
}

// Half the width of every measured column, in positions: columns touch only where neighbours were
// measured, and all are as wide as the closest two allow.
export function halfWidth(positions) {
  let pitch = Infinity;
  for (let p = 1; p < positions.length; p += 1) {
    pitch = Math.min(pitch, positions[p] - positions[p - 1]);
  }
  return pitch <= 1 || !Number.isFinite(pitch) ? 0.5 : (FILL_OF_PITCH * pitch) / 2;
}

// For each column of pixels the index of its position, -1 where none was measured.
function columnsOfPixels(data, layout, ratio) {
  const size = Math.round((layout.right - layout.left) * ratio);
  const columns = new Int32Array(size).fill(-1);
  const half = halfWidth(data.positions);
  data.positions.forEach((position, p) => {
    const from = Math.round((layout.xOf(position - half) - layout.left) * ratio);
    const to = Math.round((layout.xOf(position + half) - layout.left) * ratio);
    const end = Math.max(to, from + Math.round(LEAST_WIDTH * ratio));
    columns.fill(p, Math.max(0, from), Math.min(size, end));
  });
  return columns;
}

function fillCells(context, data, derived, colours, layout, ratio) {
  const columns = columnsOfPixels(data, layout, ratio);
  if (!columns.length || !data.layers.length) return;
  const thick = Math.round(layout.rowHeight * ratio);
  const gap = layout.rowHeight >= 12 ? Math.round(ratio) : 0;
  const image = context.createImageData(columns.length, thick * data.layers.length);
  const pixels = new Uint32Array(image.data.buffer);
  derived.rows.forEach((row, order) => {
    if (!row) return;
    const ofPosition = Array.from(row, (value) =>
      Number.isNaN(value) ? 0 : PIXELS[level(colours.share(value))],
    );
    const start = order * thick * columns.length;
    columns.forEach((p, k) => {
      pixels[start + k] = p < 0 ? 0 : ofPosition[p];
    });
    for (let line = 1; line < thick - gap; line += 1) {
      pixels.copyWithin(start + line * columns.length, start, start + columns.length);
    }
  });
  context.putImageData(image, Math.round(layout.left * ratio), Math.round(layout.top * ratio));
}

function pattern(context, colour, ratio, paint) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(6 * ratio);
  const brush = tile.getContext("2d");
  brush.scale(ratio, ratio);
  brush.strokeStyle = brush.fillStyle = colour;
  paint(brush);
  return context.createPattern(tile, "repeat");
}

function hatch(brush) {
  brush.lineWidth = 1;
  for (const shift of [-6, 0, 6]) {
    brush.beginPath();
    brush.moveTo(shift, 6);
    brush.lineTo(shift + 6, 0);
    brush.stroke();
  }
}

// Patterns are painted in pixels of the device: the scale is undone. One path for all cells.
function fillPattern(context, fill, boxes, ratio) {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = fill;
  context.beginPath();
  for (const box of boxes) context.rect(...box.map((length) => length * ratio));
  context.fill();
  context.restore();
}

function hatchUnverified(context, data, theme, layout, ratio) {
  const boxes = data.layers
    .filter((layer) => !layer.verified)
    .map((layer) => [
      layout.left,
      layout.top + layer.order * layout.rowHeight,
      layout.right - layout.left,
      layout.rowHeight - 1,
    ]);
  if (boxes.length) fillPattern(context, pattern(context, theme.hatch, ratio, hatch), boxes, ratio);
}

// Boxes over the cells of a row whose count is rounding noise; neighbours share one box.
function noisyRuns(layer, data, derived, layout, half) {
  const boxes = [];
  let end = NaN;
  data.positions.forEach((position, p) => {
    if (Number.isNaN(layer.entropy[p]) || derived.tolerance > layer.floor[p]) return;
    const from = layout.xOf(position - half);
    const to = layout.xOf(position + half);
    if (Math.abs(from - end) < 0.01) boxes[boxes.length - 1][2] += to - from;
    else boxes.push(
      [from, layout.top + layer.order * layout.rowHeight, to - from, layout.rowHeight - 1],
    );
    end = to;
  });
  return boxes;
}

// White and black dots: one of them shows on any colour.
function dotNoise(context, data, derived, layout, ratio) {
  if (!derived.floor.below) return;
  const dots = pattern(context, "#ffffff", ratio, (brush) => {
    brush.fillRect(1, 1, 1.5, 1.5);
    brush.fillStyle = "#000000";
    brush.fillRect(4, 4, 1.5, 1.5);
  });
  const half = halfWidth(data.positions);
  const boxes = data.layers
    .filter((layer) => layer.verified)
    .flatMap((layer) => noisyRuns(layer, data, derived, layout, half));
  fillPattern(context, dots, boxes, ratio);
}

function drawAxes(context, data, layout, theme) {
  context.fillStyle = theme.muted;
  context.strokeStyle = theme.muted;
  context.lineWidth = 1;
  context.font = `11px ${theme.font}`;
  context.textBaseline = "middle";
  context.textAlign = "right";
  const step = Math.ceil(13 / layout.rowHeight);
  data.layers.forEach((layer, order) => {
    if (order % step) return;
    const y = layout.top + (order + 0.5) * layout.rowHeight;
    const label = fitted(context, shortLabel(layer.label), layout.left - 10);
    context.fillText(label, layout.left - 6, y);
  });
  context.textAlign = "left";
  context.fillText("layer", 4, layout.top - 10);
  context.textAlign = "center";
  const line = layout.bottom + 0.5;
  context.beginPath();
  context.moveTo(layout.left, line);
  context.lineTo(layout.right, line);
  context.stroke();
  for (const tick of layout.xOf.ticks(Math.max(2, Math.floor((layout.right - layout.left) / 70)))) {
    context.fillText(tickText(tick), layout.xOf(tick), layout.bottom + 10);
  }
  const middle = (layout.left + layout.right) / 2;
  context.fillText("position i: tokens before the split", middle, layout.bottom + 26);
}

export function fitted(context, words, width) {
  if (context.measureText(words).width <= width) return words;
  let length = words.length - 1;
  const cut = () => `${words.slice(0, length)}\u2026`;
  while (length > 1 && context.measureText(cut()).width > width) length -= 1;
  return cut();
}

export function drawHeatmap(canvas, { data, derived, colours, theme, layout, ratio }) {
  const [width, height] = [Math.round(layout.width * ratio), Math.round(layout.height * ratio)];
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  if (canvas.width === width && canvas.height === height) context.clearRect(0, 0, width, height);
  else [canvas.width, canvas.height] = [width, height];
  fillCells(context, data, derived, colours, layout, ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  hatchUnverified(context, data, theme, layout, ratio);
  dotNoise(context, data, derived, layout, ratio);
  drawAxes(context, data, layout, theme);
}

// The same drawing with its heading and its legend, on its own ground.
export function heatmapFile(parts, heading) {
  const { theme, layout, ratio } = parts;
  const cells = document.createElement("canvas");
  drawHeatmap(cells, parts);
  const [above, below] = [30, 44];
  const canvas = document.createElement("canvas");
  canvas.width = cells.width;
  canvas.height = cells.height + Math.round((above + below) * ratio);
  const context = canvas.getContext("2d");
  context.fillStyle = theme.surface;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(cells, 0, Math.round(above * ratio));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = theme.ink;
  context.font = `600 13px ${theme.font}`;
  context.textBaseline = "middle";
  context.fillText(fitted(context, heading, layout.width - 16), 8, above / 2 + 4);
  drawLegend(context, parts, above + layout.height + 6);
  return canvas;
}

function drawLegend(context, { data, derived, colours, theme, layout }, top) {
  const width = Math.min(240, layout.right - layout.left);
  SEQUENTIAL.forEach((colour, k) => {
    context.fillStyle = cssColour(colour);
    context.fillRect(
      layout.left + (k * width) / SEQUENTIAL.length,
      top,
      width / SEQUENTIAL.length + 1,
      10,
    );
  });
  context.fillStyle = theme.muted;
  context.font = `11px ${theme.font}`;
  context.textAlign = "center";
  for (const tick of colours.ticks(4)) {
    context.fillText(tickText(tick), layout.left + colours.share(tick) * width, top + 20);
  }
  context.textAlign = "left";
  const words = ["ESS per channel"];
  if (data.layers.some((layer) => !layer.verified)) words.push("hatched: not verified");
  if (derived.floor.below) words.push("dotted: below the rounding floor");
  context.fillText(words.join("; "), layout.left + width + 16, top + 6);
}
