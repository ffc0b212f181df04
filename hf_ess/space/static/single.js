// One report: which parts there are, and in what order they are fed.

import { createBlock } from "./block.js";
import { createControls, readingOf } from "./controls.js";
import { createCurve } from "./curve.js";
import { element } from "./dom.js";
import { createHead } from "./head.js";
import { createHeatmap } from "./heatmap.js";
import { derive } from "./measures.js";
import { createProfile } from "./profile.js";
import { createProof } from "./proof.js";
import { createReading } from "./reading.js";
import { makeScale, roundUp } from "./scales.js";
import { createTokens } from "./tokens.js";

export function createSingle(env, data) {
  const parts = {
    head: createHead(env),
    controls: createControls(env),
    tokens: createTokens(env),
    curve: createCurve(env),
    reading: createReading(),
    heatmap: createHeatmap(env),
    profile: createProfile(env),
    block: createBlock(env),
    proof: createProof(env),
  };
  const grid = element(
    "div",
    { class: "hfess-grid" },
    element("div", { class: "hfess-over" }, parts.curve.element),
    element("div", { class: "hfess-aside" }, parts.reading.element),
    element("div", { class: "hfess-main" }, parts.heatmap.element),
    element("div", { class: "hfess-side" }, parts.profile.element),
  );
  const { head, controls, tokens, block, proof } = parts;
  const view = element(
    "div",
    { class: "hfess-view" },
    head.element, controls.element, tokens.element, grid, block.element, proof.element,
  );
  const all = Object.values(parts);

  return {
    element: view,
    update(state) {
      const derived = derive(data, readingOf(data, state));
      const colours = makeScale(state.scale, [0, roundUp(derived.highest)], [0, 1]);
      const model = { data, derived, state, colours };
      for (const part of all) part.update(model);
    },
    point(cursor) {
      for (const part of all) part.point(cursor);
    },
  };
}
