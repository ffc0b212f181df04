// Two reports in numbers, side by side.

import { element, table } from "./dom.js";
import { ABSENT, cell, decimal, exponential, isNumber, percent } from "./format.js";
import { SIDES, mismatches } from "./pairing.js";
import { capitalized, coverage, modelLine, readingName } from "./words.js";

function ratio(first, second) {
  const known = isNumber(first) && isNumber(second) && first !== 0;
  return known ? `${decimal(second / first)}\u00d7` : ABSENT;
}

function numbers([first, second], metricName) {
  const line = (label, take, write = decimal) => {
    const values = [take(first), take(second)];
    return [label, ...values.map((value) => cell(value, write)), ratio(...values)];
  };
  const proof = ({ data }) => `${data.proof.verified} of ${data.proof.layers}`;
  return [
    line(`${metricName}, total of a layer`, (model) => model.derived.meanTotal),
    line(`${metricName}, average per channel`, (model) => model.derived.average),
    line("Utilization of the capacity", (model) => model.derived.utilization, percent),
    ["Layers verified", proof(first), proof(second), ""],
    line("Largest residual", ({ data }) => data.proof.largestResidual, exponential),
  ];
}

export function createPairHead() {
  const title = element("h2", { class: "hfess-title" });
  const names = element("div", { class: "hfess-pair-names" });
  const warnings = element("ul", { class: "hfess-words hfess-warnings" });
  const holder = element("div", { class: "hfess-table-scroll" });
  const box = element("header", { class: "hfess-head" }, title, names, warnings, holder);

  function update(models) {
    title.textContent = "Two reports compared";
    names.replaceChildren(
      ...models.map(({ data }, side) =>
        element(
          "div",
          { class: `hfess-pair-name hfess-side-${SIDES[side].toLowerCase()}` },
          element("i", { class: "hfess-pair-mark", "aria-hidden": "true" }),
          element("b", {}, `${SIDES[side]}: ${data.title}`),
          element("span", {}, [...modelLine(data), coverage(data)].join(" \u00b7 ")),
        ),
      ),
    );
    const found = [...mismatches(models[0].data, models[1].data), ...toleranceMismatch(models)];
    warnings.replaceChildren(...found.map((words) => element("li", {}, words)));
    warnings.hidden = !found.length;
    const columns = ["", "A", "B", "B / A"].map((label, k) => ({ label, numeric: k > 0 }));
    const rows = numbers(models, capitalized(readingName(models[0])));
    holder.replaceChildren(table({ columns, rows }));
  }

  return { element: box, update };
}

function toleranceMismatch([first, second]) {
  if (first.derived.reading.metric === "entropy") return [];
  const [a, b] = [first.derived.tolerance, second.derived.tolerance];
  if (second.derived.reading.metric === "entropy") return [
    "B has no tolerances: it shows entropy-ESS.",
  ];
  return Math.abs(Math.log(a / b)) > 1e-6 ? [
    `A is counted at ${a}, B at ${b}, its nearest tolerance.`,
  ] : [];
}
