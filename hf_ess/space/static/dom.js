// Elements are made here and nowhere else: text enters the page as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function dressed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function element(name, attributes = {}, ...children) {
  return dressed(document.createElement(name), attributes, children);
}

export function shape(name, attributes = {}, ...children) {
  return dressed(document.createElementNS(SVG, name), attributes, children);
}

// A group of radio buttons that looks like one switch: arrow keys come with the radio buttons.
export function choice(label, name, options, onChange) {
  const inputs = options.map(([value]) =>
    element("input", {
      type: "radio",
      name,
      value,
      class: "hfess-choice-input",
      onchange: () => onChange(value),
    }),
  );
  const labels = options.map(([, text], k) =>
    element("label", { class: "hfess-choice-option" }, inputs[k], element("span", {}, text)),
  );
  return {
    element: element(
      "fieldset",
      { class: "hfess-choice" },
      element("legend", { class: "hfess-choice-legend" }, label),
      element("div", { class: "hfess-choice-options" }, labels),
    ),
    set(value) {
      for (const input of inputs) input.checked = input.value === value;
    },
    enable(value, enabled) {
      for (const input of inputs) if (input.value === value) input.disabled = !enabled;
    },
  };
}

// `columns`: [{label, numeric}], `rows`: arrays of strings, or {text, value} for exact numbers.
export function table({ caption, columns, rows }) {
  const head = columns.map((column) =>
    element("th", { scope: "col", class: column.numeric ? "hfess-number" : null }, column.label),
  );
  const body = rows.map(
    (row) => element("tr", {}, row.map((cell, k) => tableCell(cell, columns[k], k))),
  );
  return element(
    "table",
    { class: "hfess-table" },
    caption ? element("caption", {}, caption) : null,
    element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, body),
  );
}

function tableCell(cell, column, index) {
  const { text, value, node } = typeof cell === "object" && cell !== null ? cell : { text: cell };
  const attributes = { class: column.numeric ? "hfess-number" : null, "data-value": value };
  if (index === 0) attributes.scope = "row";
  return element(index === 0 ? "th" : "td", attributes, node ?? text ?? "");
}
