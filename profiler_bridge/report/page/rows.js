/* SPDX-License-Identifier: Apache-2.0 */

// The rows of the timeline: only those in sight exist, and are used again.

const NARROW = 720;
const MAX_INDENT = 16;
const MAX_PRINTED = 2000;
const MAX_TOOLTIP = 2000;

const pool = [];
let rowHeight = 0;
let version = 0;  // a row drawn for another one is out of date
let isDrawing = false;
let isPrinting = false;

/** Whether a span is shown only for what is below it. */
const isOut = i => chosen.size > 0 && !chosen.has(colourValue(i));

/** What a span did, as it was sent. */
function fullText(i) {
  const { db, function: called, request, requests } =
    (payloadOf(i, START) ?? payloadOf(i, STOP)).info ?? {};
  const sent = db?.statement ?? called?.name ?? request?.path
    ?? requests?.path;
  return [textOf(i, OPERATION), sent, textOf(i, FAILURE)]
    .filter(text => text && typeof text === "string")
    .map(text => visibleLines(text.slice(0, MAX_TOOLTIP))).join("\n");
}

function makeRow() {
  const row = { element: make("div", "row") };
  const add = (container, name, role) => {
    row[name] = container.appendChild(make("span", name));
    if (role) row[name].setAttribute("role", role);
  };
  row.element.setAttribute("role", "row");
  for (const name of ["operation", "where", "duration", "self", "time"]) {
    add(row.element, name, "gridcell");
  }
  const parts = ["toggle", "depth", "mark", "name", "times", "failure",
    "what", "hint"];
  for (const name of parts) add(row.operation, name);
  row.hint.textContent = "Details";
  row.hint.setAttribute("aria-hidden", "true");
  add(row.time, "bar");
  add(row.time, "on-path");
  row.toggle.setAttribute("aria-hidden", "true");
  row.element.addEventListener("click", event => {
    select(row.span);
    if (event.target !== row.toggle && event.target !== row.times) {
      openDetails();
    } else if (isClosed(row.span)) {
      unfold(row.span);
    } else {
      fold(row.span);
    }
  });
  row.operation.addEventListener("pointerenter", () => {
    row.operation.title = fullText(row.span);
  });
  row.time.addEventListener("pointerenter", () => {
    row.time.title = `${nameOf(row.span)}: ${row.duration.textContent}, `
      + row.time.getAttribute("aria-label");
  });
  row.element.addEventListener("dblclick", event => {
    if (event.target !== row.toggle && event.target !== row.times) {
      zoomTo(row.span);
    }
  });
  return row;
}

/** What a row is called: the operation, or those that come in turn. */
function nameOf(i) {
  const run = runAt(i);
  if (!run || run.period === 1) return visible(textOf(i, OPERATION));
  const names = [];
  for (let n = 0, at = i; n < run.period; n++, at = subtreeEnd[at]) {
    names.push(visible(textOf(at, OPERATION)));
  }
  return `(${names.join("; ")})`;
}

/** Whether a span ran elsewhere than its parent. */
function isElsewhere(i) {
  const parent = spans[parentOf[i]];
  return !parent || parent[SERVICE] !== spans[i][SERVICE]
    || parent[HOST] !== spans[i][HOST];
}

