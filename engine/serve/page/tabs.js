// The two views of the page, of which one is shown: pictures and streams.

const VIEWS = ["count", "live"];
const byId = (id) => document.getElementById(id);

// Returns the function that shows a view; `shown` is told which.
export function setUpTabs(tabs, shown) {
  function show(which) {
    for (const name of VIEWS) {
      const chosen = name === which;
      byId(`tab-${name}`).setAttribute("aria-selected", String(chosen));
      byId(`tab-${name}`).tabIndex = chosen ? 0 : -1;
      byId(`view-${name}`).hidden = !chosen;
    }
    shown(which);
  }
  for (const name of VIEWS) byId(`tab-${name}`).addEventListener("click", () => show(name));
  tabs.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = byId("view-count").hidden ? "count" : "live";
    show(other);
    byId(`tab-${other}`).focus();
  });
  return show;
}
