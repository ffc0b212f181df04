// The frame around every plot: heading, what it shows, downloads, and the numbers as a table.

import { element, table } from "./dom.js";
import { toCsv } from "./format.js";

// `formats`: name -> function that returns a Blob or a Promise of one. `numbers`: the table.
// `file`: numbers for CSV where they are more than people would read in the table.
export function createFigure({ name, title, formats = {}, numbers, file = numbers, download }) {
  const heading = element("h3", { class: "hfess-figure-title" }, title);
  const note = element("p", { class: "hfess-figure-note" });
  const tools = element("div", { class: "hfess-figure-tools" });
  const body = element("div", { class: "hfess-figure-body" });
  const holder = element("div", { class: "hfess-table-scroll", tabindex: "0", role: "region" });
  holder.setAttribute("aria-label", `${title}: numbers`);
  const summary = element("summary", { class: "hfess-details-summary" }, "Numbers");
  const details = element("details", { class: "hfess-details" }, summary, holder);

  function fill() {
    if (numbers && details.open) holder.replaceChildren(table(numbers()));
  }
  details.addEventListener("toggle", fill);

  function button(label, make) {
    const attributes = {
      type: "button",
      class: "hfess-button",
      title: `Download ${title} as ${label}`,
      "aria-label": `Download ${title} as ${label}`,
      "data-download": `${name}.${label.toLowerCase()}`,
      onclick: async () => download(`${name}.${label.toLowerCase()}`, await make()),
    };
    return element("button", attributes, label);
  }
  for (const [label, make] of Object.entries(formats)) tools.append(button(label, make));
  if (file) {
    tools.append(button("CSV", () => new Blob([toCsv(file())], { type: "text/csv" })));
  }

  const head = element("div", { class: "hfess-figure-head" }, heading, tools);
  return {
    element: element(
      "section",
      { class: `hfess-figure hfess-figure-${name}`, "aria-label": title },
      head,
      note,
      body,
      numbers ? details : null,
    ),
    body,
    tools,
    setNote(text) {
      note.textContent = text;
    },
    setTitle(text) {
      heading.textContent = text;
    },
    refresh: fill,
  };
}
