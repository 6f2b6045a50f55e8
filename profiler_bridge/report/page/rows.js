/* SPDX-License-Identifier: Apache-2.0 */

// The rows of the timeline: only those in sight exist, and are used again.

const MAX_INDENT = 16;
const MAX_PRINTED = 2000;
const MAX_TOOLTIP = 2000;

const pool = [];
let rowHeight = 0;
let version = 0;  // a row drawn for another one is out of date
let isDrawing = false;
let isPrinting = false;

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
  const parts = ["toggle", "depth", "mark", "name", "failure", "what"];
  for (const name of parts) add(row.operation, name);
  add(row.time, "bar");
  row.toggle.setAttribute("aria-hidden", "true");
  row.element.addEventListener("click", event => {
    select(row.span);
    if (event.target === row.toggle) fold(row.span, !collapsed[row.span]);
    else openDetails();
  });
  row.operation.addEventListener("pointerenter", () => {
    row.operation.title = fullText(row.span);
  });
  row.element.addEventListener("dblclick", event => {
    if (event.target !== row.toggle) zoomTo(row.span);
  });
  return row;
}

function fillRow(row, position) {
  const i = row.span = shown[position];
  const [depth, inside] = [spans[i][DEPTH], insideCount(i)];
  const { element } = row;
  element.id = "row-" + i;
  element.className = "row" + (i === active ? " active" : "")
    + (isHit[i] ? " hit" : "") + (isLate(i) ? " late" : "");
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
  if (inside) element.setAttribute("aria-expanded", !collapsed[i]);
  else element.removeAttribute("aria-expanded");
  element.style.setProperty("--depth", Math.min(depth, MAX_INDENT));
  row.toggle.textContent = inside ? "\u25be\u25b8"[collapsed[i]] : "";
  row.depth.textContent = depth > MAX_INDENT ? depth : "";
  row.mark.textContent = isFailed(i) ? "error" : isOpen(i) ? "?"
    : isLate(i) ? "late" : "";
  row.mark.classList.toggle("failed", isFailed(i));
  row.name.textContent = visible(textOf(i, OPERATION));
  row.failure.textContent = visible(textOf(i, FAILURE));
  row.what.textContent = visible(textOf(i, WHAT))
    + (collapsed[i] ? ` (+${whole(inside)} inside)` : "");
  row.operation.title = "";
  row.where.textContent = row.where.title = visible(serviceAtHost(i));
  row.duration.textContent = durationText(i);
  row.self.textContent = isOpen(i) ? "" : milliseconds(spans[i][SELF]);
  row.time.setAttribute("aria-label", `from ${milliseconds(beginOf(i))} ms`);
  drawBar(row.bar, i);
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
