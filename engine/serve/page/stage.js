// The picture, its layers and how large it is shown.

import { heatCanvas } from "./colours.js";

const byId = (id) => document.getElementById(id);
const MARGIN = 6;
const LARGEST = 8;

export class Stage {
  constructor(editor) {
    this.editor = editor;
    this.size = [1, 1];
    this.scale = 1;
    this.hasPicture = false;
    this.isFitted = true;
    this.maps = {};
    this.shown = null;
    this.address = "";
    new ResizeObserver(() => this.isFitted && this.fit()).observe(byId("stage"));
    byId("stage").addEventListener("wheel", (event) => {
      if (!event.ctrlKey || !this.hasPicture) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), [event.clientX, event.clientY]);
    }, { passive: false });
  }

  // Shows a blob, or the address of a picture; false if the browser cannot.
  async show(source) {
    const picture = byId("picture");
    const old = this.address;
    this.address = typeof source === "string" ? source : URL.createObjectURL(source);
    picture.src = this.address;
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    try {
      await picture.decode();
    } catch {
      return false;
    }
    byId("welcome").hidden = true;
    byId("paper").hidden = false;
    this.hasPicture = true;
    this.setSize([picture.naturalWidth, picture.naturalHeight]);
    return true;
  }

  // Shows no picture.
  clear() {
    byId("welcome").hidden = false;
    byId("paper").hidden = true;
    this.hasPicture = false;
  }

  setSize(size) {
    const changed = size[0] !== this.size[0] || size[1] !== this.size[1];
    this.size = size;
    byId("stage").style.setProperty("--aspect", size[0] / size[1]);
    byId("stage").classList.add("filled");
    if (changed) this.fit();
  }

  fit() {
    const stage = byId("stage");
    const fitting = Math.min((stage.clientWidth - 2 * MARGIN) / this.size[0], (stage.clientHeight - 2 * MARGIN) / this.size[1]);
    this.isFitted = true;
    this.resize(Math.max(Math.min(fitting, 4), 0.001));
  }

  // Larger or smaller around a place on the screen, or the middle.
  zoom(factor, at) {
    const stage = byId("stage");
    const box = stage.getBoundingClientRect();
    const [x, y] = at ?? [box.left + box.width / 2, box.top + box.height / 2];
    const before = byId("paper").getBoundingClientRect();
    const part = [(x - before.left) / before.width, (y - before.top) / before.height];
    this.isFitted = false;
    this.resize(Math.min(Math.max(this.scale * factor, 0.02), LARGEST));
    const after = byId("paper").getBoundingClientRect();
    stage.scrollLeft += after.left + part[0] * after.width - x;
    stage.scrollTop += after.top + part[1] * after.height - y;
  }

  resize(scale) {
    this.scale = scale;
    const paper = byId("paper");
    paper.style.width = `${this.size[0] * scale}px`;
    paper.style.height = `${this.size[1] * scale}px`;
    this.editor.draw();
  }

  // Grey pictures in base64, by name; null for none.
  async setMaps(maps) {
    this.maps = {};
    for (const [name, text] of Object.entries(maps ?? {})) {
      const image = new Image();
      image.src = `data:image/png;base64,${text}`;
      await image.decode();
      this.maps[name] = heatCanvas(image);
    }
    this.showMap(byId("show-heat").checked ? "heat" : byId("show-uncertainty").checked ? "uncertainty" : null);
  }

  showMap(name) {
    const map = name && this.maps[name];
    const canvas = byId("heat");
    canvas.hidden = !map;
    if (!map) return;
    [canvas.width, canvas.height] = [map.width, map.height];
    canvas.getContext("2d").drawImage(map, 0, 0);
  }
}
