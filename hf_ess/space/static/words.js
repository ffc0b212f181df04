// Sentences and labels that several parts of the page share.

import { count, decimal, percent, signed, toleranceText } from "./format.js";

// The name that the report gives the metric, windowed and relative included.
export function readingName({ data, derived }) {
  const window = data.window ? "windowed " : "";
  if (derived.reading.metric === "entropy") return `${window}entropy-ESS`;
  const relative = data.relative ? "relative " : "";
  return `${window}${relative}tolerance-ESS(${toleranceText(derived.tolerance)})`;
}

export function capitalized(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

// "12, run 2" is 12/2 where there is little room, and of a long name the end tells most.
export function shortLabel(label) {
  const brief = label.replace(/, run (\d+)$/, "/$1").replace(/ \(run (\d+)\)$/, "/$1");
  return brief.length > 6 ? `\u2026${brief.slice(-5)}` : brief;
}

const VISIBLE = { "\n": "\u23ce", "\r": "\u240d", "\t": "\u21e5" };

// A token in one line: blanks can be seen, a long one is cut.
export function visibleToken(token, most = 24) {
  const marked = token.replace(/[\n\r\t]/g, (blank) => VISIBLE[blank]);
  const shown = marked.trim() === "" ? marked.replace(/\s/gu, "\u2423") : marked.trim();
  const letters = Array.from(shown);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}\u2026` : shown;
}

function isNoise({ data, derived }, order, p) {
  const layer = data.layers[order];
  return derived.reading.metric === "tolerance" && derived.tolerance <= layer.floor[p];
}

// What one block says: a title and pairs of words and numbers, for tooltip and reading line.
export function blockLines(model, { order, p }) {
  const { data, derived } = model;
  const layer = data.layers[order];
  const title = `Layer ${layer.label}, position ${data.positions[p]}`;
  const row = derived.rows[order];
  if (!row) return [title, [["not verified", ""]]];
  const noise = isNoise(model, order, p) ? " *" : "";
  const lines = [
    [`${readingName(model)} per channel`, decimal(row[p]) + noise],
    ["attainable", decimal(layer.attainable[p])],
    ["of attainable", percent(row[p] / layer.attainable[p])],
    ["capacity", decimal(layer.capacity[p])],
  ];
  if (noise) lines.push(["* tolerance below the rounding floor", ""]);
  return [title, [...lines, ...tokenLine(data, p)]];
}

function tokenLine(data, p) {
  const token = data.samples === 1 ? data.tokens?.[data.positions[p]] : undefined;
  return token === undefined ? [] : [["cut before", visibleToken(token)]];
}

export function positionLines({ data, derived }, p) {
  const before = data.positions[p - 1];
  const lines = [
    ["total ESS", decimal(derived.total[p])],
    [before === undefined ? "change" : `change since ${before}`, signed(derived.change[p])],
    ["share of attainable", percent(derived.share[p])],
  ];
  return [`Position ${data.positions[p]}`, [...lines, ...tokenLine(data, p)]];
}

export function modelLine(data) {
  const { type, parameters, dtype, revision } = data.model ?? {};
  return [
    type,
    parameters ? `${millions(parameters)} parameters` : null,
    dtype,
    revision ? `revision ${revision.slice(0, 12)}` : null,
    data.scope === "core" ? null : `scope ${data.scope}`,
    data.window ? `window ${data.window.join("\u00d7")}` : null,
    data.relative ? "relative tolerances" : null,
  ].filter(Boolean);
}

function millions(parameters) {
  return parameters >= 1e9
    ? `${(parameters / 1e9).toFixed(2)} billion`
    : `${(parameters / 1e6).toFixed(1)} million`;
}

export function coverage(data) {
  const measured = count(data.positions.length, "position");
  const possible = data.length - 1;
  const of = data.positions.length < possible ? ` of ${possible}` : "";
  const texts = data.samples === 1 ? "one text" : `${data.samples} texts`;
  return `${measured}${of} measured, ${texts}, ${count(data.length, "token")}`;
}
