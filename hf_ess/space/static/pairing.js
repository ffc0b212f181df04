// Which layer and which position of one report stands beside which of the other.

export const SIDES = ["A", "B"];

export function depthOf(order, layers) {
  return layers > 1 ? order / (layers - 1) : 0;
}

export function sameText(first, second) {
  return (
    first.tokens !== null &&
    second.tokens !== null &&
    first.tokens.length === second.tokens.length &&
    first.tokens.every((token, index) => token === second.tokens[index])
  );
}

// The layer at the same relative depth.
export function layerBeside(order, from, to) {
  if (order === null || !to.layers.length) return null;
  return Math.round(depthOf(order, from.layers.length) * (to.layers.length - 1));
}

// The same position, if the texts are one; another text has no such position.
export function positionBeside(position, same) {
  return same ? position : null;
}

// The chosen layer and position as the given side sees them.
export function stateOf(state, side, sides, same) {
  const from = state.side ?? 0;
  if (from === side) return state;
  return {
    ...state,
    layer: layerBeside(state.layer, sides[from], sides[side]),
    position: positionBeside(state.position, same),
  };
}

export function cursorOf(cursor, side, sides, same) {
  const from = cursor.side ?? 0;
  if (from === side) return cursor;
  const position = cursor.p === null ? null : sides[from].positions[cursor.p];
  const p = position === null || !same ? null : (sides[side].indexOf.get(position) ?? null);
  return { ...cursor, p, order: layerBeside(cursor.order, sides[from], sides[side]) };
}

// What forbids to compare plain numbers, in sentences.
export function mismatches(first, second) {
  const result = [];
  const differ = (name, words) => {
    if (JSON.stringify(first[name]) !== JSON.stringify(second[name])) result.push(words);
  };
  differ("window", "One is windowed differently: their numbers measure different blocks.");
  differ("relative", "One counts relative tolerances, the other absolute ones.");
  differ("scope", "They measure different scopes of the mixer.");
  return result;
}
