/* SPDX-License-Identifier: Apache-2.0 */

// What the timeline shows: which spans, which part of the time, and which
// span is selected.

const SHORTEST_VIEW = 10;

const collapsed = new Uint8Array(spans.length);
let shown = [];  // the span of each row
let active = 0;  // the selected span
let view = [0, traceLength];

const isZoomed = () => view[0] > 0 || view[1] < traceLength;
const isInView = i => beginOf(i) <= view[1] && endOf(i) >= view[0];

/** Mark the spans that the filters leave, and all above them. */
function filterSpans() {
  const keep = new Uint8Array(spans.length);
  const isFiltered = $("problems").checked;
  const isWithoutLate = $("without-late").checked;
  for (let span = 0; span < spans.length; span++) {
    if (isFiltered && !isProblem(span) || isWithoutLate && isLate(span)
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
    if (keep[i]) shown.push(i);
    i = keep[i] && !collapsed[i] ? i + 1 : subtreeEnd[i];
  }
  // Else the nearest above that is still there.
  while (active >= 0 && rowOf(active) < 0) active = parentOf[active] ?? -1;
  if (active < 0) active = shown[0] ?? 0;
  $("grid").setAttribute("aria-rowcount", shown.length + 1);
  redraw();
  if (active !== before && !$("details").hidden) drawDetails();
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
  for (let up = parentOf[i]; up >= 0; up = parentOf[up]) collapsed[up] = 0;
  if (!isInView(i)) view = [0, traceLength];
  refresh();
  if (rowOf(i) < 0) {
    $("problems").checked = $("without-late").checked = false;
    refresh();
  }
  select(i);
}

function fold(i, isFolded) {
  if (!childCount[i]) return;
  collapsed[i] = isFolded;
  refresh();
}

function foldAll(isFolded) {
  collapsed.fill(isFolded);
  refresh();
  reveal(active);
}

function zoom(begin, end) {
  const margin = Math.max(SHORTEST_VIEW - (end - begin), 0) / 2;
  view = [Math.max(begin - margin, 0), Math.min(end + margin, traceLength)];
  refresh();
  reveal(active);
  announce(isZoomed() ? `${whole(shown.length)} rows in view` : "");
}

function zoomTo(i) {
  const margin = (endOf(i) - beginOf(i)) / 50;
  zoom(beginOf(i) - margin, endOf(i) + margin);
}
