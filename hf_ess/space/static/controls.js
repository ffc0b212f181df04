// The switches and the slider, and one line that reads out what the cursor is on.

import { choice, element, shape } from "./dom.js";
import { count, decimal, percent, toleranceText } from "./format.js";
import { totalsByThreshold } from "./measures.js";
import { nearestThreshold } from "./state.js";
import { blockLines, positionLines } from "./words.js";

const THUMB = 16; // px, as in style.css: the slider's ends lie half a thumb inside
const CURVE_HEIGHT = 30;
const NOTHING_READ =
  "Point at the text or a plot, or move with the arrow keys, to read values here.";

function createSlider(env) {
  const input = element("input", { type: "range", class: "hfess-slider", min: 0, max: 0, step: 1 });
  input.setAttribute("aria-label", "Tolerance");
  const value = element("output", { class: "hfess-tolerance" });
  const curve = shape(
    "svg",
    { class: "hfess-slider-curve", "aria-hidden": "true", preserveAspectRatio: "none" },
  );
  const scale = element("div", { class: "hfess-slider-scale", "aria-hidden": "true" });
  const warning = element("p", { class: "hfess-warning", role: "status" });
  let thresholds = [];
  let shownData = null;
  let means = [];
  input.addEventListener("input", () => {
    // To the right tolerances grow; the grid itself descends.
    const index = thresholds.length - 1 - Number(input.value);
    env.change({ threshold: thresholds[index], metric: "tolerance" });
  });

  const place = (k) => (
    thresholds.length > 1 ? (thresholds.length - 1 - k) / (thresholds.length - 1) : 0.5
  );

  function build(data) {
    shownData = data;
    thresholds = data.thresholds;
    means = totalsByThreshold(data);
    input.max = Math.max(0, thresholds.length - 1);
    const labels = thresholds.flatMap((threshold, k) => {
      const decade = Math.log10(threshold);
      if (thresholds.length > 12 && Math.abs(decade - Math.round(decade)) > 1e-6) return [];
      const span = element("span", {}, toleranceText(threshold));
      span.style.left = `${100 * place(k)}%`;
      return [span];
    });
    scale.replaceChildren(...labels);
  }

  // Behind the slider: the mean total at every tolerance, and where rounding noise begins.
  function drawCurve(data, theme) {
    if (!thresholds.length) return curve.replaceChildren();
    const most = Math.max(1e-9, ...means.filter((mean) => !Number.isNaN(mean)));
    const heightOf = (mean) => (CURVE_HEIGHT * (1 - (mean || 0) / most)).toFixed(2);
    const points = means.map((mean, k) => `${(100 * place(k)).toFixed(2)} ${heightOf(mean)}`);
    const floor = Math.max(
      0,
      ...data.layers.flatMap((layer) => Array.from(layer.floor)).filter((bound) => bound > 0),
    );
    const first = thresholds.findIndex((threshold) => threshold <= floor);
    curve.setAttribute("viewBox", `0 0 100 ${CURVE_HEIGHT}`);
    curve.replaceChildren(
      shape(
        "path",
        {
          d: `M0 ${CURVE_HEIGHT}L${[...points].reverse().join("L")}L100 ${CURVE_HEIGHT}Z`,
          fill: theme.data,
          opacity: 0.16,
        },
      ),
      shape(
        "path",
        {
          d: `M${points.join("L")}`,
          fill: "none",
          stroke: theme.data,
          "stroke-width": 1.2,
          "vector-effect": "non-scaling-stroke",
        },
      ),
    );
    if (first >= 0) {
      curve.prepend(
        shape(
          "rect",
          {
            x: 0,
            y: 0,
            width: 100 * place(first),
            height: CURVE_HEIGHT,
            fill: theme.warn,
            opacity: 0.14,
            "data-shade": "floor",
          },
        ),
      );
    }
    return undefined;
  }

  function update(model) {
    if (model.data !== shownData) build(model.data);
    drawCurve(model.data, env.theme());
    const index = model.derived.reading.threshold;
    input.value = String(thresholds.length - 1 - index);
    input.disabled = thresholds.length === 0;
    const text = toleranceText(thresholds[index]);
    value.textContent = text;
    input.setAttribute("aria-valuetext", `tolerance ${text}, mean total ${decimal(means[index])}`);
    const { below, blocks } = model.derived.floor;
    warning.hidden = below === 0;
    warning.textContent = below
      ? `* At or below the rounding floor in ${count(below, "block")} of ${blocks} ` +
        `(${percent(below / blocks)}): those counts are noise. Use a larger tolerance.`
      : "";
    box.classList.toggle("hfess-idle", model.state.metric === "entropy");
  }

  const track = element("div", { class: "hfess-slider-track" }, curve, input, scale);
  track.style.setProperty("--hfess-thumb", `${THUMB}px`);
  const label = element("div", { class: "hfess-choice-legend" }, "Tolerance ", value);
  const box = element("div", { class: "hfess-slider-box" }, label, track);
  return { element: box, warning, update };
}

export function createControls(env) {
  const switchOf = (label, name, options) =>
    choice(label, `${env.id}-${name}`, options, (value) => env.change({ [name]: value }));
  const metric = switchOf("Metric", "metric", [["entropy", "Entropy"], ["tolerance", "Tolerance"]]);
  const scale = switchOf("Scale", "scale", [["linear", "Linear"], ["log", "Log"]]);
  const slider = createSlider(env);
  const reading = element("p", { class: "hfess-reading", role: "status", "aria-live": "polite" });
  const bar = element(
    "div",
    { class: "hfess-controls", role: "group", "aria-label": "What is shown" },
    metric.element, slider.element, scale.element, slider.warning, reading,
  );
  let model = null;

  function update(next) {
    model = next;
    metric.set(model.state.metric);
    metric.enable("tolerance", model.data.thresholds.length > 0);
    scale.set(model.state.scale);
    slider.update(model);
  }

  function written([title, lines]) {
    const parts = lines.map(([label, text]) =>
      element("span", { class: "hfess-reading-part" }, label, text ? element("b", {}, text) : null),
    );
    reading.replaceChildren(element("span", { class: "hfess-reading-title" }, title), ...parts);
  }

  function point({ p, order }) {
    if (!model) return;
    if (p !== null && order !== null) written(blockLines(model, { p, order }));
    else if (p !== null) written(positionLines(model, p));
    else if (order !== null) {
      const row = model.derived.profile[order];
      const lines = [["mean", decimal(row.ess)], ["utilization", percent(row.utilization)]];
      written([`Layer ${row.layer.label}`, lines]);
    } else reading.textContent = NOTHING_READ;
  }

  return { element: bar, update, point };
}

export function readingOf(data, state) {
  const usable = data.thresholds.length > 0;
  return {
    metric: usable ? state.metric : "entropy",
    threshold: usable ? nearestThreshold(data.thresholds, state.threshold) : 0,
  };
}
