// Two models by relative depth: ESS per channel and utilization of every layer.

import { element } from "./dom.js";
import { svgAsPng, svgBlob } from "./export.js";
import { createFigure } from "./figure.js";
import { cell, decimal, percent } from "./format.js";
import { linePlot } from "./lineplot.js";
import { range } from "./measures.js";
import { SIDES, depthOf } from "./pairing.js";
import { roundUp } from "./scales.js";
import { capitalized, readingName } from "./words.js";

const ROOM_FOR_TITLES = 560; // pixels
const LONGEST = 24; // letters of a title beside a line
const STYLES = [
  { marker: "circle", dash: null },
  { marker: "square", dash: "5 3" },
];

function keyOf(data, side, width) {
  return width < ROOM_FOR_TITLES ? SIDES[side] : `${SIDES[side]}: ${data.title.slice(0, LONGEST)}`;
}

export function sideColour(theme, side) {
  return side === 0 ? theme.data : theme.second;
}

export function createDepth(env) {
  const stage = element("div", {
    class: "hfess-stage", tabindex: "0", role: "application", "aria-roledescription": "curve",
  });
  const line = element("div", { class: "hfess-cursor-line", hidden: true });
  const figure = createFigure({
    name: "depth",
    title: "By relative depth",
    formats: {
      SVG: () => svgBlob(plot.drawing, env.theme()),
      PNG: () => svgAsPng(plot.drawing, env.theme()),
    },
    numbers: () => ({
      caption: `${capitalized(readingName(models[0]))} by relative depth`,
      columns: [
        "report",
        "layer",
        "depth",
        "ESS per channel",
        "utilization",
      ].map((label, k) => ({ label, numeric: k > 1 })),
      rows: models.flatMap(({ data, derived }, side) =>
        derived.profile.map((row, order) => [
          SIDES[side],
          data.layers[order].label,
          cell(depthOf(order, data.layers.length), percent),
          cell(row.ess),
          cell(row.utilization, percent),
        ]),
      ),
    }),
    download: env.download,
  });
  figure.body.append(stage);
  let models = null;
  let plot = null;

  function series(take) {
    return models.map(({ data, derived }, side) => ({
      ...STYLES[side],
      xs: data.layers.map((_, order) => depthOf(order, data.layers.length)),
      ys: derived.profile.map(take),
      colour: sideColour(env.theme(), side),
      name: SIDES[side],
      label: keyOf(data, side, env.widthOf(figure.body)),
    }));
  }

  function panel(label, take, height, kind, format) {
    const drawn = series(take);
    const [, high] = range(drawn.flatMap(({ ys }) => ys));
    return { height, kind, low: 0, high: roundUp(high || 1), label, format, series: drawn };
  }

  function update(next) {
    models = next;
    const width = env.widthOf(figure.body);
    if (!width) return;
    plot = linePlot({
      width,
      theme: env.theme(),
      title: `${models.map(({ data }) => data.title).join(" and ")} by relative depth`,
      x: { low: -0.02, high: 1.02, label: "relative depth: 0 the first layer, 1 the last" },
      panels: [
        panel("ESS per channel", (row) => row.ess, 150, models[0].state.scale),
        panel(
          "utilization",
          (row) => row.utilization,
          80,
          "linear",
          (share) => `${Number((100 * share).toPrecision(3))}%`,
        ),
      ],
    });
    stage.replaceChildren(plot.drawing, line);
    figure.setNote("Mean over positions. A: circles, full line. B: squares, dashed line.");
    stage.setAttribute("aria-label", description());
    figure.refresh();
  }

  function description() {
    const each = models.map(({ derived }, side) => {
      const [low, high] = range(derived.profile.map((row) => row.ess));
      const average = decimal(derived.average);
      return `${SIDES[side]} from ${decimal(low)} to ${decimal(high)}, average ${average}`;
    });
    const name = capitalized(readingName(models[0]));
    return `${name} per channel by relative depth: ${each.join("; ")}.`;
  }

  function point(cursor) {
    if (!plot) return;
    const side = cursor.side ?? 0;
    line.hidden = cursor.order === null;
    if (line.hidden) return;
    const x = plot.xOf(depthOf(cursor.order, models[side].data.layers.length));
    line.style.transform = `translateX(${x}px)`;
    line.style.top = `${plot.box.top}px`;
    line.style.height = `${plot.box.bottom - plot.box.top}px`;
  }

  function orderAt(event) {
    const depth = plot.xOf.invert(event.clientX - stage.getBoundingClientRect().left);
    const last = models[0].data.layers.length - 1;
    return Math.min(last, Math.max(0, Math.round(depth * last)));
  }
  stage.addEventListener("pointermove", (event) => {
    if (!plot || !models[0].data.layers.length) return;
    const order = orderAt(event);
    env.hover({ p: null, order });
    const depth = depthOf(order, models[0].data.layers.length);
    const lines = models.flatMap(({ data, derived }, side) => {
      const row = derived.profile[Math.round(depth * (data.layers.length - 1))];
      return [
        [`${SIDES[side]}, layer ${row.layer.label}`, decimal(row.ess)],
        [`${SIDES[side]}, utilization`, percent(row.utilization)],
      ];
    });
    env.tip.show(event, `Depth ${percent(depth)}`, lines);
  });
  stage.addEventListener("pointerleave", () => {
    env.tip.hide();
    env.hover({ p: null, order: null });
  });
  stage.addEventListener("click", (event) => {
    if (plot && models[0].data.layers.length) env.pick({ layer: orderAt(event) });
  });
  stage.addEventListener("keydown", (event) => {
    if (!models?.[0].data.layers.length) return;
    const last = models[0].data.layers.length - 1;
    const from = env.cursor.get().order ?? 0;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (event.key === "Enter") env.pick({ layer: from });
    else if (to !== undefined) env.hover({ p: null, order: Math.min(last, Math.max(0, to)) });
    else return;
    event.preventDefault();
  });

  return { element: figure.element, update, point };
}
