// Brings the page's parts together: pictures come in, counts and files go out.

import { countPicture, getBlob, getJson, putText } from "./api.js";
import { setUpCamera } from "./camera.js";
import { setUpDownloads } from "./downloads.js";
import { Editor } from "./editor.js";
import { Layout } from "./layout.js";
import { Live } from "./live.js";
import { exactPoints, leaveOut } from "./members.js";
import { Panel } from "./panel.js";
import { Stage } from "./stage.js";
import { setUpTabs } from "./tabs.js";

const byId = (id) => document.getElementById(id);

const state = { model: null, blob: null, isRefused: false, name: "picture", answer: null, result: null, request: null, zoneFile: null };
const layout = new Layout();
let stage = null;
// Before the panel and the editor, which show what this says.
layout.onChange(recount);
const panel = new Panel(byId("shapes"), layout, () => state.result);
const editor = new Editor(byId("drawing"), layout, {
  textOf: (shape) => panel.text(shape),
  say: (text) => { byId("hint").textContent = stage?.hasPicture ? text : ""; },
  drawingChanged: showTools,
});
stage = new Stage(editor);
const live = new Live(byId("streams"), byId("no-streams"), editFrame);
const showTab = setUpTabs(document.querySelector("nav"), (which) => {
  if (which === "live") live.start();
  else {
    live.stop();
    stage.fit();
  }
});

function fail(error) {
  byId("error").hidden = !error;
  byId("error").textContent = error ? String(error.message ?? error) : "";
}

// Shows a picture and has it counted.
async function open(blob, name) {
  state.request?.abort();
  const request = (state.request = new AbortController());
  Object.assign(state, { blob, isRefused: false, name: name.replace(/\.[^.]*$/, "") || "picture", answer: null });
  fail("");
  stage.setMaps(null);
  layout.changed();
  const isShown = await stage.show(blob);
  if (isShown) editor.show(stage.size, []);
  showTools();
  if (!state.model?.counts) return;
  if (blob.size > state.model.max_bytes) {
    refuse(`The picture has ${(blob.size / 2 ** 20).toFixed(1)} MiB; this server takes ${(state.model.max_bytes / 2 ** 20).toFixed(0)}.`, isShown);
    return;
  }
  byId("busy").hidden = false;
  try {
    const answer = await countPicture(blob, { needsPicture: !isShown, signal: request.signal });
    if (request.signal.aborted) return;
    await take(answer);
  } catch (error) {
    if (!request.signal.aborted) refuse(error, isShown);
  } finally {
    if (state.request === request) byId("busy").hidden = true;
  }
}

// Says why the picture is not counted; what the browser cannot show either leaves nothing to draw on.
function refuse(error, isShown) {
  state.isRefused = true;
  fail(error);
  if (!isShown) stage.clear();
  layout.changed();
}

// Shows what was counted.
async function take(answer) {
  if (answer.picture) await stage.show(dataUrl("image/jpeg", answer.picture));
  stage.setSize(answer.image_size);
  state.answer = { ...answer, points: exactPoints(answer.points), size: answer.image_size };
  await stage.setMaps(answer.maps);
  editor.show(stage.size, state.answer.points);
  layout.changed();
}

// What is left of the answer when nobody counts in the zones to ignore.
function recount() {
  const { answer } = state;
  const ignored = layout.shapes.filter((shape) => shape.kind === "ignore");
  state.result = answer && ignored.length
    ? { ...answer, ...leaveOut(answer.points, answer.interval, ignored.map((shape) => layout.pixels(shape, answer.size)), answer.size) }
    : answer;
  editor.points = state.result?.points ?? [];
  showResult();
}

const dataUrl = (kind, text) => `data:${kind};base64,${text}`;

const text = (number) => number.toLocaleString("en");

function showResult() {
  const { result } = state;
  const waiting = state.model?.counts === false ? "" : state.isRefused ? "not counted" : "counting…";
  const count = result ? text(result.count) : "–";
  const interval = result ? `between ${result.interval.map(text).join(" and ")}` : state.blob ? waiting : "no picture yet";
  // What is the same is not read out again.
  if (byId("count").dataset.shown !== count) {
    byId("count").dataset.shown = byId("count").textContent = count;
    if (result) byId("count").append(Object.assign(document.createElement("small"), { textContent: result.count === 1 ? "person" : "people" }));
    byId("count").classList.toggle("nothing", !result);
  }
  if (byId("interval").textContent !== interval) byId("interval").textContent = interval;
  const warnings = (result?.warnings ?? []).map((words) => Object.assign(document.createElement("li"), { textContent: words }));
  byId("warnings").replaceChildren(...warnings);
  showTools();
}

function showTools() {
  const { draft } = editor;
  for (const kind of ["zone", "line"]) {
    const button = byId(`draw-${kind}`);
    button.disabled = !stage.hasPicture;
    button.setAttribute("aria-pressed", String(draft?.kind === kind));
  }
  for (const id of ["smaller", "larger", "fit"]) byId(id).disabled = !stage.hasPicture;
  byId("drawing-buttons").hidden = !draft;
  byId("undo").disabled = !layout.past.length;
  byId("redo").disabled = !layout.future.length;
  byId("no-shapes").hidden = layout.shapes.length > 0;
  byId("download-zones").disabled = !layout.shapes.length;
  const recounts = Boolean(state.result && state.model?.counts);
  for (const id of ["download-png", "download-csv", "download-json"]) byId(id).disabled = !recounts;
  for (const [id, has] of [["show-heat", stage.maps.heat], ["show-uncertainty", stage.maps.uncertainty]]) byId(id).disabled = !has;
}

