// Two reports: the same parts twice, on common scales, with one cursor.

import { createBlock } from "./block.js";
import { createControls, readingOf } from "./controls.js";
import { createCurve, valueDomain } from "./curve.js";
import { createDepth } from "./depth.js";
import { element } from "./dom.js";
import { createHeatmap } from "./heatmap.js";
import { derive } from "./measures.js";
import { createPairHead } from "./pair_head.js";
import { SIDES, cursorOf, sameText, stateOf } from "./pairing.js";
import { createProof } from "./proof.js";
import { makeScale, roundUp } from "./scales.js";
import { createTokens } from "./tokens.js";

const HEIGHT = 400; // of both heat maps, so that equal heights are equal depths

function half(env, side, data, same) {
  const named = (part, title) => (
    { name: `${part}-${SIDES[side].toLowerCase()}`, title: `${SIDES[side]}: ${title}`, side }
  );
  const heatmap = {
    ...named("heatmap", "layers by positions"),
    note: "Both maps share one scale of colours.",
  };
  return {
    tokens: createTokens(env, named("text", "the text")),
    curve: same ? null : createCurve(env, named("curve", "total by position")),
    heatmap: createHeatmap(env, {
      ...heatmap,
      rowHeight: () => Math.max(4, Math.round(HEIGHT / Math.max(1, data.layers.length))),
    }),
    block: createBlock(env, named("block", "")),
    proof: createProof(env, named("proof", "the proof")),
  };
}

function columns(...parts) {
  return element("div", { class: "hfess-columns" }, parts.map((part) => part.element));
}

export function createPair(env, first, second) {
  const sides = [first, second];
  const same = sameText(first, second);
  const head = createPairHead();
  const controls = createControls(env);
  const depth = createDepth(env);
  const overlay = same ? createCurve(env) : null;
  const halves = sides.map((data, side) => half(env, side, data, same));
  const row = (name) => columns(...halves.map((parts) => parts[name]));
  const view = element(
    "div",
    { class: "hfess-view hfess-pair" },
    head.element,
    controls.element,
    columns(depth, overlay ?? { element: null }),
    overlay ? null : row("curve"),
    row("heatmap"),
    row("block"),
    row("tokens"),
    row("proof"),
  );

  function models(state) {
    const made = sides.map((data, side) => ({
      data,
      derived: derive(data, readingOf(data, state)),
      state: stateOf(state, side, sides, same),
    }));
    const highest = roundUp(Math.max(...made.map(({ derived }) => derived.highest)));
    const colours = makeScale(state.scale, [0, highest], [0, 1]);
    const values = made.flatMap(({ derived }) => Array.from(derived.total));
    const curveDomain = valueDomain(state.scale, values);
    return made.map((model) => ({ ...model, colours, curveDomain }));
  }

  let current = null;
  return {
    element: view,
    update(state) {
      current = models(state);
      head.update(current);
      const floor = {
        below: current[0].derived.floor.below + current[1].derived.floor.below,
        blocks: current[0].derived.floor.blocks + current[1].derived.floor.blocks,
      };
      controls.update({ ...current[0], derived: { ...current[0].derived, floor } });
      depth.update(current);
      overlay?.update({ ...current[0], beside: current[1] });
      halves.forEach((parts, side) => {
        for (const part of Object.values(parts)) part?.update(current[side]);
      });
    },
    point(cursor) {
      depth.point(cursor);
      overlay?.point(cursorOf(cursor, 0, sides, same));
      controls.point(cursorOf(cursor, 0, sides, same));
      halves.forEach((parts, side) => {
        for (const part of Object.values(parts)) part?.point(cursorOf(cursor, side, sides, same));
      });
    },
  };
}
