// The zones, lines and alerts that are drawn, as zones.json has them, with undo.

const MOST_NAME = 100;
// Digits of a fraction: on a picture of 4,000 pixels, 1/25 of one.
const DIGITS = 5;

export class Layout {
  // shapes: {kind: "zone" | "line" | "ignore", name, corners: [[x, y], ...] in the unit, alert: {high, low} | null}
  constructor() {
    this.unit = "fractions";
    this.shapes = [];
    this.totalAlert = null;
    this.selected = null;
    this.listeners = [];
    this.past = [];
    this.future = [];
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  changed() {
    this.listeners.forEach((listener) => listener());
  }

  // To be called before a change that the user can undo.
  remember() {
    this.past.push(this.copy());
    if (this.past.length > 200) this.past.shift();
    this.future = [];
  }

  undo() {
    this.travel(this.past, this.future);
  }

  redo() {
    this.travel(this.future, this.past);
  }

  travel(from, to) {
    if (!from.length) return;
    to.push(this.copy());
    ({ unit: this.unit, shapes: this.shapes, totalAlert: this.totalAlert } = JSON.parse(from.pop()));
    this.selected = null;
    this.changed();
  }

  copy() {
    return JSON.stringify({ unit: this.unit, shapes: this.shapes, totalAlert: this.totalAlert });
  }

  // Corners in pixels of a picture of [width, height], as the engine computes them.
  pixels(shape, [width, height]) {
    return shape.corners.map(([x, y]) => (this.unit === "fractions" ? [x * width, y * height] : [x, y]));
  }

  // A place in pixels as a corner in the unit, on the picture.
  corner([x, y], [width, height]) {
    const within = [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
    if (this.unit !== "fractions") return within.map((value) => Math.round(value * 100) / 100);
    const scale = 10 ** DIGITS;
    return [Math.round((within[0] / width) * scale) / scale, Math.round((within[1] / height) * scale) / scale];
  }

  add(kind, corners) {
    this.remember();
    const shape = { kind, name: this.freeName(kind), corners, alert: null };
    this.shapes.push(shape);
    this.selected = shape;
    this.changed();
    return shape;
  }

  remove(shape) {
    this.remember();
    this.shapes = this.shapes.filter((other) => other !== shape);
    if (this.selected === shape) this.selected = null;
    this.changed();
  }

  // Reason why a shape cannot be called so; empty if it can.
  whyNot(name, shape) {
    if (!name.trim()) return "a name is needed";
    if (name.length > MOST_NAME) return `a name has at most ${MOST_NAME} characters`;
    if (name === "total") return "“total” stands for the whole picture";
    if (/\p{C}/u.test(name)) return "a name must be printable";
    return this.shapes.some((other) => other !== shape && other.name === name) ? "another one has this name" : "";
  }

  freeName(kind) {
    for (let number = 1; ; number += 1) {
      const name = `${kind} ${number}`;
      if (!this.whyNot(name, null)) return name;
    }
  }

  toJson() {
    const part = (kind) => Object.fromEntries(
      this.shapes.filter((shape) => shape.kind === kind).map(({ name, corners }) => [name, corners]),
    );
    const alerts = Object.fromEntries(
      this.shapes.filter((shape) => shape.kind === "zone" && shape.alert).map(({ name, alert }) => [name, alert]),
    );
    if (this.totalAlert) alerts.total = this.totalAlert;
    const data = { unit: this.unit, zones: part("zone"), lines: part("line") };
    const ignore = part("ignore");
    if (Object.keys(ignore).length) data.ignore = ignore;
    return JSON.stringify(Object.keys(alerts).length ? { ...data, alerts } : data, null, 1);
  }

  // Takes what zones.json holds; throws if it is something else.
  load(data) {
    const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
    const unit = data?.unit ?? "pixels";
    const known = ["unit", "zones", "lines", "alerts", "ignore"];
    const ours = isObject(data) && Object.keys(data).every((key) => known.includes(key));
    if (!ours || !["pixels", "fractions"].includes(unit)) throw new Error("this is no file of zones");
    const shapes = [];
    for (const [kind, key, least] of [["zone", "zones", 3], ["ignore", "ignore", 3], ["line", "lines", 2]]) {
      if (!isObject(data[key] ?? {})) throw new Error(`“${key}” must be an object`);
      for (const [name, corners] of Object.entries(data[key] ?? {})) {
        const good = Array.isArray(corners) && corners.length >= least && (kind !== "line" || corners.length === 2)
          && corners.every((corner) => Array.isArray(corner) && corner.length === 2 && corner.every(Number.isFinite));
        if (!good) throw new Error(`${kind} “${name}” has no corners [x, y] as they should be`);
        shapes.push({ kind, name, corners, alert: alertOf(data.alerts, name) });
      }
    }
    this.remember();
    [this.unit, this.shapes, this.selected] = [unit, shapes, null];
    this.totalAlert = alertOf(data.alerts, "total");
    this.changed();
  }
}

const alertOf = (alerts, name) => (alerts && Object.hasOwn(alerts, name) ? alerts[name] : null);
