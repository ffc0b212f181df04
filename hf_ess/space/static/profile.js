// The profile on the page: pointer, keyboard, numbers.

import { element } from "./dom.js";
import { svgAsPng, svgBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { cell, decimal, percent } from "./format.js";
import { rowHeight } from "./heatmap_draw.js";
import { drawProfile, profileLayout } from "./profile_draw.js";
import { capitalized, readingName } from "./words.js";

const COLUMNS = [
  "layer", "mixer", "heads", "state size", "ESS", "total", "attainable", "capacity", "utilization",
  "verdict",
];

function sizeText(layer) {
  return layer.stateSize === null ? "grows" : decimal(layer.stateSize);
}

function lines(row, model) {
  const { layer } = row;
  if (!layer.verified) return [["not verified", ""], [layer.reason, ""]];
  const verdict = layer.verdict ? [[layer.verdict, ""]] : [];
  return [
    [`${readingName(model)} per channel`, decimal(row.ess)],
    ["lowest to highest position", `${decimal(row.low)} to ${decimal(row.high)}`],
    ["total over channels", decimal(row.ess * layer.channels)],
    ["attainable", decimal(row.attainable)],
    ["capacity", decimal(row.capacity)],
    ["utilization", percent(row.utilization)],
    ["state size", sizeText(layer)],
    ...verdict,
  ];
}

export function createProfile(env) {
  const stage = element("div", {
    class: "hfess-stage", tabindex: "0", role: "application",
    "aria-roledescription": "profile of layers",
  });
  const band = element("div", { class: "hfess-row-mark", hidden: true });
  const figure = createFigure({
    name: "profile",
    title: "Layers",
    formats: {
      SVG: () => svgBlob(drawing, env.theme()),
      PNG: () => svgAsPng(drawing, env.theme()),
    },
    numbers: () => ({
      caption: `${capitalized(readingName(model))} per channel, mean over positions`,
      columns: COLUMNS.map((label, k) => ({ label, numeric: k >= 2 && k <= 8 })),
      rows: model.derived.profile.map((row) => [
        row.layer.label,
        row.layer.mixer,
        String(row.layer.groups),
        sizeText(row.layer),
        cell(row.ess),
        cell(row.ess * row.layer.channels),
        cell(row.attainable),
        cell(row.capacity),
        cell(row.utilization, percent),
        row.layer.verified ? row.layer.verdict : "not verified",
      ]),
    }),
    download: env.download,
  });
  figure.body.append(stage);
  let model = null;
  let layout = null;
  let drawing = null;
  let cursor = { order: null };

  function update(next) {
    model = next;
    const width = env.widthOf(figure.body);
    if (!width) return;
    const { profile } = model.derived;
    layout = profileLayout(profile, width, rowHeight(profile.length), model.state.scale);
    const title = `${model.data.title}: ${readingName(model)} by layer`;
    drawing = drawProfile(
      { profile, layout, theme: env.theme(), selected: model.state.layer, title },
    );
    stage.replaceChildren(drawing, band);
    figure.setNote("Mean over positions. Click a layer to see its heads.");
    stage.setAttribute("aria-label", description(profile));
    point(cursor);
    figure.refresh();
  }

  function description(profile) {
    const known = profile.filter((row) => !Number.isNaN(row.ess)).sort((a, b) => b.ess - a.ess);
    if (!known.length) return "Profile of layers: none is verified.";
    const [most, least] = [known[0], known[known.length - 1]];
    return (
      `${capitalized(readingName(model))} by layer: ` +
      `highest in layer ${most.layer.label} with ${decimal(most.ess)}, ` +
      `lowest in layer ${least.layer.label} with ${decimal(least.ess)}. ` +
      "Up and down arrows move, Enter selects."
    );
  }

  function point(next) {
    cursor = next;
    if (!layout) return;
    band.hidden = cursor.order === null;
    band.style.top = `${layout.top + (cursor.order ?? 0) * layout.rowHeight}px`;
    band.style.height = `${layout.rowHeight}px`;
  }

  function at(event) {
    const y = event.clientY - stage.getBoundingClientRect().top - layout.top;
    const order = Math.floor(y / layout.rowHeight);
    return order >= 0 && order < model.data.layers.length ? order : null;
  }
  function leave() {
    env.tip.hide();
    env.hover({ p: null, order: null });
  }
  stage.addEventListener("pointermove", (event) => {
    const order = layout ? at(event) : null;
    if (order === null) return leave();
    env.hover({ p: null, order });
    const row = model.derived.profile[order];
    env.tip.show(event, `Layer ${row.layer.label}: ${row.layer.mixer}`, lines(row, model));
    return undefined;
  });
  stage.addEventListener("pointerleave", leave);
  stage.addEventListener("click", (event) => {
    const order = layout ? at(event) : null;
    if (order !== null) env.pick({ layer: order });
  });
  stage.addEventListener("keydown", (event) => {
    if (!model?.data.layers.length) return;
    const from = cursor.order ?? model.state.layer ?? 0;
    const last = model.data.layers.length - 1;
    const to = { ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: last }[event.key];
    if (event.key === "Enter" || event.key === " ") env.pick({ layer: from });
    else if (to !== undefined) env.hover(
      { p: cursor.p ?? null, order: Math.min(last, Math.max(0, to)) },
    );
    else return;
    event.preventDefault();
  });

  return { element: figure.element, update, point };
}
