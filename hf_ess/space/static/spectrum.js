// Singular values of one block on a logarithmic axis, with the tolerance and the rounding floor.

import { powerText, toleranceText } from "./format.js";
import { PICKED } from "./heads.js";
import { linePlot } from "./lineplot.js";

const SINGLE_LINES = 32;
const LOWEST = 1e-18;

function positive(values) {
  return values.map((value) => (value > 0 ? value : NaN));
}

const envelopes = new WeakMap(); // of the groups of a cell, which do not change

// Heads by the hundred become their range and their middle.
function envelope(groups) {
  if (!envelopes.has(groups)) envelopes.set(groups, madeEnvelope(groups));
  return envelopes.get(groups);
}

function madeEnvelope(groups) {
  const size = Math.max(...groups.map((group) => group.values.length));
  const at = (k) => groups.map((group) => group.values[k] ?? 0).sort((a, b) => a - b);
  const columns = Array.from({ length: size }, (_, k) => at(k));
  const line = (name, pick) => [name, positive(columns.map(pick))];
  return [
    line("lowest", (column) => column[0]),
    line("median", (column) => column[column.length >> 1]),
    line("highest", (column) => column[column.length - 1]),
  ];
}

function background(groups, theme, picked) {
  const faint = (name, ys) => ({
    xs: ys.map((_, k) => k + 1), ys, name,
    colour: picked.length ? theme.hatch : theme.data, width: 1, opacity: 0.75,
  });
  if (groups.length > SINGLE_LINES) return envelope(groups).map(([name, ys]) => faint(name, ys));
  return groups
    .filter((group) => !picked.includes(group.group))
    .map((group) => faint(`head ${group.group}`, positive(group.values)));
}

function foreground(groups, picked) {
  return picked.flatMap((number, place) => {
    const group = groups.find((each) => each.group === number);
    if (!group) return [];
    const [colour, dash] = PICKED[place % PICKED.length];
    const ys = positive(group.values);
    const name = `head ${number}`;
    return [{ xs: ys.map((_, k) => k + 1), ys, colour, dash, width: 2, name, label: name }];
  });
}

export function spectrumFloor(groups, picked) {
  const chosen = picked.length ? groups.filter((group) => picked.includes(group.group)) : groups;
  return Math.max(0, ...chosen.map((group) => group.errorBound ?? 0));
}

function decade(value, round) {
  return 10 ** round(Math.log10(value));
}

// Relative tolerances are shares of the largest value of each head, so shares are drawn.
function asShares(groups) {
  return groups.map((group) => {
    const largest = group.values[0] || 1;
    const values = group.values.map((value) => value / largest);
    return { ...group, values, errorBound: (group.errorBound ?? 0) / largest };
  });
}

export function spectrumPlot({ relative, ...parts }) {
  const groups = relative ? asShares(parts.groups) : parts.groups;
  const label = relative ? "size, as a share of the largest" : "size, in units of the operator";
  return drawSpectrum({ ...parts, groups, label });
}

function drawSpectrum({ groups, picked, tolerance, width, height, theme, title, label }) {
  const values = groups.flatMap((group) => group.values).filter((value) => value > 0);
  const floor = spectrumFloor(groups, picked);
  const largest = values.reduce((a, b) => Math.max(a, b), 0);
  const high = decade(Math.max(largest, tolerance, floor, LOWEST * 10) * 1.2, Math.ceil);
  const smallest = values.reduce((a, b) => Math.min(a, b), high);
  const wanted = Math.max(smallest, floor / 100, LOWEST);
  const low = Math.min(
    decade(Math.min(wanted, tolerance, floor || wanted) / 1.5, Math.floor),
    high / 10,
  );
  const longest = groups.reduce((most, group) => Math.max(most, group.values.length), 2);
  const shades = floor > low ? [{ low, high: floor, name: "floor", label: "rounding floor" }] : [];
  return linePlot({
    width,
    theme,
    title,
    x: { low: 1, high: longest, label: "singular value, by size" },
    panels: [
      {
        height, kind: "decades", low, high, label, shades,
        format: powerText,
        lines: [
          {
            y: tolerance,
            colour: theme.ink,
            name: "tolerance",
            label: `tolerance ${toleranceText(tolerance)}`,
          },
        ],
        series: [...background(groups, theme, picked), ...foreground(groups, picked)],
      },
    ],
  });
}
