// Files that the page gives: zones, and what the server makes of the picture.

import { drawnPicture } from "./api.js";

const byId = (id) => document.getElementById(id);

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function setUpDownloads(state, layout, zonesInput, loadZones, fail) {
  byId("load-zones").addEventListener("click", () => zonesInput.click());
  zonesInput.addEventListener("change", () => {
    if (zonesInput.files[0]) loadZones(zonesInput.files[0]);
    zonesInput.value = "";
  });
  byId("download-zones").addEventListener("click", () => {
    save(new Blob([layout.toJson(), "\n"], { type: "application/json" }), "zones.json");
  });
  // The engine's own files: the server counts once more, to the same result.
  for (const [id, kind, suffix] of [["png", "image/png", "png"], ["csv", "text/csv", "csv"], ["json", "application/json", "json"]]) {
    byId(`download-${id}`).addEventListener("click", async (event) => {
      event.target.disabled = true;
      try {
        save(await drawnPicture(state.blob, layout.toJson(), kind), `${state.name}.${suffix}`);
        fail("");
      } catch (error) {
        fail(error);
      }
      event.target.disabled = false;
    });
  }
}
