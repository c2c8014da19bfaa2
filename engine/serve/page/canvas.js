// Draws heads, zones and lines over the picture, as SVG in the picture's own pixels.

import { DARK, IGNORED, LINE, PALETTE } from "./colours.js";

const SVG = "http://www.w3.org/2000/svg";
// Sizes on the screen, in CSS pixels.
const CORNER = 5.5, MIDDLE = 4, TOUCH = 18, LABEL = 13;
// Cells along the longer side in which the crowding that sets the size of dots is measured, as engine/drawing has it.
const DOT_CELLS = 32, LARGEST_DOT = 3.2, SMALLEST_DOT = 0.9;

export function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

const path = (corners) => corners.map((corner) => corner.join(",")).join(" ");

// Colour of each shape: zones take turns, lines are white, what is ignored is grey.
export function colourOf(shapes, shape) {
  if (shape.kind === "line") return LINE;
  if (shape.kind === "ignore") return IGNORED;
  return PALETTE[shapes.filter((other) => other.kind === "zone").indexOf(shape) % PALETTE.length];
}

// Heads as two strokes of no length: one path each, however many there are.
export function headMarks(points, size, scale) {
  const radius = Math.max(SMALLEST_DOT, Math.min(LARGEST_DOT, 0.2 * spacing(points, size) * scale));
  const data = points.map(([x, y]) => `M${x} ${y}h0`).join("");
  const dots = (kind, width) => element("path", { class: `dots ${kind}`, d: data, "stroke-width": width });
  return [dots("dark", 2 * radius + Math.max(1.2, 0.8 * radius)), dots("", 2 * radius)];
}

// Distance between neighbours, in pixels, where most heads are.
function spacing(points, size) {
  const cell = Math.max(...size) / DOT_CELLS;
  const cells = points.map(([x, y]) => Math.floor(y / cell) * DOT_CELLS + Math.floor(x / cell));
  const heads = new Map();
  cells.forEach((at) => heads.set(at, (heads.get(at) ?? 0) + 1));
  const crowding = cells.map((at) => heads.get(at)).sort((a, b) => a - b);
  return cell / Math.sqrt(crowding[Math.floor(crowding.length / 2)] ?? 1);
}

// scale: CSS pixels for each pixel of the picture.
export function shapeMarks(layout, shape, size, scale) {
  const corners = layout.pixels(shape, size);
  const selected = layout.selected === shape;
  const colour = colourOf(layout.shapes, shape);
  const group = element("g", { class: selected ? "selected" : "", "data-shape": layout.shapes.indexOf(shape) });
  if (shape.kind !== "line") {
    group.append(
      element("polygon", { class: "rim", points: path(corners) }),
      element("polygon", { class: `outline ${shape.kind}`, points: path(corners), stroke: colour, fill: colour }),
    );
  } else {
    group.append(
      element("polyline", { class: "beyond", points: path(beyond(corners, size)) }),
      element("polyline", { class: "rim", points: path(corners) }),
      element("polyline", { class: "outline", points: path(corners), stroke: colour, fill: "none" }),
      element("polyline", { class: "grip", points: path(corners) }),
      arrow(corners, scale),
    );
  }
  return group;
}

export function labelMarks(layout, shape, size, scale, text) {
  return label(text, labelPlace(shape, layout.pixels(shape, size)), size, scale);
}

