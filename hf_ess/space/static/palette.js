// A sequential scale like cividis, our own: a straight line through OKLab from navy to yellow.
// Lightness rises in equal steps and the hue runs from blue to yellow, the axis that colour-blind
// readers keep; printed in grey it still reads.

const FROM = [0.26, -0.012, -0.105];
const TO = [0.93, -0.02, 0.155];
const LEVELS = 256;

function gamma(linear) {
  const clipped = Math.min(1, Math.max(0, linear));
  const value = clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055;
  return Math.round(255 * value);
}

// Björn Ottosson's OKLab (2020), back to sRGB.
export function fromOklab([lightness, a, b]) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
    gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
    gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short),
  ];
}

export const SEQUENTIAL = Array.from({ length: LEVELS }, (_, k) =>
  fromOklab(FROM.map((start, axis) => start + ((TO[axis] - start) * k) / (LEVELS - 1))),
);

export function level(share) {
  return Math.min(LEVELS - 1, Math.max(0, Math.round(share * (LEVELS - 1))));
}

export function cssColour([red, green, blue], alpha = 1) {
  const parts = `${red}, ${green}, ${blue}`;
  return alpha === 1 ? `rgb(${parts})` : `rgba(${parts}, ${alpha})`;
}

// Canvas memory holds red in the lowest byte on every machine that browsers run on.
export const PIXELS = Uint32Array.from(
  SEQUENTIAL,
  ([red, green, blue]) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0,
);

// `#rrggbb` as the theme writes colours.
export function parseHex(text) {
  const digits = text.trim().replace("#", "");
  return [0, 2, 4].map((start) => Number.parseInt(digits.slice(start, start + 2), 16));
}
