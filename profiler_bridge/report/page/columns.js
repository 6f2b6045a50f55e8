/* SPDX-License-Identifier: Apache-2.0 */

// What is as wide as the reader wants it: columns, and the details.

const NARROWEST = 40;
const STEP = 16;

/**
 * Let a handle be dragged, or moved by the arrow keys.
 * direction: 1 if what it is about becomes wider to the right
 */
function makeHandle(handle, label, direction, widthOf, setWidth) {
  let start = null;
  const set = width => {
    setWidth(width === null ? "" : Math.max(width, NARROWEST) + "px");
    handle.setAttribute("aria-valuenow", Math.round(widthOf()));
    redraw();
  };
  const attributes = { role: "separator", tabindex: 0, title: "Drag",
    "aria-orientation": "vertical", "aria-label": label,
    "aria-valuenow": 0, "aria-valuemin": NARROWEST, "aria-valuemax": 4000 };
  for (const [name, value] of Object.entries(attributes)) {
    handle.setAttribute(name, value);
  }
  handle.addEventListener("pointerdown", event => {
    event.preventDefault();
    handle.setPointerCapture(event.pointerId);
    start = widthOf() - direction * event.clientX;
  });
  handle.addEventListener("pointermove", event => {
    if (start !== null) set(start + direction * event.clientX);
  });
  handle.addEventListener("lostpointercapture", () => {
    start = null;
  });
  handle.addEventListener("dblclick", () => set(null));
  handle.addEventListener("keydown", event => {
    const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (!step) return;
    event.preventDefault();
    set(widthOf() + direction * step);
  });
  return handle;
}

for (const name of ["operation", "where", "duration", "self"]) {
  const head = document.querySelector(`#head .${name}`);
  head.append(makeHandle(make("span", "handle"),
    `Width of ${head.textContent.trim()}`, 1, () => head.offsetWidth,
    width => $("grid").style.setProperty("--" + name, width)));
}
makeHandle($("divider"), "Width of the details", -1,
  () => $("details").offsetWidth,
  width => $("panes").style.setProperty("--details", width));
