// Axes: from numbers to pixels, with ticks at round numbers.

const STEPS = [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10];

export function roundUp(value) {
  if (!(value > 0)) return 1;
  const decade = 10 ** Math.floor(Math.log10(value));
  return decade * STEPS.find((step) => step * decade >= value * (1 - 1e-12));
}

const TRANSFORMS = {
  linear: [(value) => value, (value) => value],
  // log(1 + x): zero has a place, large numbers do not hide small ones.
  log: [(value) => Math.log1p(value), (value) => Math.expm1(value)],
  decades: [(value) => Math.log10(value), (value) => 10 ** value],
};

export function makeScale(kind, [low, high], [from, to]) {
  const [forward, backward] = TRANSFORMS[kind];
  const start = forward(low);
  const span = forward(high) - start || 1;
  const scale = (value) => from + ((forward(value) - start) / span) * (to - from);
  scale.invert = (pixel) => backward(start + ((pixel - from) / (to - from)) * span);
  scale.share = (value) => (forward(value) - start) / span;
  scale.kind = kind;
  scale.low = low;
  scale.high = high;
  scale.ticks = (most) => ticks(kind, low, high, most);
  return scale;
}

export function ticks(kind, low, high, most) {
  if (kind === "decades") return decadeTicks(low, high, most);
  if (kind === "log") return logTicks(low, high, most);
  return linearTicks(low, high, most);
}

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  if (!(rough > 0)) return [low];
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => factor * decade >= rough * (1 - 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from(
    { length: last - first + 1 },
    (_, k) => Number(((first + k) * step).toPrecision(12)),
  );
}

function decadeTicks(low, high, most) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first) / Math.max(1, most)));
  const result = [];
  for (let power = last; power >= first; power -= step) result.unshift(Number(`1e${power}`));
  return result;
}

function logTicks(low, high, most) {
  const fine = [];
  for (let power = 0; 10 ** power <= high; power += 1) fine.push(10 ** power, 3 * 10 ** power);
  const inside = fine.filter((value) => value > low * 1.2 && value <= high);
  const coarse = inside.filter((value) => Number.isInteger(Math.log10(value)));
  const chosen = inside.length < most ? inside : coarse;
  const result = low === 0 ? [0, ...chosen] : chosen;
  return result.length > 2 ? result : linearTicks(low, high, most);
}
