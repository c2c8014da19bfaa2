// Drawing and changing zones and lines, by pointer and by keyboard.

import { draftMarks, element, handleMarks, headMarks, labelMarks, shapeMarks } from "./canvas.js";
import { useKey } from "./keys.js";

// CSS pixels: what is still a click, and how near another corner draws a corner to itself.
const CLICK = 5, SNAP = 9;

export class Editor {
  // svg: to draw in. textOf(shape): its label. say(text): shows a hint. drawingChanged(): it began or ended.
  constructor(svg, layout, { textOf, say, drawingChanged }) {
    Object.assign(this, { svg, layout, textOf, say, drawingChanged });
    this.size = [1, 1];
    this.points = [];
    this.showsHeads = this.showsShapes = true;
    this.draft = null;
    this.drag = null;
    this.pending = false;
    layout.onChange(() => {
      this.draw();
      this.tell();
    });
    svg.addEventListener("pointerdown", (event) => this.press(event));
    svg.addEventListener("pointermove", (event) => this.move(event));
    svg.addEventListener("pointerup", (event) => this.release(event));
    svg.addEventListener("pointercancel", () => this.cancelDrag());
    svg.addEventListener("dblclick", (event) => this.draft && (event.preventDefault(), this.finish()));
    svg.addEventListener("keydown", (event) => useKey(this, event));
  }

  get scale() {
    return this.svg.clientWidth / this.size[0] || 1;
  }

  show(size, points) {
    [this.size, this.points] = [size, points];
    this.svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
    this.draw();
  }

