/* SPDX-License-Identifier: Apache-2.0 */

// What the timeline shows: which spans, which part of the time, and which
// span is selected.

const SHORTEST_VIEW = 10;

const collapsed = new Uint8Array(spans.length);
const folded = new Uint8Array(spans.length);  // first of a run, which is a row
for (const i of lateWithOthers) collapsed[i] = 1;
for (const first of runs.keys()) folded[first] = 1;
const chosen = new Set();  // what is shown by the legend; all if empty
let shown = [];  // the span of each row
let active = 0;  // the selected span

// All of the trace, or without what is late: that may go on for long.
$("without-late").checked = spans.some((_, i) => isLate(i));
const extent = () => [0, $("without-late").checked ? workEnd : traceLength];
let view = extent();

const isZoomed = () => view[0] > 0 || view[1] < extent()[1];
const isInView = i => beginOf(i) <= view[1] && endOf(i) >= view[0];
/** The run that a row is, or none. */
const runAt = i => folded[i] ? runs.get(i) : undefined;
const isClosed = i => Boolean(folded[i] || collapsed[i]);

/** Mark the spans that the filters leave, and all above them. */
function filterSpans() {
  const keep = new Uint8Array(spans.length);
  const isFiltered = $("problems").checked;
  const isWithoutLate = $("without-late").checked;
  const isPathOnly = $("path-only").checked;
  for (let span = 0; span < spans.length; span++) {
    if (isFiltered && !isProblem(span) || isWithoutLate && isLate(span)
      || isPathOnly && !isOnPath(span)
      || chosen.size && !chosen.has(colourValue(span))
      || !isInView(span)) continue;
    for (let i = span; i >= 0 && !keep[i]; i = parentOf[i]) keep[i] = 1;
  }
  return keep;
}

function refresh() {
  const keep = filterSpans();
  const before = active;
  shown = [];
  for (let i = 0; i < spans.length;) {
    if (folded[i]) {
      const { end } = runs.get(i);
      if (keep.subarray(i, end).includes(1)) shown.push(i);
      i = end;
    } else {
      if (keep[i]) shown.push(i);
      i = keep[i] && !collapsed[i] ? i + 1 : subtreeEnd[i];
    }
  }
  // Else the nearest that is still there.
  while (active >= 0 && rowOf(active) < 0) active = aboveOf(active);
  if (active < 0) active = shown[0] ?? 0;
  $("grid").setAttribute("aria-rowcount", shown.length + 1);
  redraw();
  if (active !== before && !$("details").hidden) drawDetails();
}

/** What stands for a span that has no row: its run's row, or its parent's. */
function aboveOf(i) {
  const run = runOf[i] ?? -1;
  return run >= 0 && folded[run] && run !== i ? run : parentOf[i] ?? -1;
}

/** The row of a span; -1 when it has none. */
function rowOf(i) {
  let [low, high] = [0, shown.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (shown[middle] < i) low = middle + 1;
    else high = middle;
  }
  return shown[low] === i ? low : -1;
}

function select(i) {
  active = i;
  invalidateRows();
  reveal(i);
  if (!$("details").hidden) drawDetails();
}

/** Scroll so far that a span's row is in sight. */
function reveal(i) {
  const grid = $("grid");
  const top = rowOf(i) * rowHeight;
  const space = grid.clientHeight - $("head").offsetHeight - rowHeight;
  const nearest = clamp(grid.scrollTop, top - space, top);
  const isFar = Math.abs(nearest - grid.scrollTop) > space;
  grid.scrollTop = isFar ? top - space / 2 : nearest;
  draw();
}

/** Select a span that may be folded away or filtered out. */
function goTo(i) {
  showView("timeline");
  if (runOf[i] >= 0) folded[runOf[i]] = 0;
  for (let up = parentOf[i]; up >= 0; up = parentOf[up]) {
    collapsed[up] = 0;
    if (runOf[up] >= 0) folded[runOf[up]] = 0;
  }
  if (!isInView(i)) view = extent();
  refresh();
  if (rowOf(i) < 0) {
    $("problems").checked = $("path-only").checked = false;
    if (isLate(i)) $("without-late").checked = false;
    choose(null);
    if (!isInView(i)) view = extent();
    resize();
    refresh();
  }
  select(i);
}

function unfold(i) {
  (folded[i] ? folded : collapsed)[i] = 0;
  refresh();
}

/** Fold what is below a span, or else the run that it is in. */
function fold(i) {
  if (childCount[i] && !collapsed[i]) collapsed[i] = 1;
  else if (runOf[i] >= 0) folded[runOf[i]] = 1;
  refresh();
  reveal(active);
}

/** Show so many levels of the tree, and everything by default. */
function showLevels(levels = Infinity) {
  spans.forEach((span, i) => {
    collapsed[i] = Number(span[DEPTH] + 1 >= levels);
    if (runs.has(i)) folded[i] = Number(levels !== Infinity);
  });
  $("levels").value = levels === Infinity ? "all" : Math.min(levels, 9);
  refresh();
  reveal(active);
}

function zoom(begin, end) {
  const margin = Math.max(SHORTEST_VIEW - (end - begin), 0) / 2;
  view = [Math.max(begin - margin, 0), Math.min(end + margin, extent()[1])];
  refresh();
  reveal(active);
  announce(isZoomed() ? `${whole(shown.length)} rows in view` : "");
}

function zoomTo(i) {
  const [begin, end] = [beginOf(i), runAt(i)?.endTime ?? endOf(i)];
  const margin = (end - begin) / 50;
  zoom(begin - margin, end + margin);
}
