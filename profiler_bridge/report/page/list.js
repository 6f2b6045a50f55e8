/* SPDX-License-Identifier: Apache-2.0 */

// The table of all spans: as in the timeline, only the lines in sight exist.

const LINE_HEIGHT = 25;
const MAX_BEYOND = 4;  // lines that exist above and below

// The title, what to sort by, and how to write it if a number.
const LIST_COLUMNS = [
  ["Operation", i => textOf(i, OPERATION), null],
  ["Duration", i => spans[i][DURATION] ?? -1, durationText],
  ["Self", i => spans[i][SELF] ?? -1,
    i => isOpen(i) ? "" : duration(spans[i][SELF])],
  ["On path", i => pathTime(i), i => isOnPath(i) ? duration(pathTime(i)) : ""],
  ["Started", i => beginOf(i), i => "+" + duration(beginOf(i))],
  ["Service @ host", serviceAtHost, null],
  ["What", i => textOf(i, WHAT), null],
  ["Error", i => textOf(i, FAILURE), null],
];
const BY_DURATION = 1;

let listed = null;  // the spans in the order of lines, once somebody looks

function sortList(column, isFalling) {
  const key = LIST_COLUMNS[column][1];
  const keys = spans.map((_, i) => key(i));
  const sign = isFalling ? -1 : 1;
  listed = [...spans.keys()].sort((a, b) =>
    keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b);
  [...$("list-head").cells].forEach((cell, n) => cell.setAttribute(
    "aria-sort",
    n !== column ? "none" : isFalling ? "descending" : "ascending"));
  $("spans").scrollTop = 0;
  drawList();
}

function fillListHead() {
  LIST_COLUMNS.forEach(([title, , format], n) => {
    const cell = make("th", format ? "number" : "");
    const isFalling = { descending: false, ascending: true };
    cell.scope = "col";
    cell.append(makeButton(title, "", () => sortList(n,
      isFalling[cell.getAttribute("aria-sort")] ?? Boolean(format))));
    $("list-head").append(cell);
  });
}

function makeLine(position) {
  const i = listed[position];
  const line = make("tr");
  line.setAttribute("aria-rowindex", position + 2);
  LIST_COLUMNS.forEach(([, key, format], n) => {
    const content = format ? format(i) : visible(key(i));
    const cell = make(n ? "td" : "th", format ? "number" : "");
    cell.append(n ? content : makeButton(content || "(none)", "link", () => {
      goTo(i);
      openDetails();
      $("grid").focus();
    }));
    line.append(cell);
  });
  return line;
}

function drawList() {
  if (!listed) {
    fillListHead();
    sortList(BY_DURATION, true);
    return;
  }
  const section = $("spans");
  const top = Math.floor(section.scrollTop / LINE_HEIGHT) - MAX_BEYOND;
  const first = clamp(top, 0, listed.length);
  const end = Math.min(listed.length, first + 2 * MAX_BEYOND
    + Math.ceil(section.clientHeight / LINE_HEIGHT));
  const makeSpace = lines => {
    const space = make("tr", "space");
    space.style.height = lines * LINE_HEIGHT + "px";
    space.setAttribute("aria-hidden", "true");
    return space;
  };
  const lines = [];
  for (let n = first; n < end; n++) lines.push(makeLine(n));
  $("list").setAttribute("aria-rowcount", listed.length + 1);
  $("lines").replaceChildren(makeSpace(first), ...lines,
    makeSpace(listed.length - end));
}

$("spans").addEventListener("scroll", () => requestAnimationFrame(drawList));
