// The panel of one layer: its heads, and where a position is chosen the spectrum of that block.

import { element, shape } from "./dom.js";
import { svgAsPng, svgBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { createHeads } from "./heads.js";
import { countAbove } from "./measures.js";
import { spectrumFloor, spectrumPlot } from "./spectrum.js";
import { decimal, exponential, toleranceText } from "./format.js";
import { visibleToken } from "./words.js";

const HEIGHT = 250;
const REMEMBERED = 32;

function createReader(fetchCell) {
  const known = new Map();
  return (key, layer, position) => {
    const name = `${key}/${layer}/${position}`;
    if (!known.has(name)) {
      const promise = Promise.resolve(fetchCell(layer, position, key));
      promise.catch(() => known.delete(name)); // asked again next time
      known.set(name, promise);
      if (known.size > REMEMBERED) known.delete(known.keys().next().value);
    }
    return known.get(name);
  };
}

export function createBlock(env, options = {}) {
  const read = env.callbacks.cell ? createReader(env.callbacks.cell) : null;
  const message = element("p", { class: "hfess-message", role: "status" });
  const stage = element("div", { class: "hfess-stage hfess-spectrum", role: "img", tabindex: "0" });
  const heads = createHeads(togglePick);
  const figure = createFigure({
    name: options.name ?? "block",
    title: "A layer\u2019s heads and spectrum",
    formats: {
      SVG: () => svgBlob(drawing(), env.theme()),
      PNG: () => svgAsPng(drawing(), env.theme()),
    },
    file: () => ({
      columns: ["head", "rank", "singular value"].map((label) => ({ label })),
      rows: (groups ?? []).flatMap((group) =>
        Array.from(group.values, (value, k) => [String(group.group), String(k + 1), String(value)]),
      ),
    }),
    download: env.download,
  });
  figure.body.classList.add("hfess-block");
  figure.body.append(
    heads.element,
    element("div", { class: "hfess-spectrum-box" }, message, stage),
  );
  let model = null;
  let groups = null; // of the block that is shown, null until it came
  let asked = "";
  let plot = null;
  const side = options.title ?? "";
  let picked = [];

  const drawing = () => plot?.drawing ?? shape("svg");

  function togglePick(group) {
    picked = picked.includes(group) ? picked.filter((each) => each !== group) : [...picked, group];
    draw();
  }

  function update(next) {
    model = next;
    const { state, data } = model;
    const layer = data.layers[state.layer];
    figure.element.hidden = !layer;
    if (!layer) return;
    const name = `${data.key}/${state.layer}/${state.position}`;
    if (name !== asked) {
      if (asked.split("/")[1] !== String(state.layer)) picked = [];
      asked = name;
      groups = null;
      request(layer, name);
    }
    draw();
  }

  async function request(layer, name) {
    const reason = whyNot(layer);
    message.textContent = reason || "Reading the spectrum\u2026";
    if (reason) return;
    try {
      const cell = await read(model.data.key, model.state.layer, model.state.position);
      if (name !== asked) return;
      groups = cell.groups;
      message.textContent = "";
    } catch (error) {
      if (name !== asked) return;
      const again = element(
        "button",
        { type: "button", class: "hfess-button", onclick: () => request(layer, name) },
        "Try again",
      );
      message.replaceChildren(`The spectrum could not be read: ${error?.message ?? error} `, again);
    }
    draw();
  }

  function whyNot(layer) {
    const { data, state } = model;
    if (!layer.verified) return `Not verified, so that nothing of it is shown: ${layer.reason}`;
    if (state.position === null) {
      return "Choose a position, in the heat map or in the text, to see the spectrum there.";
    }
    if (!data.indexOf.has(state.position)) return `Position ${state.position} was not measured.`;
    if (!data.spectra || !read) {
      return "This report was kept without spectra. Measure again to see them.";
    }
    return "";
  }

  function rows() {
    const layer = model.data.layers[model.state.layer];
    if (!layer.verified) return [];
    if (!groups) {
      return Array.from(layer.groupEntropy, (entropy, group) => ({ group, entropy, count: null }));
    }
    const { tolerance } = model.derived;
    return groups.map((group) => ({
      group: group.group,
      entropy: group.entropy,
      count:
        tolerance === undefined
          ? null
          : countAbove(group.values, tolerance, model.data.relative),
    }));
  }

  function title() {
    const { data, state } = model;
    const layer = data.layers[state.layer];
    if (state.position === null) return `Layer ${layer.label}: heads`;
    const token = data.samples === 1 ? data.tokens?.[state.position] : undefined;
    const before = token === undefined ? "" : `, before \u201c${visibleToken(token)}\u201d`;
    return `Layer ${layer.label}, position ${state.position}${before}`;
  }

  function draw() {
    const layer = model.data.layers[model.state.layer];
    if (!layer) return;
    figure.setTitle(side + title());
    const verdict = layer.verdict ? ` ${layer.verdict}` : "";
    figure.setNote(
      `${layer.name}: ${layer.mixer}.${verdict} Pick heads to tell their lines apart.`,
    );
    heads.update({
      heads: rows(),
      picked,
      metric: model.state.metric,
      words: groups ? "entropy-ESS" : "entropy-ESS, mean",
    });
    stage.hidden = !groups;
    if (groups) drawSpectrum();
  }

  function drawSpectrum() {
    const width = env.widthOf(stage) || env.widthOf(figure.body);
    if (!width || !groups.length) return;
    plot = spectrumPlot({
      groups,
      picked,
      tolerance: model.derived.tolerance ?? model.data.tolerances[0] ?? 1e-3,
      relative: model.data.relative,
      width,
      height: HEIGHT,
      theme: env.theme(),
      title: `${model.data.title}: ${title()}`,
    });
    stage.replaceChildren(plot.drawing);
    stage.setAttribute("aria-label", description());
  }

  function description() {
    const largest = Math.max(...groups.map((group) => group.values[0] ?? 0));
    const counts = rows().map((row) => `head ${row.group}: ${row.count}`);
    return (
      `Singular values of ${groups.length} heads, the largest ${exponential(largest, 2)}, ` +
      `rounding floor ${exponential(spectrumFloor(groups, picked), 2)}. ` +
      `Above the tolerance ${toleranceText(model.derived.tolerance)}: ` +
      `${counts.slice(0, 24).join(", ")}. Average entropy-ESS ${decimal(
        groups.reduce((sum, group) => sum + group.entropy, 0) / groups.length,
      )}.`
    );
  }

  return { element: figure.element, update, point() {} };
}
