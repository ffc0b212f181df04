// What the user chose, and who wants to know.

export const DEFAULTS = {
  metric: "entropy",
  threshold: 1e-3, // the tolerance itself, so that a link survives another grid
  scale: "linear",
  colour: "total",
  layer: null, // place in the list of layers
  position: null, // tokens before the split
  mode: "single",
  side: 0, // of a pair: whose list `layer` counts in
};

const ALLOWED = {
  metric: ["entropy", "tolerance"],
  scale: ["linear", "log"],
  colour: ["total", "change"],
  mode: ["single", "compare"],
};

function wholeOrNull(value) {
  const number = value === null || value === "" ? NaN : Number(value);
  return Number.isInteger(number) && number >= 0 ? number : null;
}

// States come out of links, so anything may be in them: what makes no sense is left out.
export function cleaned(patch) {
  const result = {};
  for (const [name, value] of Object.entries(patch ?? {})) {
    if (ALLOWED[name]?.includes(value)) result[name] = value;
    if (name === "layer" || name === "position") result[name] = wholeOrNull(value);
    if (name === "side") result[name] = Number(value) === 1 ? 1 : 0;
    if (name === "threshold" && Number(value) > 0 && Number.isFinite(Number(value))) {
      result[name] = Number(value);
    }
  }
  return result;
}

export function createStore(initial) {
  let current = initial;
  const listeners = new Set();
  return {
    get: () => current,
    set(patch) {
      const changed = Object.keys(patch).some((name) => patch[name] !== current[name]);
      if (!changed) return false;
      current = { ...current, ...patch };
      for (const listener of listeners) listener(current);
      return true;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

// The place in a descending grid that is nearest on a logarithmic axis.
export function nearestThreshold(thresholds, tolerance) {
  let best = 0;
  thresholds.forEach((value, k) => {
    const distance = Math.abs(Math.log(value / tolerance));
    if (distance < Math.abs(Math.log(thresholds[best] / tolerance))) best = k;
  });
  return best;
}

// Many calls become one, after a pause.
export function debounced(call, pause) {
  let timer = 0;
  const result = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), pause);
  };
  result.cancel = () => clearTimeout(timer);
  return result;
}