  // Drawn once a frame, however often things change.
  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawNow();
    });
  }

  drawNow() {
    const focused = document.activeElement?.dataset?.corner;
    const hadFocus = this.svg.contains(document.activeElement) && focused !== undefined;
    const { scale, layout, size } = this;
    const children = [];
    if (this.showsShapes) {
      children.push(...layout.shapes.map((shape) => shapeMarks(layout, shape, size, scale)));
    }
    if (this.showsHeads) children.push(...headMarks(this.points, size, scale));
    if (this.showsShapes) {
      children.push(...layout.shapes.map((shape) => labelMarks(layout, shape, size, scale, this.textOf(shape))));
      if (layout.selected) children.push(...handleMarks(layout, layout.selected, size, scale));
    }
    if (this.draft) {
      const { kind, corners, cursor, byKey } = this.draft;
      children.push(...draftMarks(kind, corners, cursor, scale, size, byKey));
    }
    if (this.drag?.box) {
      const [[x0, y0], [x1, y1]] = this.drag.box;
      const box = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
      children.push(element("rect", { ...box, class: "outline", fill: "#fff", stroke: "#fff" }));
    }
    this.svg.replaceChildren(...children);
    if (hadFocus) this.handle(Number(focused))?.focus();
  }

  handle(corner) {
    return this.svg.querySelector(`.corner[data-corner="${corner}"]`);
  }

  // Place of an event in the picture's pixels, on the picture.
  place(event) {
    const box = this.svg.getBoundingClientRect();
    const [width, height] = this.size;
    const x = ((event.clientX - box.left) / box.width) * width;
    const y = ((event.clientY - box.top) / box.height) * height;
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  }

  // A corner or border of the picture near a place, so that neighbours share their borders exactly.
  snap([x, y], except, event) {
    if (event.altKey) return [x, y];
    const near = SNAP / this.scale;
    const [width, height] = this.size;
    let best = null;
    let least = near;
    for (const shape of this.layout.shapes) {
      if (shape === except || !this.showsShapes) continue;
      for (const corner of this.layout.pixels(shape, this.size)) {
        const distance = Math.hypot(corner[0] - x, corner[1] - y);
        if (distance < least) [best, least] = [corner, distance];
      }
    }
    const border = (value, end) => (value < near ? 0 : end - value < near ? end : value);
    return best ?? [border(x, width), border(y, height)];
  }

  start(kind) {
    this.layout.selected = null;
    this.draft = { kind, corners: [], cursor: null, byKey: false };
    this.svg.classList.add("drawing");
    this.svg.focus({ preventScroll: true });
    this.tell();
    this.layout.changed();
    this.drawingChanged();
  }

  stop() {
    this.draft = null;
    this.svg.classList.remove("drawing");
    this.tell();
    this.draw();
    this.drawingChanged();
  }

  // What can be done now.
  tell() {
    if (!this.draft) {
      const { shapes, selected } = this.layout;
      if (selected) this.say(`Drag ${selected.kind !== "line" ? "the zone, its corners, or a small square for a new corner" : "the line or its ends"}.`);
      else this.say(shapes.length ? "Choose a zone or line to change it." : "Draw a zone or a line to see how many people are there.");
      return;
    }
    const { kind, corners } = this.draft;
    if (kind === "line") {
      this.say(corners.length ? "Set the end of the line." : "Set the start of the line, then its end.");
    } else if (corners.length < 3) {
      this.say(corners.length ? "Set the next corner." : "Set the corners of the zone one by one, or drag a rectangle.");
    } else {
      this.say("Set the next corner, or finish: click the first one, or press Enter.");
    }
  }

  addCorner(place) {
    const { draft } = this;
    const first = draft.corners[0];
    const near = (draft.byKey ? 2 : SNAP + 3) / this.scale;
    if (first && draft.corners.length > 2 && Math.hypot(place[0] - first[0], place[1] - first[1]) < near) {
      this.finish();
      return;
    }
    draft.corners.push(place);
    if (draft.kind === "line" && draft.corners.length === 2) this.finish();
    else this.tell();
    this.draw();
  }

  finish() {
    const { kind, corners } = this.draft;
    const made = dedupe(corners).map((corner) => this.layout.corner(corner, this.size));
    if (made.length < (kind === "zone" ? 3 : 2) || (kind === "zone" && isFlat(made))) {
      this.say(kind === "zone" ? "A zone needs three corners that are not on one line." : "A line needs two places.");
      return;
    }
    this.stop();
    this.layout.add(kind, made);
  }

  press(event) {
    if (event.button !== 0) return;
    const place = this.place(event);
    const { draft, layout } = this;
    if (draft) {
      this.drag = { kind: "draft", start: place, from: [event.clientX, event.clientY] };
      this.svg.setPointerCapture(event.pointerId);
      draft.byKey = false;
      return;
    }
    const group = event.target.closest("[data-shape]");
    const shape = group ? layout.shapes[Number(group.dataset.shape)] : null;
    if (shape !== layout.selected) {
      layout.selected = shape;
      layout.changed();
    }
    if (!shape) return;
    const { handle, corner } = event.target.dataset;
    // A finger that moves a whole zone would rather scroll.
    if (!handle && event.pointerType === "touch") return;
    event.preventDefault();
    this.svg.setPointerCapture(event.pointerId);
    this.drag = { kind: handle ?? "whole", shape, corner: Number(corner), start: place, from: [event.clientX, event.clientY], moved: false };
    this.drag.before = layout.pixels(shape, this.size);
    if (handle === "corner") this.handle(Number(corner))?.focus({ preventScroll: true });
  }

  move(event) {
    const { draft, drag, layout } = this;
    const place = this.place(event);
    if (draft) {
      draft.cursor = this.snap(place, null, event);
      draft.byKey = false;
      if (drag && draft.kind === "zone" && !draft.corners.length && this.isFar(drag, event)) {
        drag.box = [this.snap(drag.start, null, event), draft.cursor];
      }
      this.draw();
      return;
    }
    if (!drag || !(drag.moved || this.isFar(drag, event))) return;
    if (!drag.moved) {
      layout.remember();
      drag.moved = true;
      if (drag.kind === "middle") {
        drag.corner += 1;
        drag.shape.corners.splice(drag.corner, 0, layout.corner(place, this.size));
      }
    }
    if (drag.kind === "whole") this.shift(drag, place);
    else drag.shape.corners[drag.corner] = layout.corner(this.snap(place, drag.shape, event), this.size);
    layout.changed();
  }

  // Moves a whole shape as far as it stays on the picture.
  shift(drag, place) {
    const by = [0, 1].map((axis) => {
      const values = drag.before.map((corner) => corner[axis]);
      const least = Math.min(0, -Math.min(...values));
      const most = Math.max(0, this.size[axis] - Math.max(...values));
      return Math.min(Math.max(place[axis] - drag.start[axis], least), most);
    });
    drag.shape.corners = drag.before.map(([x, y]) => this.layout.corner([x + by[0], y + by[1]], this.size));
  }

  isFar({ from }, event) {
    return Math.hypot(event.clientX - from[0], event.clientY - from[1]) > CLICK;
  }

  release(event) {
    const { draft, drag } = this;
    this.drag = null;
    if (!draft || !drag) return;
    if (drag.box) {
      const [[x0, y0], [x1, y1]] = drag.box;
      draft.corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
      this.finish();
      if (this.draft) draft.corners = [];
    } else {
      this.addCorner(this.snap(this.place(event), null, event));
    }
  }

  cancelDrag() {
    this.drag = null;
    this.draw();
  }
}

// A double click sets its corner twice.
function dedupe(corners) {
  return corners.filter(([x, y], number) => {
    const last = corners[number - 1];
    return !last || last[0] !== x || last[1] !== y;
  });
}

function isFlat([first, ...others]) {
  const [far] = [...others].sort((a, b) => reach(first, b) - reach(first, a));
  return others.every(([x, y]) => (x - first[0]) * (far[1] - first[1]) === (y - first[1]) * (far[0] - first[0]));
}

const reach = ([x0, y0], [x1, y1]) => Math.abs(x1 - x0) + Math.abs(y1 - y0);
