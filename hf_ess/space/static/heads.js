// The heads of one block as a list with bars; any of them can be picked.

import { element } from "./dom.js";
import { decimal } from "./format.js";

// Okabe and Ito, told apart by every colour vision; dashes tell them apart without colour.
export const PICKED = [
  ["#D55E00", null], ["#0072B2", "6 3"], ["#009E73", "2 3"],
  ["#CC79A7", "8 3 2 3"], ["#E69F00", "4 4"], ["#56B4E9", "1 4"],
];

const FIRST = 64; // heads; a state-space model may have thousands of channels

// One row; it is written anew at every step of the slider, so it is made only once.
function createRow(group, onPick) {
  const swatch = element("i", { class: "hfess-swatch", "aria-hidden": "true" });
  const button = element(
    "button",
    {
      type: "button", class: "hfess-head-button", "data-group": group,
      onclick: () => onPick(group),
    },
    swatch,
    String(group),
  );
  const bar = element("div", { class: "hfess-bar" });
  const entropy = element("td", { class: "hfess-number" });
  const count = element("td", { class: "hfess-number" });
  const row = element(
    "tr",
    {},
    element("th", { scope: "row" }, button),
    entropy,
    count,
    element("td", { class: "hfess-bar-cell" }, bar),
  );
  return {
    row,
    focus: () => button.focus(),
    write(each, place, share) {
      entropy.textContent = decimal(each.entropy);
      entropy.dataset.value = String(each.entropy);
      count.hidden = each.count === null;
      count.textContent = each.count === null ? "" : String(each.count);
      if (each.count === null) delete count.dataset.value;
      else count.dataset.value = String(each.count);
      button.setAttribute("aria-pressed", String(place >= 0));
      swatch.style.backgroundColor = place >= 0 ? PICKED[place % PICKED.length][0] : "";
      bar.style.width = `${100 * share}%`;
    },
  };
}

export function createHeads(onPick) {
  const body = element("tbody");
  const entropyName = element("th", { scope: "col", class: "hfess-number" });
  const countName = element("th", { scope: "col", class: "hfess-number" }, "above tolerance");
  const head = element("tr", {}, element("th", { scope: "col" }, "head"), entropyName, countName);
  head.append(element("th", { scope: "col", "aria-label": "bar" }));
  const list = element(
    "table",
    { class: "hfess-table hfess-heads" },
    element("thead", {}, head),
    body,
  );
  let rows = [];
  let last = null;
  let most = FIRST;
  let groups = "";

  const more = element(
    "button",
    { type: "button", class: "hfess-button", onclick: () => showAll() },
    "",
  );

  function showAll() {
    most = Infinity;
    update(last);
    rows[FIRST]?.focus();
  }

  function build(heads) {
    const wanted = heads.map((each) => each.group).join();
    if (wanted === groups) return;
    groups = wanted;
    rows = heads.map((each) => createRow(each.group, onPick));
    body.replaceChildren(...rows.map((each) => each.row));
  }

  // `heads`: [{group, entropy, count}], count null where it is not known.
  function update(next) {
    last = next;
    const { picked, metric, words } = next;
    const heads = next.heads.slice(0, most);
    more.hidden = heads.length === next.heads.length;
    more.textContent = `Show all ${next.heads.length}`;
    build(heads);
    const counted = heads.some((each) => each.count !== null);
    entropyName.textContent = words;
    countName.hidden = !counted;
    const drawn = heads.map(metric === "tolerance" && counted ? (h) => h.count : (h) => h.entropy);
    const longest = drawn.reduce((high, value) => (value > high ? value : high), 1e-9);
    heads.forEach((each, k) => {
      rows[k].write(each, picked.indexOf(each.group), (drawn[k] || 0) / longest);
    });
  }

  return { element: element("div", { class: "hfess-heads-box" }, list, more), update };
}
