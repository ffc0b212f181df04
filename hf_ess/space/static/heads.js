// The heads of one block as a list with bars; any of them can be picked.

import { element } from "./dom.js";
import { decimal } from "./format.js";

// Okabe and Ito, told apart by every colour vision; dashes tell them apart without colour.
export const PICKED = [
  ["#D55E00", null], ["#0072B2", "6 3"], ["#009E73", "2 3"],
  ["#CC79A7", "8 3 2 3"], ["#E69F00", "4 4"], ["#56B4E9", "1 4"],
];

function swatch(place) {
  const box = element("i", { class: "hfess-swatch", "aria-hidden": "true" });
  if (place >= 0) box.style.backgroundColor = PICKED[place % PICKED.length][0];
  return box;
}

export function createHeads(onPick) {
  const body = element("tbody");
  const head = element("tr");
  const list = element(
    "table",
    { class: "hfess-table hfess-heads" },
    element("thead", {}, head),
    body,
  );
  const box = element("div", { class: "hfess-heads-box" }, list);

  // `heads`: [{group, entropy, count}], count null where it is not known.
  function update({ heads, picked, metric, words }) {
    const counted = heads.some((each) => each.count !== null);
    const columns = ["head", words, ...(counted ? ["above tolerance"] : []), ""];
    head.replaceChildren(
      ...columns.map(
        (label, k) => element(
          "th",
          { scope: "col", class: k && label ? "hfess-number" : null },
          label,
        ),
      ),
    );
    const drawn = (each) => (metric === "tolerance" && counted ? each.count : each.entropy);
    const most = Math.max(1e-9, ...heads.map(drawn).filter((value) => !Number.isNaN(value)));
    body.replaceChildren(
      ...heads.map((each) => {
        const bar = element("div", { class: "hfess-bar" });
        bar.style.width = `${(100 * (drawn(each) || 0)) / most}%`;
        const place = picked.indexOf(each.group);
        const button = element(
          "button",
          {
            type: "button", class: "hfess-head-button", "aria-pressed": String(place >= 0),
            "data-group": each.group, onclick: () => onPick(each.group),
          },
          swatch(place),
          String(each.group),
        );
        return element(
          "tr",
          {},
          element("th", { scope: "row" }, button),
          element(
            "td",
            { class: "hfess-number", "data-value": each.entropy },
            decimal(each.entropy),
          ),
          counted ? element(
            "td",
            { class: "hfess-number", "data-value": each.count },
            String(each.count),
          ) : null,
          element("td", { class: "hfess-bar-cell" }, bar),
        );
      }),
    );
  }
  // Redrawing replaces the button that was pressed: the keyboard stays on it.
  function focus(group) {
    body.querySelector(`[data-group="${group}"]`)?.focus();
  }
  return { element: box, update, focus };
}
