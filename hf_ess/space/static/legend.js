// A bar of colours with numbers under it.

import { element } from "./dom.js";
import { tickText } from "./format.js";

// `css`: share 0..1 -> colour; `scale`: from makeScale.
export function createLegend() {
  const bar = element("div", { class: "hfess-legend-bar" });
  const numbers = element("div", { class: "hfess-legend-numbers" });
  const label = element("div", { class: "hfess-legend-label" });
  const extras = element("div", { class: "hfess-legend-extras" });
  return {
    element: element(
      "div",
      { class: "hfess-legend" },
      label,
      element("div", {}, bar, numbers),
      extras,
    ),
    update({ words, css, ticks, position, notes = [] }) {
      label.textContent = words;
      const stops = Array.from({ length: 17 }, (_, k) => css(k / 16));
      bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      const spans = ticks.map((tick) => {
        const span = element("span", {}, tickText(tick));
        span.style.left = `${100 * position(tick)}%`;
        return span;
      });
      numbers.replaceChildren(...spans);
      const keys = notes.map(([name, text]) =>
        element("span", { class: "hfess-key" }, element("i", { class: `hfess-key-${name}` }), text),
      );
      extras.replaceChildren(...keys);
    },
  };
}