// What the chosen shape is changed with.
export function handleMarks(layout, shape, size, scale) {
  const corners = layout.pixels(shape, size);
  const made = [];
  const handle = (kind, number, [x, y], radius, extra) => {
    const data = { "data-handle": kind, "data-corner": number, "data-shape": layout.shapes.indexOf(shape) };
    made.push(element("circle", { class: "touch", cx: x, cy: y, r: TOUCH / scale, ...data }));
    made.push(square(kind, [x, y], radius / scale, { ...data, ...extra }));
  };
  if (shape.kind !== "line") {
    corners.forEach(([x, y], number) => {
      const [nextX, nextY] = corners[(number + 1) % corners.length];
      const far = Math.hypot(nextX - x, nextY - y) * scale > 4 * TOUCH;
      if (far) handle("middle", number, [(x + nextX) / 2, (y + nextY) / 2], MIDDLE, {});
    });
  }
  corners.forEach((corner, number) => {
    const place = corner.map((value) => Math.round(value)).join(", ");
    const name = `corner ${number + 1} of ${corners.length} of ${shape.name}, at ${place}`;
    handle("corner", number, corner, CORNER, { tabindex: 0, role: "button", "aria-label": name });
  });
  return made;
}

// Heads are round.
function square(kind, [x, y], half, attributes) {
  return element("rect", { class: kind, x: x - half, y: y - half, width: 2 * half, height: 2 * half, ...attributes });
}

// Which way a line goes: left and right are those of who walks along it.
function arrow([[x0, y0], [x1, y1]], scale) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [alongX, alongY] = [(x1 - x0) / length, (y1 - y0) / length];
  const [x, y, side] = [(x0 + x1) / 2, (y0 + y1) / 2, 7 / scale];
  const tip = [x + alongX * 2 * side, y + alongY * 2 * side];
  const foot = (sign) => [x - sign * alongY * side, y + sign * alongX * side];
  return element("polygon", { points: path([tip, foot(1), foot(-1)]), fill: LINE, stroke: DARK, "stroke-width": 1 / scale });
}

// The line beyond its ends, to the borders of the picture and farther.
function beyond([[x0, y0], [x1, y1]], [width, height]) {
  const reach = (2 * (width + height)) / (Math.hypot(x1 - x0, y1 - y0) || 1);
  return [
    [x0 - (x1 - x0) * reach, y0 - (y1 - y0) * reach],
    [x1 + (x1 - x0) * reach, y1 + (y1 - y0) * reach],
  ];
}

function labelPlace(shape, corners) {
  if (shape.kind === "line") return [corners[0][0], corners[0][1]];
  // Above the highest corner there is least to hide.
  const highest = corners.reduce((best, corner) => (corner[1] < best[1] ? corner : best));
  const middle = corners.reduce((sum, [x]) => sum + x, 0) / corners.length;
  return [(highest[0] + middle) / 2, highest[1]];
}

function label(text, [x, y], [width, height], scale) {
  const size = LABEL / scale;
  // Wide enough for any system's font; letters of it are measured by nobody.
  const long = (0.6 * text.length + 1) * size;
  const left = Math.min(Math.max(x - long / 2, 0), Math.max(width - long, 0));
  const top = Math.min(Math.max(y - 1.9 * size, 0), Math.max(height - 1.5 * size, 0));
  const plate = { class: "plate", x: left, y: top, width: long, height: 1.5 * size, rx: size / 3 };
  const words = element("text", { x: left + long / 2, y: top + 1.1 * size, "font-size": size, "text-anchor": "middle" });
  words.textContent = text;
  return element("g", { class: "label" }, element("rect", plate), words);
}

// What is being drawn: its corners, the cursor and, on the first corner, the mark that closes it.
export function draftMarks(kind, corners, cursor, scale, [width, height], showsCross) {
  const made = [];
  const all = cursor ? [...corners, cursor] : corners;
  if (all.length > 1) {
    made.push(element("polyline", { class: "rim", points: path(all) }));
    made.push(element("polyline", { class: "outline", points: path(all), stroke: "#fff", fill: kind === "zone" ? "#fff" : "none" }));
  }
  corners.forEach(([x, y], number) => {
    const closes = number === 0 && kind === "zone" && corners.length > 2;
    made.push(square("corner", [x, y], (closes ? 8 : CORNER) / scale, {}));
  });
  if (showsCross && cursor) {
    const [x, y] = cursor;
    made.push(element("path", { class: "cross", d: `M0 ${y}H${width}M${x} 0V${height}` }));
  }
  return made;
}
