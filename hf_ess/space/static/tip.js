// One tooltip for the whole view: numbers beside the pointer.

import { element } from "./dom.js";

const GAP = 14;

export function createTip(root) {
  const box = element("div", { class: "hfess-tip", "aria-hidden": "true", hidden: true });
  root.append(box);

  function place(event) {
    const frame = root.getBoundingClientRect();
    const { width, height } = box.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const y = event.clientY - frame.top;
    const left = x + GAP + width > frame.width ? x - GAP - width : x + GAP;
    const above = event.clientY + GAP + height > window.innerHeight;
    box.style.left = `${Math.max(0, Math.min(left, frame.width - width))}px`;
    box.style.top = `${above ? y - GAP - height : y + GAP}px`;
  }

  return {
    // `lines`: [label, number] pairs under a title.
    show(event, title, lines) {
      const rows = lines.map(([label, text]) =>
        element(
          "div",
          { class: "hfess-tip-row" },
          element("span", {}, label),
          element("b", {}, text),
        ),
      );
      box.replaceChildren(element("div", { class: "hfess-tip-title" }, title), ...rows);
      box.hidden = false;
      place(event);
    },
    hide() {
      box.hidden = true;
    },
  };
}
