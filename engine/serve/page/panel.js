// The list of zones and lines beside the picture: their names, and how many people are there.

import { colourOf, element } from "./canvas.js";
import { countSides, countZone, zoneInterval } from "./members.js";

const people = (number) => `${number} ${number === 1 ? "person" : "people"}`;

export class Panel {
  // result(): {count, interval, points, size} or null.
  constructor(list, layout, result) {
    Object.assign(this, { list, layout, result });
    this.rows = new Map();
    layout.onChange(() => this.refresh());
  }

  // Label on the picture: its name and the people there.
  text(shape) {
    const found = this.people(shape);
    return found ? `${shape.name}: ${found.short}` : shape.name;
  }

  people(shape) {
    const result = this.result();
    if (!result) return null;
    const corners = this.layout.pixels(shape, result.size);
    if (shape.kind === "line") {
      const [left, right] = countSides(result.points, corners);
      return { short: `${left} | ${right}`, long: `${left} left`, rest: ` ${right} right` };
    }
    if (shape.kind === "ignore") return { short: "ignored", long: "ignored", rest: " nobody counts here" };
    const inside = countZone(result.points, corners, result.size);
    const [low, high] = zoneInterval(inside, result.count, result.interval);
    return { short: `${inside}`, long: people(inside), rest: ` ${low} to ${high}` };
  }

  refresh() {
    const { layout, rows } = this;
    for (const [shape, row] of rows) {
      if (!layout.shapes.includes(shape)) {
        row.item.remove();
        rows.delete(shape);
      }
    }
    layout.shapes.forEach((shape) => {
      if (!rows.has(shape)) rows.set(shape, this.makeRow(shape));
      this.refreshRow(shape, rows.get(shape));
    });
  }

  makeRow(shape) {
    const item = document.createElement("li");
    const swatch = element("svg", { class: "swatch", viewBox: "0 0 14 14", "aria-hidden": "true" });
    const name = Object.assign(document.createElement("input"), { type: "text", maxLength: 100, value: shape.name });
    const count = Object.assign(document.createElement("p"), { className: "people" });
    const acts = Object.assign(document.createElement("span"), { className: "acts" });
    name.setAttribute("aria-label", `name of the ${shape.kind}`);
    name.addEventListener("focus", () => {
      name.dataset.old = shape.name;
      this.select(shape);
    });
    name.addEventListener("input", () => this.rename(shape, name));
    name.addEventListener("change", () => {
      name.value = shape.name;
      name.setCustomValidity("");
    });
    item.addEventListener("click", () => this.select(shape));
    if (shape.kind === "line") acts.append(this.button("turn it round", "M7 4 3 8l4 4M3 8h14M17 12l4 4-4 4M21 16H7", () => this.turn(shape)));
    else acts.append(this.button("nobody counts here", "M4 4l16 16M9.500 9.500a3.500 3.500 0 0 0 5 5M6.500 6.800C4.500 8.200 3 10 2.500 12c1.500 4 5 6.500 9.500 6.500 1.500 0 3-.3 4.200-.9M10 5.700c.7-.1 1.300-.2 2-.2 4.500 0 8 2.500 9.500 6.500-.4 1.200-1.100 2.300-2 3.200", () => this.ignore(shape)));
    acts.append(this.button("delete", "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13", () => this.layout.remove(shape)));
    item.append(swatch, name, count, acts);
    this.list.append(item);
    return { item, swatch, name, count, acts };
  }

  button(title, path, act) {
    const button = Object.assign(document.createElement("button"), { type: "button", title });
    button.append(element("svg", { viewBox: "0 0 24 24" }, element("path", { d: path })));
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      act();
    });
    return button;
  }

  refreshRow(shape, { item, swatch, name, count, acts }) {
    const colour = colourOf(this.layout.shapes, shape);
    const look = shape.kind === "line"
      ? element("path", { d: "M2 12 12 2", stroke: "currentColor", "stroke-width": 2.5 })
      : element("rect", { width: 14, height: 14, rx: 3, fill: colour, stroke: "#181425" });
    swatch.replaceChildren(look);
    item.classList.toggle("selected", this.layout.selected === shape);
    if (document.activeElement !== name) name.value = shape.name;
    const found = this.people(shape);
    const rest = Object.assign(document.createElement("span"), { textContent: found?.rest ?? "" });
    count.replaceChildren(found?.long ?? "", rest);
    for (const button of acts.children) button.setAttribute("aria-label", `${button.title}: ${shape.name}`);
    if (shape.kind !== "line") acts.firstChild.setAttribute("aria-pressed", String(shape.kind === "ignore"));
  }

  select(shape) {
    if (this.layout.selected === shape) return;
    this.layout.selected = shape;
    this.layout.changed();
  }

  rename(shape, input) {
    const problem = this.layout.whyNot(input.value, shape);
    input.setCustomValidity(problem);
    input.title = problem;
    if (problem) return;
    // One step back for all letters of a name.
    if (shape.name === input.dataset.old) this.layout.remember();
    shape.name = input.value;
    this.layout.changed();
  }

  ignore(shape) {
    this.layout.remember();
    shape.kind = shape.kind === "ignore" ? "zone" : "ignore";
    this.layout.changed();
  }

  turn(shape) {
    this.layout.remember();
    shape.corners = [...shape.corners].reverse();
    this.layout.changed();
  }
}
