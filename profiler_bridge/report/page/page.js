/* SPDX-License-Identifier: Apache-2.0 */

// The page around the views, its keys and its other events; the beginning of
// everything.

function showView(name) {
  $("show-" + name).checked = true;
  resize();
}

function drawHeader() {
  const count = test => [...spans.keys()].filter(test).length;
  const addFact = (title, content, className) => {
    const pair = $("facts").appendChild(make("div", className));
    pair.append(make("dt", "", title), make("dd", "", content));
  };
  const failed = count(isFailed);
  addFact("Trace", visible(data.base_id), "id");
  $("title").textContent = visible(data.title);
  if (spans.length) {
    addFact("Started", timestampAt(0) + " UTC");
    addFact("Duration", data.took);
  }
  addFact("Spans", whole(spans.length));
  addFact("Errors", (failed ? "\u2717 " : "") + whole(failed),
    failed && "bad");
  addFact("Verdict", (data.complete ? "\u2713 " : "\u26a0 ") + data.verdict,
    data.complete ? "good" : "bad");
  $("remarks").append(...data.remarks.map(
    remark => make("p", "", "\u26a0 " + remark)));
  $("problem-count").textContent = whole(count(isProblem));
  const late = count(isLate);
  $("late-count").textContent = whole(late);
  $("late-filter").hidden = $("late-legend").hidden = !late;
  $("statement-count").textContent = data.statements.length;
  $("colours").append(...ranking.slice(0, PALETTE).map((total, n) => {
    const item = make("span");
    item.append(make("i", "bar colour-" + n),
      visible(strings[total[VALUE]].slice(0, 40)) || "(none)");
    return item;
  }));
}

const moveBy = rows =>
  select(shown[clamp(rowOf(active) + rows, 0, shown.length - 1)]);
const pageRows = () =>
  Math.max(Math.floor($("grid").clientHeight / rowHeight) - 2, 1);

const gridKeys = {
  ArrowDown: () => moveBy(1),
  ArrowUp: () => moveBy(-1),
  PageDown: () => moveBy(pageRows()),
  PageUp: () => moveBy(-pageRows()),
  Home: () => moveBy(-shown.length),
  End: () => moveBy(shown.length),
  ArrowRight: () => {
    if (collapsed[active]) fold(active, false);
    else if (childCount[active]) moveBy(1);
  },
  ArrowLeft: () => {
    if (childCount[active] && !collapsed[active]) fold(active, true);
    else if (parentOf[active] >= 0) select(parentOf[active]);
  },
  Enter: () => $("details").hidden ? openDetails() : $("details").focus(),
  z: () => zoomTo(active),
  n: () => goToNextHit(1),
  N: () => goToNextHit(-1),
};

document.addEventListener("keydown", event => {
  const { key, target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (target === $("grid") && gridKeys[key] && shown.length) {
    gridKeys[key]();
  } else if (target === $("query") && key === "Enter") {
    goToNextHit(event.shiftKey ? -1 : 1);
  } else if (key === "/" && target !== $("query")) {
    showView("timeline");
    $("query").select();
  } else if (key === "Escape" && target === $("query")) {
    if (!target.value) $("grid").focus();
    target.value = "";
    search("");
  } else if (key === "Escape") {
    if (!$("details").hidden) closeDetails();
    else if (isZoomed()) zoom(0, traceLength);
    else setHits([], "");
  } else {
    return;
  }
  event.preventDefault();
});

const on = (id, event, action) => $(id).addEventListener(event, action);
on("query", "input", event => search(event.target.value));
on("next", "click", () => goToNextHit(1));
on("previous", "click", () => goToNextHit(-1));
on("problems", "change", refresh);
on("without-late", "change",
  ({ target }) => zoom(0, target.checked ? workEnd : traceLength));
on("expand", "click", () => foldAll(false));
on("collapse", "click", () => foldAll(true));
on("zoom", "click", () => spans.length && zoomTo(active));
on("unzoom", "click", () => zoom(0, traceLength));
on("grid", "scroll", drawSoon);
dragToZoom($("ruler"), () => view);
dragToZoom($("overview"), () => [0, traceLength]);
addEventListener("beforeprint", () => drawForPrint(true));
addEventListener("afterprint", () => drawForPrint(false));
matchMedia("(prefers-color-scheme: dark)")
  .addEventListener("change", resize);

/** Select the span that the URL names, if it is one of this trace. */
function goToLinked() {
  const id = location.hash.slice(1);
  const i = spans.findIndex(span => encodeURIComponent(span[ID]) === id);
  if (i < 0) return;
  goTo(i);
  openDetails();
}
addEventListener("hashchange", goToLinked);

drawHeader();
resize();
refresh();
drawTables();
goToLinked();
new ResizeObserver(resize).observe($("grid"));
