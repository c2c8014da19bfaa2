// The running streams: their pictures, numbers and the last minutes.

import { element } from "./canvas.js";
import { getJson } from "./api.js";

const EVERY = 1000;
const KEPT = 300;
// A browser holds six connections to one server, for all its tabs, and each moving picture is one of them. Of more
// streams, the newest frame is asked for again and again.
const MOST_MOVING = 2;

const make = (name, className, text) => Object.assign(document.createElement(name), { className, textContent: text ?? "" });

class Card {
  constructor(stream, edit) {
    this.node = make("article", "stream");
    this.picture = Object.assign(document.createElement("img"), { alt: `The newest frame of ${stream.title}` });
    this.address = `v1/streams/${encodeURIComponent(stream.name)}`;
    // Whether the picture moves; whether it could not, as where there are too many viewers; and the frame that is shown.
    this.moves = this.failed = false;
    this.shown = 0;
    this.picture.addEventListener("error", () => (this.failed ||= this.moves));
    this.number = make("p", "number");
    this.alerts = make("p", "alert");
    this.zones = make("ul", "");
    this.line = element("polyline", {});
    this.chart = element("svg", { viewBox: `0 0 ${KEPT} 100`, preserveAspectRatio: "none", role: "img" }, this.line);
    this.state = make("p", "small");
    this.history = [];
    const text = make("div", "text");
    const button = make("button", "", "Draw zones on this frame");
    button.addEventListener("click", () => edit(stream.name));
    this.title = make("h3", "", stream.title);
    text.append(this.title, this.number, this.alerts, this.zones, this.chart, this.state, button);
    this.node.append(this.picture, text);
    this.frames = -1;
  }

  showPicture(frames, mayMove) {
    if (mayMove && !this.failed) {
      if (!this.moves) this.picture.src = `${this.address}/live.mjpg`;
      this.moves = true;
    } else if (this.moves || (frames !== this.shown && this.picture.complete)) {
      this.moves = false;
      this.shown = frames;
      if (frames) this.picture.src = `${this.address}/frame.jpg?${frames}`;
    }
  }

  show({ title, frames, dropped, status }, mayMove) {
    this.showPicture(frames, mayMove);
    this.title.textContent = title;
    const known = "count" in status;
    const interval = make("span", "", known ? `${status.interval[0]} to ${status.interval[1]}` : "");
    const nothing = frames ? "not counted now" : "waiting for the first frame";
    this.number.replaceChildren(known ? `${status.count} ${status.count === 1 ? "person" : "people"}` : nothing, interval);
    const alerts = status.alerts ?? [];
    this.alerts.hidden = !alerts.length;
    this.alerts.textContent = `Alert: ${alerts.join(", ")}`;
    this.node.classList.toggle("alarmed", alerts.length > 0);
    const zones = Object.entries(status.zones ?? {}).map(([name, people]) => `${name}: ${people}`);
    const lines = Object.entries(status.lines ?? {}).map(([name, [left, right]]) => `${name}: ${left} left, ${right} right`);
    this.zones.replaceChildren(...[...zones, ...lines].map((words) => make("li", "", words)));
    const parts = [`${frames} frame${frames === 1 ? "" : "s"} counted`];
    if (dropped) parts.push(`${dropped} left out`);
    if (status.state) parts.push(status.state);
    this.state.textContent = parts.join(" · ");
    if (known && frames !== this.frames) this.remember(status.count);
    this.frames = frames;
  }

  remember(count) {
    this.history = [...this.history, count].slice(-KEPT);
    const top = Math.max(...this.history, 1);
    const step = KEPT / Math.max(this.history.length - 1, 1);
    this.line.setAttribute("points", this.history.map((people, at) => `${at * step},${97 - (94 * people) / top}`).join(" "));
    this.chart.setAttribute("aria-label", `the last ${this.history.length} counts, at most ${Math.max(...this.history)}`);
  }

  // The browser drops a motion picture whose server ended; a lost one is asked for again.
  close() {
    this.picture.removeAttribute("src");
    this.node.remove();
  }
}

export class Live {
  constructor(container, nothing, edit) {
    Object.assign(this, { container, nothing, edit });
    this.cards = new Map();
    this.timer = null;
  }

  start() {
    if (this.timer === null) this.look();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.cards.forEach((card) => card.close());
    this.cards.clear();
  }

  async look() {
    this.timer = setTimeout(() => this.look(), EVERY);
    try {
      this.show(await getJson("v1/streams"));
    } catch (error) {
      this.nothing.hidden = false;
      this.nothing.textContent = `The streams have ended: ${error.message}.`;
    }
  }

  show(streams) {
    if (this.timer === null) return;
    this.nothing.hidden = streams.length > 0;
    this.nothing.textContent = "No stream runs on this server.";
    for (const [name, card] of this.cards) {
      if (!streams.some((stream) => stream.name === name)) {
        card.close();
        this.cards.delete(name);
      }
    }
    for (const stream of streams) {
      if (!this.cards.has(stream.name)) {
        const card = new Card(stream, this.edit);
        this.cards.set(stream.name, card);
        this.container.append(card.node);
      }
      this.cards.get(stream.name).show(stream, streams.length <= MOST_MOVING);
    }
  }
}
