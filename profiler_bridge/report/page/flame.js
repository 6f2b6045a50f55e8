/* SPDX-License-Identifier: Apache-2.0 */

// The flame graph: spans that did the same below the same callers are one box,
// as wide as the self time of all that is in it.

const NARROWEST_BOX = 0.15;  // percent
const NARROWEST_TEXT = 2;
const MAX_LEVELS = 200;
const BOX_HEIGHT = 21;

let flame = null;   // the box that is all, once somebody looks
let flameTop = null;  // the box that is as wide as the page

function makeBox(above, i) {
  return { above, first: i, depth: above ? above.depth + 1 : 0, count: 0,
    errors: 0, self: 0, width: 0, below: new Map() };
}

/** Merge the spans; in each box the widest below it is first. */
function mergeSpans() {
  const all = makeBox(null, -1);
  const boxes = [all];
  const boxOf = [];
  spans.forEach((span, i) => {
    const above = parentOf[i] < 0 ? all : boxOf[parentOf[i]];
    const key = span[OPERATION] * strings.length + span[SERVICE];
    let box = above.below.get(key);
    if (!box) {
      box = makeBox(above, i);
      above.below.set(key, box);
      boxes.push(box);
    }
    boxOf.push(box);
    box.count++;
    box.errors += Number(isFailed(i));
    box.self += Math.max(span[SELF] ?? 0, 0);
  });
  for (const box of boxes.reverse()) {
    box.width += box.self;
    if (box.above) box.above.width += box.width;
    box.below = [...box.below.values()].sort((a, b) => b.width - a.width);
  }
  all.boxOf = boxOf;
  return all;
}

const boxName = box => box.above ? visible(textOf(box.first, OPERATION))
  : "All";
const shareOfAll = box => tenths(box.width / (flame.width || 1) * 100) + "%";

function boxText(box) {
  const service = box.above ? visible(textOf(box.first, SERVICE)) : "";
  return [boxName(box), service,
    box.above ? `${whole(box.count)} spans` : `${whole(spans.length)} spans`,
    `${duration(box.width)} (${shareOfAll(box)}) with all that is below`,
    `${duration(box.self)} itself`,
    box.errors ? `${whole(box.errors)} errors` : ""]
    .filter(Boolean).join(", ");
}

/** The boxes that can be seen, with their left edges and widths in percent. */
function* boxesInSight() {
  for (let box = flameTop.above; box; box = box.above) yield [box, 0, 100];
  let level = [[flameTop, 0, 100]];
  for (let n = 0; level.length && n < MAX_LEVELS; n++) {
    yield* level;
    level = level.flatMap(([box, left, width]) => {
      let at = left;
      return box.below.map(under => {
        const share = under.width / (box.width || 1) * width;
        at += share;
        return [under, at - share, share];
      }).filter(([, , share]) => share >= NARROWEST_BOX);
    });
  }
}

function drawFlame() {
  flame ??= mergeSpans();
  flameTop ??= flame;
  const buttons = [];
  let deepest = 0;
  for (const [box, left, width] of boxesInSight()) {
    const button = makeButton("", "box", () => zoomFlame(box));
    if (width >= NARROWEST_TEXT) button.textContent = boxName(box);
    else button.setAttribute("aria-label", boxName(box));
    button.box = box;
    button.title = boxText(box);
    button.tabIndex = box === flameTop ? 0 : -1;
    button.classList.toggle("above", box.depth < flameTop.depth);
    button.style.left = left + "%";
    button.style.width = width + "%";
    button.style.top = box.depth * BOX_HEIGHT + "px";
    if (box.above) paint(button, colourOf(box.first));
    deepest = Math.max(deepest, box.depth);
    buttons.push(button);
  }
  $("boxes").style.height = (deepest + 1) * BOX_HEIGHT + "px";
  $("boxes").replaceChildren(...buttons);
  tellBox(flameTop);
}

function tellBox(box) {
  $("box-text").textContent = flame.width ? boxText(box)
    : "No span has a known time.";
  $("box-out").disabled = flameTop === flame;
  $("box-spans").disabled = !flameTop.above;
}

const focusedBox = () =>
  [...$("boxes").children].find(button => button.box === flameTop);

function zoomFlame(box) {
  flameTop = box;
  drawFlame();
  focusedBox().focus();
}

/** Go to the box above, below or beside. */
function moveInFlame(button, key) {
  const { box } = button;
  const beside = box.above?.below ?? [box];
  const at = beside.indexOf(box);
  const target = {
    ArrowUp: box.above,
    ArrowDown: box.below[0],
    ArrowLeft: beside[at - 1],
    ArrowRight: beside[at + 1],
  }[key];
  const next = [...$("boxes").children].find(other => other.box === target);
  if (!next) return;
  button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

$("boxes").addEventListener("keydown", event => {
  if (!event.key.startsWith("Arrow") || !event.target.box) return;
  event.preventDefault();
  moveInFlame(event.target, event.key);
});
for (const kind of ["pointerover", "focusin"]) {
  $("boxes").addEventListener(kind,
    ({ target }) => target.box && tellBox(target.box));
}
$("box-out").addEventListener("click", () => zoomFlame(flame));
$("box-spans").addEventListener("click", () => showInTimeline(
  [...spans.keys()].filter(i => flame.boxOf[i] === flameTop)));
