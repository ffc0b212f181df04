// Numbers as people read them, and as tables and files carry them.

const NARROW_SPACE = "\u202f";
const MINUS = "\u2212";
export const ABSENT = "\u2013";

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+$)/g, NARROW_SPACE);
}

export function decimal(value) {
  if (!isNumber(value)) return ABSENT;
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : "";
  if (size === 0) return "0";
  if (size >= 999.95) return sign + grouped(size.toFixed(0));
  if (size >= 99.995) return sign + size.toFixed(1);
  if (size >= 0.9995) return sign + size.toFixed(2);
  if (size >= 0.001) return sign + size.toFixed(3);
  return sign + exponential(size);
}

export function signed(value) {
  if (!isNumber(value)) return ABSENT;
  return (value > 0 ? "+" : "") + decimal(value);
}

export function percent(share) {
  return isNumber(share) ? `${(100 * share).toFixed(1)}${NARROW_SPACE}%` : ABSENT;
}

export function exponential(value, digits = 1) {
  if (!isNumber(value)) return ABSENT;
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits).split("e");
  return `${mantissa}e${power.replace("+", "").replace("-", MINUS)}`;
}

// 0.001, 0.00126, 1.26e-5: as short as the number allows, the same in links and on axes.
export function toleranceText(value) {
  if (!isNumber(value)) return ABSENT;
  const short = Number(value.toPrecision(3));
  return short >= 1e-4 ? String(short) : short.toExponential().replace("e+", "e");
}

// For ticks: 0, 0.5, 12, 4 000.
export function tickText(value) {
  if (value === 0) return "0";
  const short = Number(Math.abs(value).toPrecision(6));
  const digits = short >= 1000 && Number.isInteger(short) ? grouped(String(short)) : String(short);
  return value < 0 ? MINUS + digits : digits;
}

// Powers of ten on axes: 0.001 to 1000 written out.
export function powerText(value) {
  if (value >= 0.001 && value <= 1000) return String(value);
  return value.toExponential().replace("e+", "e");
}

export function count(number, noun, plural = `${noun}s`) {
  return `${grouped(String(number))} ${number === 1 ? noun : plural}`;
}

export function cell(value, write = decimal) {
  return { text: write(value), value: isNumber(value) ? String(value) : "" };
}

// A table as a file; numbers with all their digits, quotes where a spreadsheet needs them.
export function toCsv({ columns, rows }) {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const plain = (entry) =>
    typeof entry === "object" && entry !== null ? (entry.value ?? entry.text ?? "") : (entry ?? "");
  const lines = [columns.map((column) => column.label), ...rows.map((row) => row.map(plain))];
  return lines.map(
    (line) => line.map((entry) => quoted(String(entry))).join(","),
  ).join("\n") + "\n";
}
