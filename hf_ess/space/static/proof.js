// Why the numbers can be trusted: the residual of every layer against its bound.

import { element } from "./dom.js";
import { createFigure } from "./figure.js";
import { cell, count, exponential, percent } from "./format.js";

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

export function createProof(env, options = {}) {
  const summary = element("p", { class: "hfess-lead" });
  const unsupported = element("ul", { class: "hfess-words" });
  const notes = element("ul", { class: "hfess-words" });
  const figure = createFigure({
    name: options.name ?? "proof",
    title: options.title ?? "The proof",
    numbers: () => numbers(shown),
    download: env.download,
  });
  figure.body.append(summary, unsupported, notes);
  let shown = null;

  function update({ data }) {
    if (shown === data) return;
    shown = data;
    const { verified, layers, largestResidual } = data.proof;
    figure.setNote(
      "Every operator was applied to the input that the layer really had. The residual is the " +
        "largest difference from the layer\u2019s real output, relative to the largest output.",
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
