// Title and the four numbers that say most, in words.

import { element } from "./dom.js";
import { ABSENT, count, decimal, exponential, isNumber, percent } from "./format.js";
import { averaged } from "./measures.js";
import { capitalized, coverage, modelLine, readingName } from "./words.js";

function tile(name) {
  const number = element("div", { class: "hfess-tile-number", "data-number": name });
  const words = element("div", { class: "hfess-tile-words" });
  return {
    element: element("div", { class: "hfess-tile" }, number, words),
    set(text, value, sentence) {
      number.textContent = text;
      number.dataset.value = isNumber(value) ? String(value) : "";
      words.textContent = sentence;
    },
  };
}

function verifiedWords(proof) {
  if (!proof.layers) return "layers were measured";
  return proof.verified === proof.layers
    ? "layers verified: their operator rebuilds their output"
    : "layers verified; the others enter no number";
}

export function createHead() {
  const title = element("h2", { class: "hfess-title" });
  const subtitle = element("p", { class: "hfess-subtitle" });
  const names = ["total", "utilization", "verified", "residual"];
  const tiles = Object.fromEntries(names.map((name) => [name, tile(name)]));
  const words = element("ul", { class: "hfess-words" });
  const box = element(
    "header",
    { class: "hfess-head" },
    title, subtitle,
    element("div", { class: "hfess-tiles" }, names.map((name) => tiles[name].element)),
    words,
  );

  function update({ data, derived, ...rest }) {
    title.textContent = data.title;
    subtitle.replaceChildren(
      ...[...modelLine(data), coverage(data)].map(
        (part) => element("span", { class: "hfess-fact" }, part),
      ),
    );
    const layers = averaged(data.layers).length;
    const model = { data, derived, ...rest };
    tiles.total.set(
      decimal(derived.meanTotal),
      derived.meanTotal,
      `${capitalized(readingName(model))} of a layer, summed over channels; ` +
        `mean of ${count(layers, "layer")} and ${count(data.positions.length, "position")}`,
    );
    tiles.utilization.set(
      percent(derived.utilization),
      derived.utilization,
      "of the capacity is used, on average",
    );
    tiles.verified.set(
      `${data.proof.verified} of ${data.proof.layers}`,
      data.proof.verified,
      verifiedWords(data.proof),
    );
    tiles.residual.set(
      data.proof.largestResidual === null ? ABSENT : exponential(data.proof.largestResidual),
      data.proof.largestResidual,
      "largest residual, relative to the largest output",
    );
    const sentences = [
      ...(data.complete ? [] : ["Incomplete: the measurement was stopped before its end."]),
      ...data.words,
    ];
    words.replaceChildren(...sentences.map((sentence) => element("li", {}, sentence)));
    words.hidden = sentences.length === 0;
  }

  return { element: box, update, point() {} };
}
