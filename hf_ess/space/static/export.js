// Drawings as files. The SVG drawings carry their colours as attributes, so they stand alone.

export function svgBlob(drawing, theme) {
  const copy = drawing.cloneNode(true);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", theme.surface);
  copy.prepend(ground);
  for (const node of copy.querySelectorAll("[data-screen-only]")) node.remove();
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
    canvas.width = 2 * Number(drawing.getAttribute("width"));
    canvas.height = 2 * Number(drawing.getAttribute("height"));
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
