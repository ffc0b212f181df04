// From the View that comes over the wire to arrays that can be counted in.

const VERSION = 1;
const NUMBERS = { u4: Uint32Array, f4: Float32Array };

function bytes(base64) {
  const text = atob(base64);
  const result = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k += 1) result[k] = text.charCodeAt(k);
  return result;
}

// null stands for "not measured" on the wire, NaN in arrays.
function floats(values, length) {
  const result = new Float64Array(length).fill(NaN);
  (values ?? []).forEach((value, k) => {
    if (value !== null && k < length) result[k] = value;
  });
  return result;
}

function counts(layer, expected) {
  if (!layer.counts) return new Float32Array(expected).fill(NaN);
  const Numbers = NUMBERS[layer.countsType ?? "u4"];
  if (!Numbers) throw new Error(`The counts of ${layer.name} have an unknown type.`);
  const array = new Numbers(bytes(layer.counts).buffer);
  if (array.length !== expected) {
    throw new Error(
      `The counts of ${layer.name} hold ${array.length} numbers, ${expected} were expected.`,
    );
  }
  return array;
}

export function decode(view) {
  if (view === null || typeof view !== "object" || view.version !== VERSION) {
    throw new Error(
      `This page draws views of version ${VERSION}, this one has version ${view?.version}. ` +
        "Reload the page, or measure again.",
    );
  }
  const size = view.positions.length;
  const layers = view.layers.map((layer, order) => ({
    ...layer,
    order,
    entropy: floats(layer.entropy, size),
    counts: counts(layer, size * view.thresholds.length),
    floor: floats(layer.floor, size),
    capacity: floats(layer.capacity, size),
    attainable: floats(layer.attainable, size),
    groupEntropy: floats(layer.groupEntropy, layer.groups),
  }));
  const indexOf = new Map(view.positions.map((position, k) => [position, k]));
  return { ...view, layers, indexOf, separators: view.separators ?? [] };
}