function draw(kind) {
  if (!stage.hasPicture) return;
  if (editor.draft) editor.stop();
  byId("show-shapes").checked = editor.showsShapes = true;
  editor.start(kind);
}

// The newest frame of a stream, with what was counted in it.
async function editFrame(name) {
  try {
    const { title, picture, status } = await getJson(`v1/streams/${encodeURIComponent(name)}/snapshot`);
    showTab("count");
    state.request?.abort();
    const blob = bytes(picture);
    Object.assign(state, { blob, name: title, answer: null });
    fail("");
    await Promise.all([stage.show(blob), stage.setMaps(null)]);
    editor.show(stage.size, []);
    if (status.points) await take({ ...status, maps: null });
    else layout.changed();
  } catch (error) {
    fail(error);
    showTab("count");
  }
}

function bytes(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
}

function setUpInputs() {
  const pick = (input) => input.addEventListener("change", () => {
    if (input.files[0]) open(input.files[0], input.files[0].name);
    input.value = "";
  });
  pick(byId("file"));
  pick(byId("photo"));
  for (const id of ["open", "choose"]) byId(id).addEventListener("click", () => byId("file").click());
  const target = byId("stage");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("drop");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || target.classList.remove("drop"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("drop");
    takeFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
  setUpCamera((blob) => open(blob, "camera"), fail);
}

// What is dropped or pasted: zones, or a picture.
function takeFile(file) {
  if (!file) return;
  if (file.name.endsWith(".json")) loadZones(file);
  else open(file, file.name);
}

async function loadZones(file) {
  try {
    layout.load(JSON.parse(await file.text()));
    fail("");
  } catch (error) {
    fail(`${file.name} cannot be read: ${error.message}`);
  }
}

function setUpTools() {
  byId("draw-zone").addEventListener("click", () => (editor.draft?.kind === "zone" ? editor.stop() : draw("zone")));
  byId("draw-line").addEventListener("click", () => (editor.draft?.kind === "line" ? editor.stop() : draw("line")));
  byId("done").addEventListener("click", () => editor.finish());
  byId("cancel").addEventListener("click", () => editor.stop());
  byId("undo").addEventListener("click", () => layout.undo());
  byId("redo").addEventListener("click", () => layout.redo());
  byId("smaller").addEventListener("click", () => stage.zoom(1 / 1.4));
  byId("larger").addEventListener("click", () => stage.zoom(1.4));
  byId("fit").addEventListener("click", () => stage.fit());
  byId("show-heads").addEventListener("change", (event) => { editor.showsHeads = event.target.checked; editor.draw(); });
  byId("show-shapes").addEventListener("change", (event) => { editor.showsShapes = event.target.checked; editor.draw(); });
  // The two share the colours.
  for (const [id, other] of [["heat", "uncertainty"], ["uncertainty", "heat"]]) {
    byId(`show-${id}`).addEventListener("change", (event) => {
      if (event.target.checked) byId(`show-${other}`).checked = false;
      stage.showMap(event.target.checked ? id : null);
    });
  }
  document.addEventListener("keydown", shortcut);
}

function shortcut(event) {
  if (event.defaultPrevented || event.target.matches("input, dialog *")) return;
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    if (key === "y" || event.shiftKey) layout.redo();
    else layout.undo();
    event.preventDefault();
    return;
  }
  const acts = {
    z: () => draw("zone"),
    l: () => draw("line"),
    o: () => byId("file").click(),
    Escape: () => (editor.draft ? editor.stop() : ((layout.selected = null), layout.changed())),
    Delete: () => layout.selected && layout.remove(layout.selected),
    "+": () => stage.zoom(1.4),
    "-": () => stage.zoom(1 / 1.4),
    0: () => stage.fit(),
  };
  if (Object.hasOwn(acts, event.key) && !byId("view-count").hidden) {
    acts[event.key]();
    event.preventDefault();
  }
}

// The file that `crowd zones` edits.
async function openZoneFile() {
  const file = await getJson("v1/zone-file");
  state.zoneFile = file;
  if (file.layout) layout.load(file.layout);
  layout.past = [];
  const button = byId("save-file");
  button.hidden = false;
  button.textContent = `Save ${file.name}`;
  button.addEventListener("click", async () => {
    try {
      await putText("v1/zone-file", layout.toJson());
      fail("");
      byId("hint").textContent = `${file.name} is saved.`;
    } catch (error) {
      fail(error);
    }
  });
  await open(await getBlob("v1/zone-file/picture"), file.title);
}

async function begin() {
  setUpInputs();
  setUpTools();
  setUpDownloads(state, layout, byId("zones-input"), loadZones, fail);
  showTools();
  try {
    const [model, streams] = await Promise.all([getJson("v1/model"), getJson("v1/streams")]);
    state.model = model;
    byId("model").textContent = model.counts ? `${model.model} · ${model.backend} · ${model.compute_type}` : "";
    document.querySelector("nav").hidden = !streams.length;
    if (!model.counts) byId("welcome-text").textContent = "This server shows streams. Draw zones on a frame of one, or on a picture:";
    if (model.edits_zones) await openZoneFile();
    else if (streams.length && !model.counts) showTab("live");
  } catch (error) {
    fail(error);
  }
  document.body.dataset.ready = "true";
}

begin();
