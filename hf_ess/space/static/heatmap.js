// The heat map on the page: pointer, keyboard, selection, files.

import { element } from "./dom.js";
import { canvasBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { cell, decimal, percent } from "./format.js";
import { drawHeatmap, heatmapFile, heatmapLayout } from "./heatmap_draw.js";
import { createLegend } from "./legend.js";
import { mean } from "./measures.js";
import { SEQUENTIAL, cssColour, level } from "./palette.js";
import { nearestPosition } from "./positions.js";
import { blockLines, readingName } from "./words.js";

const SLACK = 4; // pixels beside the cells that still count
const NOTE =
  "Average per channel. Click a cell, or press Enter on it, for its heads and its spectrum.";

export function createHeatmap(env, options = {}) {
  const canvas = element("canvas", { class: "hfess-canvas" });
  const line = element("div", { class: "hfess-cursor-line", hidden: true });
  const hovered = element("div", { class: "hfess-cell-mark", hidden: true });
  const chosen = element("div", { class: "hfess-cell-mark hfess-cell-chosen", hidden: true });
  const stage = element(
    "div",
    {
      class: "hfess-stage",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "heat map",
    },
    canvas, line, hovered, chosen,
  );
  const legend = createLegend();
  const figure = createFigure({
    name: options.name ?? "heatmap",
    title: options.title ?? "Layers by positions",
    formats: { PNG: () => canvasBlob(heatmapFile(parts(2), figureHeading())) },
    numbers: summaryTable,
    file: everyCell,
    download: env.download,
  });
  figure.body.append(stage, legend.element);
  let model = null;
  let layout = null;
  let cursor = { p: null, order: null };

  function parts(ratio) {
    return {
      data: model.data,
      derived: model.derived,
      colours: model.colours,
      theme: env.theme(),
      layout,
      ratio,
    };
  }

  function figureHeading() {
    return `${model.data.title}: ${readingName(model)}, layers by positions`;
  }

  function update(next) {
    model = next;
    const width = env.widthOf(figure.body);
    if (!width) return;
    layout = heatmapLayout(model.data, width, options.rowHeight?.());
    drawHeatmap(canvas, parts(window.devicePixelRatio || 1));
    canvas.style.width = `${layout.width}px`;
    canvas.style.height = `${layout.height}px`;
    figure.setNote(note());
    stage.setAttribute("aria-label", description());
    legend.update({
      words: `${readingName(model)} per channel`,
      css: (share) => cssColour(SEQUENTIAL[level(share)]),
      ticks: model.colours.ticks(5),
      position: model.colours.share,
      notes: keys(),
    });
    markChosen();
    point(cursor);
    figure.refresh();
  }

  function keys() {
    const result = [];
    if (model.data.layers.some((layer) => !layer.verified)) result.push(["hatch", "not verified"]);
    if (model.derived.floor.below) result.push(["dots", "below the rounding floor"]);
    if (!contiguous(model.data.positions)) result.push(["gap", "gaps: not measured"]);
    return result;
  }

  function note() {
    return options.note ?? NOTE;
  }

  function description() {
    const values = model.derived.profile.map((row) => row.ess);
    return (
      `${figureHeading()}. ` +
      `${model.data.layers.length} layers, ${model.data.positions.length} positions, ` +
      `average ${decimal(mean(values))} per channel, highest ${decimal(model.derived.highest)}. ` +
      "Arrow keys move, Enter opens the block."
    );
  }

  function box(order, p) {
    const x = layout.xOf(model.data.positions[p]);
    const half = Math.max(2, (layout.xOf(1.5) - layout.xOf(0.5)) / 2);
    return {
      left: x - half,
      top: layout.top + order * layout.rowHeight,
      width: 2 * half,
      height: layout.rowHeight,
    };
  }

  function mark(node, order, p) {
    const exists = order !== null && p !== null && order < model.data.layers.length;
    node.hidden = !exists;
    if (!exists) return;
    for (const [side, length] of Object.entries(box(order, p))) node.style[side] = `${length}px`;
  }

  function markChosen() {
    const p = model.data.indexOf.get(model.state.position) ?? null;
    mark(chosen, model.state.layer, p);
  }

  function point(next) {
    cursor = next;
    if (!layout) return;
    line.hidden = cursor.p === null;
    if (cursor.p !== null) {
      line.style.transform = `translateX(${layout.xOf(model.data.positions[cursor.p])}px)`;
      line.style.top = `${layout.top}px`;
      line.style.height = `${layout.bottom - layout.top}px`;
    }
    mark(hovered, cursor.order, cursor.p);
  }

  function at(event) {
    if (!model.data.positions.length) return null;
    const frame = stage.getBoundingClientRect();
    const order = Math.floor((event.clientY - frame.top - layout.top) / layout.rowHeight);
    const x = event.clientX - frame.left;
    const inside = x > layout.left - SLACK && x < layout.right + SLACK;
    if (order < 0 || order >= model.data.layers.length || !inside) return null;
    return { order, p: nearestPosition(model.data.positions, layout.xOf.invert(x)) };
  }

  stage.addEventListener("pointermove", (event) => {
    const place = model && layout ? at(event) : null;
    if (!place) return leave();
    env.hover(place, options.side);
    env.tip.show(event, ...blockLines(model, place));
    return undefined;
  });
  function leave() {
    env.tip.hide();
    env.hover({ p: null, order: null }, options.side);
  }
  stage.addEventListener("pointerleave", leave);
  stage.addEventListener("click", (event) => {
    const place = model && layout ? at(event) : null;
    if (place) pick(place);
  });
  function pick({ order, p }) {
    env.pick({ layer: order, position: model.data.positions[p] }, options.side);
  }

  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  stage.addEventListener("keydown", (event) => {
    if (!model || !model.data.positions.length || !model.data.layers.length) return;
    const from = { order: cursor.order ?? model.state.layer ?? 0, p: cursor.p ?? 0 };
    const last = { order: model.data.layers.length - 1, p: model.data.positions.length - 1 };
    if (event.key === "Enter" || event.key === " ") pick(from);
    else if (event.key === "Home") env.hover({ ...from, p: 0 }, options.side);
    else if (event.key === "End") env.hover({ ...from, p: last.p }, options.side);
    else if (moves[event.key]) {
      const [down, right] = moves[event.key];
      const order = Math.min(last.order, Math.max(0, from.order + down));
      const p = Math.min(last.p, Math.max(0, from.p + right));
      env.hover({ order, p }, options.side);
    } else return;
    event.preventDefault();
  });

  function summaryTable() {
    const columns = [
      "layer",
      "mean",
      "lowest",
      "at position",
      "highest",
      "at position",
      "utilization",
    ];
    const rows = model.data.layers.map((layer, order) => {
      const row = model.derived.rows[order];
      const { ess, low, high, utilization } = model.derived.profile[order];
      if (!row) return [layer.label, "not verified", "", "", "", "", ""];
      const place = (value) => String(model.data.positions[row.indexOf(value)] ?? "");
      return [
        layer.label,
        cell(ess),
        cell(low),
        place(low),
        cell(high),
        place(high),
        cell(utilization, percent),
      ];
    });
    return {
      caption: figureHeading(),
      columns: columns.map((label, k) => ({ label, numeric: k > 0 })),
      rows,
    };
  }

  function everyCell() {
    const columns = ["layer", ...model.data.positions].map((label) => ({ label: String(label) }));
    const numbers = (row) => Array.from(row, (value) => (Number.isNaN(value) ? "" : String(value)));
    const rows = model.data.layers.map((layer, order) => {
      const row = model.derived.rows[order];
      return [layer.label, ...(row ? numbers(row) : model.data.positions.map(() => ""))];
    });
    return { columns, rows };
  }

  return { element: figure.element, update, point };
}

function contiguous(positions) {
  return positions.every((position, p) => p === 0 || position - positions[p - 1] === 1);
}