function fillRow(row, position) {
  const i = row.span = shown[position];
  const [depth, inside, run] = [spans[i][DEPTH], insideCount(i), runAt(i)];
  const { element } = row;
  element.id = "row-" + i;
  const className = "row" + (i === active ? " active" : "")
    + (isHit[i] || run && hitRuns.has(i) ? " hit" : "")
    + (isLate(i) ? " late" : "") + (isOut(i) ? " out" : "");
  if (element.className !== className) element.className = className;
  element.style.top = position * rowHeight + "px";
  const attributes = {
    rowindex: position + 2,
    level: depth + 1,
    posinset: siblingNumber[i],
    setsize: parentOf[i] < 0 ? roots : childCount[parentOf[i]],
    selected: i === active,
  };
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute("aria-" + name, value);
  }
  const isOpenable = inside || run;
  if (isOpenable) element.setAttribute("aria-expanded", !isClosed(i));
  else element.removeAttribute("aria-expanded");
  for (const indented of [row.operation, row.where]) {
    indented.style.setProperty("--depth", Math.min(depth, MAX_INDENT));
  }
  row.toggle.textContent = isOpenable || runs.has(i)
    ? "\u25be\u25b8"[Number(isClosed(i))] : "";
  row.depth.textContent = depth > MAX_INDENT ? depth : "";
  row.mark.textContent = isFailed(i) ? "error" : isOpen(i) ? "?"
    : isLate(i) ? "late" : "";
  row.mark.classList.toggle("failed", isFailed(i));
  row.name.textContent = nameOf(i);
  row.times.textContent = run ? `\u00d7 ${whole(run.times)}` : "";
  row.failure.textContent = visible(textOf(i, FAILURE));
  row.what.textContent = (run ? "" : visible(textOf(i, WHAT)))
    + (collapsed[i] && inside ? ` (+${whole(inside)} inside)` : "");
  row.operation.title = "";
  row.where.title = visible(serviceAtHost(i));
  // It is told once where it does not change down the tree.
  row.where.textContent = isElsewhere(i) ? row.where.title : "";
  row.duration.textContent = run ? duration(run.total) : durationText(i);
  row.self.textContent = isOpen(i) ? ""
    : duration(run ? run.self : spans[i][SELF]);
  const waited = pathTime(i, rowEnd(i));
  row.time.setAttribute("aria-label", `from ${duration(beginOf(i))}`
    + (waited ? `, ${duration(waited)} on the critical path` : ""));
  drawBar(row.bar, i);
  drawMark(row["on-path"], i);
}

function draw() {
  isDrawing = false;
  const grid = $("grid");
  let first = Math.max(Math.floor(grid.scrollTop / rowHeight) - 4, 0);
  let end = first + Math.ceil(grid.clientHeight / rowHeight) + 8;
  if (isPrinting) [first, end] = [0, MAX_PRINTED];
  end = Math.min(end, shown.length);
  $("rows").style.height = (isPrinting ? end : shown.length) * rowHeight
    + "px";
  if (pool.length < end - first) invalidateRows();
  while (pool.length < end - first) {
    pool.push(makeRow());
    $("rows").append(pool.at(-1).element);
  }
  // Row n is always drawn by the same element of the pool, so that scrolling
  // by one row fills one.
  for (let n = first; n < first + pool.length; n++) {
    const row = pool[n % pool.length];
    row.element.hidden = n >= end;
    if (n >= end || row.position === n && row.version === version) continue;
    Object.assign(row, { position: n, version });
    fillRow(row, n);
  }
  const isDrawn = shown.slice(first, end).includes(active);
  grid.setAttribute("aria-activedescendant", isDrawn ? "row-" + active : "");
}

function drawSoon() {
  if (!isDrawing) requestAnimationFrame(draw);
  isDrawing = true;
}

function invalidateRows() {
  version++;
}

function redraw() {
  invalidateRows();
  drawRuler();
  draw();
}

function resize() {
  // Where one line is too narrow, service and self time get a second.
  $("grid").classList.toggle("narrow", $("grid").clientWidth <= NARROW);
  rowHeight = $("grid").clientHeight && parseFloat(
    getComputedStyle($("rows")).getPropertyValue("--row-height"));
  if (!rowHeight) return;  // another view is shown
  drawOverview();
  redraw();
}

/** Draw all rows, as far as anybody prints, or again those in sight. */
function drawForPrint(isStarting) {
  isPrinting = isStarting;
  for (const row of pool.splice(0)) row.element.remove();
  redraw();
}
