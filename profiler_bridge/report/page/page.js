/* SPDX-License-Identifier: Apache-2.0 */

// The page around the views, its keys and its other events; the beginning of
// everything.

// What is drawn when somebody looks, or prints.
const VIEWS = { timeline: resize, findings: drawFindings, flame: drawFlame, totals: drawTotals,
  statements: drawStatements, spans: drawList };

function showView(name) {
  const choice = $("show-" + name);
  choice.checked = true;
  VIEWS[name]();
  choice.parentElement.scrollIntoView({ block: "nearest" });
}

function drawHeader() {
  const count = test => [...spans.keys()].filter(test).length;
  const addFact = (title, content, className) => {
    const pair = $("facts").appendChild(make("div", className));
    pair.append(make("dt", "", title), make("dd", "", content));
  };
  const failed = count(isFailed);
  addFact("Trace", visible(data.base_id), "id");
  $("facts").lastChild.lastChild.append(
    makeCopyButton("Trace", () => data.base_id));
  $("title").textContent = visible(data.title);
  if (spans.length) {
    addFact("Started", "", "started");
    addFact("Duration", data.took);
    if (pathLength) {
      addFact("Critical path", duration(pathLength) + (pathUnknown
        ? `, of it ${duration(pathUnknown)} nothing known ran` : ""));
    }
  }
  addFact("Spans", whole(spans.length));
  addFact("Errors", (failed ? "\u2717 " : "") + whole(failed),
    failed && "bad");
  addFact("Verdict", (data.complete ? "\u2713 " : "\u26a0 ") + data.verdict,
    data.complete ? "good" : "bad");
  $("remarks").append(...data.remarks.map(
    remark => make("p", "", "\u26a0 " + remark)));
  if (data.findings.length) $("remarks").append(makeFirstFinding());
  $("problem-count").textContent = whole(count(isProblem));
  const late = count(isLate);
  $("late-count").textContent = whole(late);
  $("late-filter").hidden = $("late-legend").hidden = !late;
  $("statement-count").textContent = data.statements.length;
  $("finding-count").textContent = data.findings.length;
  $("span-count").textContent = whole(spans.length);
  const deepest = spans.reduce((most, span) => Math.max(most, span[DEPTH]), 0);
  for (let level = 1; level <= Math.min(deepest, 9); level++) {
    $("levels").append(make("option", "", level));
  }
  drawLegend();
  drawTimes();
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
    if (isClosed(active)) unfold(active);
    else if (childCount[active]) moveBy(1);
  },
  ArrowLeft: () => {
    const isRun = runOf[active] >= 0 && !folded[runOf[active]];
    if (childCount[active] && !collapsed[active] || isRun) fold(active);
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
  if ($("help").open) return;
  if (target === $("grid") && gridKeys[key] && shown.length) {
    gridKeys[key]();
  } else if (target === $("query") && key === "Enter") {
    goToNextHit(event.shiftKey ? -1 : 1);
  } else if (key === "/" && target !== $("query")) {
    showView("timeline");
    $("query").select();
  } else if (key === "?" && target !== $("query")) {
    $("help").showModal();
  } else if (/^[0-9]$/.test(key) && target === $("grid")) {
    showLevels(Number(key) || undefined);
  } else if (key === "Escape" && $("show-flame").checked) {
    zoomFlame(flame);
  } else if (key === "Escape" && target === $("query")) {
    if (!target.value) $("grid").focus();
    target.value = "";
    search("");
  } else if (key === "Escape") {
    if (!$("details").hidden) closeDetails();
    else if (isZoomed()) zoom(...extent());
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
on("path-only", "change", refresh);
on("without-late", "change", () => {
  zoom(...extent());
  drawOverview();
});
on("expand", "click", () => showLevels());
on("collapse", "click", () => showLevels(1));
on("levels", "change", ({ target }) =>
  showLevels(target.value === "all" ? undefined : Number(target.value)));
on("zoom", "click", () => spans.length && zoomTo(active));
on("unzoom", "click", () => zoom(...extent()));
on("zone", "click", switchTimes);
on("help-open", "click", () => $("help").showModal());
on("help-close", "click", () => $("help").close());
for (const name of Object.keys(VIEWS)) {
  on("show-" + name, "change", () => showView(name));
}
on("grid", "scroll", drawSoon);
dragToZoom($("ruler"), () => view);
dragToZoom($("overview"), extent);
addEventListener("beforeprint", () => {
  drawForPrint(true);
  for (const name of ["findings", "flame", "totals", "statements"]) VIEWS[name]();
});
addEventListener("afterprint", () => drawForPrint(false));
matchMedia("(prefers-color-scheme: dark)")
  .addEventListener("change", resize);
// What is cut can be read all the same.
document.addEventListener("pointerover", ({ target }) => {
  const isCut = target.scrollWidth > target.clientWidth;
  if (isCut && !target.title && !target.children.length) {
    target.title = target.textContent;
  }
});

/** Select the span that the URL names, if it is one of this trace. */
function goToLinked() {
  const id = location.hash.replace(/^#(span=)?/, "");
  const i = spans.findIndex(span => encodeURIComponent(span[ID]) === id);
  if (i < 0) return;
  goTo(i);
  openDetails();
}
addEventListener("hashchange", goToLinked);

drawHeader();
resize();
refresh();
goToLinked();
new ResizeObserver(resize).observe($("grid"));
