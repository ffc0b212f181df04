// Drawings as files. The SVG drawings carry their colours as attributes, so they stand alone.

import { shape } from "./dom.js";

const HEADING = 30; // pixels

// On the page a heading stands above them; in a file it is written over the drawing.
function standingAlone(drawing, theme) {
  const copy = drawing.cloneNode(true);
  const [width, height] = ["width", "height"].map((side) => Number(drawing.getAttribute(side)));
  copy.setAttribute("height", height + HEADING);
  copy.setAttribute("viewBox", `0 ${-HEADING} ${width} ${height + HEADING}`);
  const heading = copy.querySelector("title")?.textContent ?? "";
  copy.prepend(
    shape("rect", { y: -HEADING, width, height: height + HEADING, fill: theme.surface }),
    shape(
      "text",
      {
        x: 8, y: 18 - HEADING, fill: theme.ink, "font-size": 13, "font-weight": 600,
        "font-family": theme.font,
      },
      heading,
    ),
  );
  return copy;
}

export function svgBlob(drawing, theme) {
  const copy = standingAlone(drawing, theme);
  const text = new XMLSerializer().serializeToString(copy);
  return new Blob([text], { type: "image/svg+xml" });
}

export function canvasBlob(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

// An SVG drawing as PNG, twice as fine as it is drawn.
export async function svgAsPng(drawing, theme) {
  const url = URL.createObjectURL(svgBlob(drawing, theme));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = 2 * image.naturalWidth;
    canvas.height = 2 * image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvasBlob(canvas);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// What happens without a callback: the browser saves the file.
export function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
