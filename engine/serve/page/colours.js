// Okabe and Ito's colours, as engine/zones/drawing.py has them, and viridis, as engine/overlay.py has it.

export const PALETTE = ["#56b4e9", "#cc79a7", "#f0e442", "#e69f00"];
export const LINE = "#ffffff";
export const IGNORED = "#b9b5c6";
export const DARK = "#181425";

const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];
const OPACITY = 0.72;
const OPAQUE_FROM = 0.55;

function colour(value) {
  const at = value * (VIRIDIS.length - 1);
  const first = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[first].map((low, channel) => Math.round(low + (at - first) * (VIRIDIS[first + 1][channel] - low)));
}

// RGBA of each of the 256 levels of a heat layer.
const LEVELS = Array.from({ length: 256 }, (_, level) => {
  const strength = Math.min(level / 255 / OPAQUE_FROM, 1);
  return [...colour(level / 255), Math.round(255 * OPACITY * strength * strength * (3 - 2 * strength))];
});

// A canvas with the colours of a grey picture of levels.
export function heatCanvas(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(LEVELS[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
  return canvas;
}
