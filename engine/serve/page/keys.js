// Drawing and changing zones and lines with the keyboard.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A key that is pressed on the picture, or on a corner of the chosen shape.
export function useKey(editor, event) {
  const arrow = ARROWS[event.key];
  const corner = event.target.dataset?.corner;
  let used = false;
  if (editor.draft) used = drawByKey(editor, event, arrow);
  else if (corner !== undefined && editor.layout.selected) used = changeByKey(editor, event, arrow, Number(corner));
  if (!used) return;
  event.preventDefault();
  event.stopPropagation();
}

// One hundredth of the picture, or one pixel.
function stride(editor, event) {
  return event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(...editor.size) / 100));
}

function drawByKey(editor, event, arrow) {
  const { draft, size } = editor;
  const middle = [size[0] / 2, size[1] / 2];
  if (arrow) {
    const from = draft.cursor ?? middle;
    const step = stride(editor, event);
    draft.cursor = [0, 1].map((axis) => Math.min(Math.max(from[axis] + step * arrow[axis], 0), size[axis]));
    draft.byKey = true;
    editor.draw();
  } else if (event.key === " ") {
    draft.byKey = true;
    editor.addCorner(draft.cursor ?? middle);
  } else if (event.key === "Enter") {
    if (draft.kind === "line" && draft.cursor) editor.addCorner(draft.cursor);
    else editor.finish();
  } else if (event.key === "Backspace") {
    draft.corners.pop();
    editor.tell();
    editor.draw();
  } else return false;
  return true;
}

function changeByKey(editor, event, arrow, corner) {
  const { layout, size } = editor;
  const shape = layout.selected;
  const corners = layout.pixels(shape, size);
  if (arrow) {
    if (!event.repeat) layout.remember();
    const step = stride(editor, event);
    const moved = [0, 1].map((axis) => corners[corner][axis] + step * arrow[axis]);
    shape.corners[corner] = layout.corner(moved, size);
  } else if (event.key === "Insert" && shape.kind !== "line") {
    layout.remember();
    const next = corners[(corner + 1) % corners.length];
    const middle = [0, 1].map((axis) => (corners[corner][axis] + next[axis]) / 2);
    shape.corners.splice(corner + 1, 0, layout.corner(middle, size));
  } else if ((event.key === "Delete" || event.key === "Backspace") && shape.kind !== "line" && corners.length > 3) {
    layout.remember();
    shape.corners.splice(corner, 1);
  } else return false;
  layout.changed();
  return true;
}
