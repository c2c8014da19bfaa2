// Who is in which zone, and on which side of a line: the rule of engine/zones/members.py, number for number.
// Both are tested with the same vectors.

const RATIO_OFFSET = 5;
const SHARE_DEVIATIONS = 2;
const HAIR = 1e-9;

// The largest number below x > 0.
function below(x) {
  const floats = new Float64Array([x]);
  const bits = new BigUint64Array(floats.buffer);
  bits[0] -= 1n;
  return floats[0];
}

// Points as the engine has them: float32, which JSON's decimals stand for.
export function exactPoints(points) {
  return points.map(([x, y]) => [Math.fround(x), Math.fround(y)]);
}

// Even-odd, with half-open borders: a point on an edge belongs to the zone to its right or, of a level edge, below it.
function isInside([x, y], corners) {
  let inside = false;
  corners.forEach((start, number) => {
    const end = corners[(number + 1) % corners.length];
    // Upper end first: the two zones at a border run along it in opposite directions, and must round alike.
    const [[x0, y0], [x1, y1]] = start[1] <= end[1] ? [start, end] : [end, start];
    if (y0 <= y && y < y1 && (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0)) inside = !inside;
  });
  return inside;
}

// For each point, whether it is inside; a point on the right or lower border of the picture is just inside it.
export function membersOf(points, corners, size) {
  const last = size ? [below(size[0]), below(size[1])] : [Infinity, Infinity];
  return points.map(([x, y]) => isInside([Math.min(x, last[0]), Math.min(y, last[1])], corners));
}

export function countZone(points, corners, size) {
  return membersOf(points, corners, size).filter(Boolean).length;
}

// People on the [left, right] of a line from its start to its end, which runs on beyond both; on it is right.
export function countSides(points, [[x0, y0], [x1, y1]]) {
  const right = points.filter(([x, y]) => (x1 - x0) * (y - y0) >= (x - x0) * (y1 - y0)).length;
  return [points.length - right, right];
}

// Who counts, if nobody does in some zones, and the interval of their number: engine/zones/ignore.py.
export function leaveOut(points, interval, ignored, size) {
  const out = ignored.map((corners) => membersOf(points, corners, size));
  const kept = points.filter((_, number) => !out.some((inside) => inside[number]));
  return { points: kept, count: kept.length, interval: zoneInterval(kept.length, points.length, interval) };
}

// [low, high] of the people in a zone, from the interval of the whole picture.
export function zoneInterval(people, count, [low, high]) {
  const apart = count ? SHARE_DEVIATIONS * Math.sqrt(people * (1 - people / count)) : 0;
  const scaled = (end) =>
    Math.max((people + RATIO_OFFSET) * ((end + RATIO_OFFSET) / (count + RATIO_OFFSET)) - RATIO_OFFSET, 0);
  return [Math.max(Math.floor(scaled(low) - apart + HAIR), 0), Math.min(Math.ceil(scaled(high) + apart - HAIR), high)];
}
