// What the page shows, computed from decoded counts: the definitions of the report's averages.

const { isNaN } = Number;

// A reading says which number to take: {metric: "entropy" | "tolerance", threshold: index}.
export function perChannel(layer, reading, thresholds) {
  if (reading.metric === "entropy") return layer.entropy;
  const size = layer.entropy.length;
  const result = new Float64Array(size).fill(NaN);
  for (let p = 0; p < size; p += 1) {
    if (isNaN(layer.entropy[p])) continue;
    result[p] = layer.counts[p * thresholds + reading.threshold] / layer.groups;
  }
  return result;
}

export function mean(values) {
  let sum = 0;
  let number = 0;
  for (const value of values) {
    if (isNaN(value)) continue;
    sum += value;
    number += 1;
  }
  return number ? sum / number : NaN;
}

export function range(values) {
  let low = NaN;
  let high = NaN;
  for (const value of values) {
    if (isNaN(value)) continue;
    if (!(value >= low)) low = value;
    if (!(value <= high)) high = value;
  }
  return [low, high];
}

export function averaged(layers) {
  return layers.filter((layer) => layer.verified && !layer.entropy.every(isNaN));
}

// Sum over the channels of a layer, mean over layers: the total ESS at each position.
export function totals(layers, rows, size) {
  const result = new Float64Array(size).fill(layers.length ? 0 : NaN);
  layers.forEach((layer, k) => {
    for (let p = 0; p < size; p += 1) result[p] += (rows[k][p] * layer.channels) / layers.length;
  });
  return result;
}

// Since the last measured position before; NaN at the first.
export function changes(values) {
  const result = new Float64Array(values.length).fill(NaN);
  for (let p = 1; p < values.length; p += 1) result[p] = values[p] - values[p - 1];
  return result;
}

export function shares(values, of) {
  return values.map((value, p) => (of[p] > 0 ? value / of[p] : NaN));
}

function weightedMean(layers, rows) {
  let sum = 0;
  let weight = 0;
  layers.forEach((layer, k) => {
    for (const value of rows[k]) {
      if (isNaN(value)) continue;
      sum += layer.channels * value;
      weight += layer.channels;
    }
  });
  return weight ? sum / weight : NaN;
}

function profileRow(layer, values) {
  if (!layer.verified) {
    return {
      layer,
      ess: NaN,
      low: NaN,
      high: NaN,
      attainable: NaN,
      capacity: NaN,
      utilization: NaN,
    };
  }
  const [low, high] = range(values);
  return {
    layer,
    ess: mean(values),
    low,
    high,
    attainable: mean(layer.attainable),
    capacity: mean(layer.capacity),
    utilization: mean(shares(values, layer.capacity)),
  };
}

// How many measured blocks have a rounding floor at or above the tolerance.
export function belowFloor(layers, tolerance) {
  let below = 0;
  let blocks = 0;
  for (const layer of layers) {
    for (let p = 0; p < layer.floor.length; p += 1) {
      if (isNaN(layer.entropy[p])) continue;
      blocks += 1;
      if (tolerance <= layer.floor[p]) below += 1;
    }
  }
  return { below, blocks };
}

// Everything that one reading of one view makes visible.
export function derive(data, reading) {
  const shown = averaged(data.layers);
  const rows = data.layers.map((layer) =>
    layer.verified ? perChannel(layer, reading, data.thresholds.length) : null,
  );
  const ofShown = shown.map((layer) => rows[layer.order]);
  const size = data.positions.length;
  const total = totals(shown, ofShown, size);
  const attainable = totals(shown, shown.map((layer) => layer.attainable), size);
  const tolerance = data.thresholds[reading.threshold];
  return {
    reading,
    rows,
    total,
    attainable,
    change: changes(total),
    share: shares(total, attainable),
    profile: data.layers.map((layer) => profileRow(layer, rows[layer.order])),
    highest: Math.max(0, ...ofShown.map((row) => range(row)[1]).filter((value) => !isNaN(value))),
    average: weightedMean(shown, ofShown),
    meanTotal: mean(total),
    utilization: weightedMean(
      shown,
      shown.map((layer) => shares(rows[layer.order], layer.capacity)),
    ),
    tolerance,
    floor: reading.metric === "tolerance" ? belowFloor(shown, tolerance) : { below: 0, blocks: 0 },
  };
}

// The mean total ESS at every tolerance: the curve behind the slider.
export function totalsByThreshold(data) {
  const shown = averaged(data.layers);
  return data.thresholds.map((_, threshold) => {
    const reading = { metric: "tolerance", threshold };
    const rows = shown.map((layer) => perChannel(layer, reading, data.thresholds.length));
    return mean(totals(shown, rows, data.positions.length));
  });
}

// The count of one block from its singular values: a comparison, as strict as in the report.
export function countAbove(values, tolerance, relative) {
  const bound = relative ? tolerance * (values[0] ?? 0) : tolerance;
  return values.filter((value) => value > bound).length;
}
