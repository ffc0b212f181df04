// Why the numbers can be trusted: the residual of every layer against its bound.

import { element } from "./dom.js";
import { svgAsPng, svgBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { cell, count, exponential, percent, powerText } from "./format.js";
import { linePlot } from "./lineplot.js";
import { shortLabel } from "./words.js";

const LOWEST = 1e-12; // left end of the bars
const HIGHEST = 1e1;

function share(value) {
  const span = Math.log10(HIGHEST / LOWEST);
  return Math.min(1, Math.max(0.01, Math.log10(Math.max(value, LOWEST) / LOWEST) / span));
}

// The bar ends at the residual, the tick stands at the bound, on one logarithmic axis.
function residualBar(layer) {
  const bar = element("div", { class: "hfess-bar" });
  if (layer.residual !== null) bar.style.width = `${100 * share(layer.residual)}%`;
  if (!layer.verified) bar.classList.add("hfess-bar-bad");
  const bound = element("div", { class: "hfess-bound" });
  bound.style.left = `${100 * share(layer.residualBound)}%`;
  const [residual, limit] = [layer.residual, layer.residualBound].map((size) => exponential(size));
  const words = `residual ${residual}, bound ${limit}`;
  return element("div", { class: "hfess-bar-box", role: "img", "aria-label": words }, bar, bound);
}

function numbers(data) {
  const columns = [
    { label: "layer" },
    { label: "module" },
    { label: "mixer" },
    { label: "verified" },
    { label: "residual", numeric: true },
    { label: "bound", numeric: true },
    { label: `${exponential(LOWEST, 0)} \u2026 ${HIGHEST}` },
    { label: "certified to", numeric: true },
    { label: "method" },
  ];
  const rows = data.layers.map((layer) => [
    layer.label,
    layer.name,
    layer.mixer,
    layer.verified ? "yes" : `NO: ${layer.reason}`,
    cell(layer.residual, exponential),
    cell(layer.residualBound, exponential),
    { node: residualBar(layer), value: "" },
    cell(layer.halfWidth, (width) => (width === 0 ? "exact" : `\u00b1${percent(width)}`)),
    layer.method,
  ]);
  return { columns, rows };
}

function drawResiduals(data, width, theme) {
  const places = data.layers.map((_, order) => order);
  const known = data.layers.flatMap((layer) => [layer.residual, layer.residualBound]);
  const sizes = known.filter((size) => size > 0);
  const power = (value, round) => 10 ** round(Math.log10(value));
  const low = Math.max(LOWEST, power(Math.min(HIGHEST, ...sizes) / 1.5, Math.floor));
  const high = Math.max(low * 10, power(Math.max(low, ...sizes) * 1.5, Math.ceil));
  const mixed = data.layers.some((layer) => !layer.verified);
  const marks = (verified, name, colour, marker) => ({
    xs: places, name, label: mixed ? name : null, colour, marker, bare: true, markerSize: 2.6,
    ys: data.layers.map(({ verified: its, residual }) =>
      its === verified && residual !== null ? Math.max(low, residual) : NaN,
    ),
  });
  const bound = { xs: places, ys: data.layers.map((layer) => layer.residualBound), name: "bound" };
  return linePlot({
    width,
    theme,
    title: `${data.title}: residual of every layer`,
    x: {
      low: -0.5,
      high: Math.max(0.5, data.layers.length - 0.5),
      label: "layer",
      ticks: (most) => places.filter((order) => order % Math.ceil(places.length / most) === 0),
      format: (order) => shortLabel(data.layers[order].label),
    },
    panels: [
      {
        height: 110, kind: "decades", low, high, label: "residual", format: powerText,
        series: [
          { ...bound, colour: theme.ink, dash: "5 3", width: 1 },
          marks(true, "verified", theme.data, "circle"),
          marks(false, "not verified", theme.warn, "square"),
        ],
      },
    ],
  });
}

export function createProof(env, options = {}) {
  const stage = element("div", { class: "hfess-stage", role: "img", tabindex: "0" });
  const summary = element("p", { class: "hfess-lead" });
  const unsupported = element("ul", { class: "hfess-words" });
  const notes = element("ul", { class: "hfess-words" });
  const figure = createFigure({
    name: options.name ?? "proof",
    title: options.title ?? "The proof",
    formats: {
      SVG: () => svgBlob(plot.drawing, env.theme()),
      PNG: () => svgAsPng(plot.drawing, env.theme()),
    },
    numbers: () => numbers(shown),
    download: env.download,
  });
  figure.body.append(summary, stage, unsupported, notes);
  let shown = null;
  let plot = null;

  function draw(data) {
    const width = env.widthOf(figure.body);
    stage.hidden = !data.layers.length;
    if (!width) return;
    plot = drawResiduals(data, width, env.theme());
    stage.replaceChildren(plot.drawing);
    const words = `${summary.textContent} Dashed line: the bound of each layer.`;
    stage.setAttribute("aria-label", words);
  }

  function update({ data }) {
    if (shown !== data) write(data);
    draw(data);
  }

  function write(data) {
    shown = data;
    const { verified, layers, largestResidual } = data.proof;
    figure.setNote(
      "Every operator was applied to the input that the layer really had. The residual is the " +
        "largest difference from the layer\u2019s real output, relative to the largest output. " +
        "It has to stay below the dashed line.",
    );
    const largest = exponential(largestResidual);
    summary.textContent =
      `${verified} of ${count(layers, "layer")} verified` +
      (largestResidual === null ? "." : `; the largest residual is ${largest}.`);
    unsupported.replaceChildren(
      ...data.unsupported.map(
        (each) => element("li", {}, `Not measured: ${each.name} (${each.mixer}): ${each.reason}`),
      ),
      ...data.layers.filter((layer) => !layer.verified).map(
        (layer) => element("li", {}, `Not verified: ${layer.name}: ${layer.reason}`),
      ),
    );
    notes.replaceChildren(...data.notes.map((note) => element("li", {}, note)));
    unsupported.hidden = !unsupported.childElementCount;
    notes.hidden = !data.notes.length;
    figure.refresh();
  }

  return { element: figure.element, update, point() {} };
}
