/* SPDX-License-Identifier: Apache-2.0 */

// What the pages can do without: times in the browser's zone, two ticks and
// no more, a key for the filters.

"use strict";

const zone = document.getElementById("zone");
const times = [...document.querySelectorAll("time")]
  .map(element => [element, element.textContent]);
const KEY = "profiler_bridge.local-times";
const two = number => String(number).padStart(2, "0");

function localText(element) {
  // A browser knows milliseconds.
  const moment = new Date(element.dateTime.slice(0, 23) + "Z");
  const day = [moment.getFullYear(), two(moment.getMonth() + 1),
    two(moment.getDate())].join("-");
  const hour = [moment.getHours(), moment.getMinutes(), moment.getSeconds()]
    .map(two).join(":");
  return `${day} ${hour}`;
}

function showTimes(isLocal) {
  for (const [element, utc] of times) {
    element.textContent = isLocal ? localText(element) : utc;
  }
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const element of document.querySelectorAll(".zone")) {
    element.textContent = isLocal ? name : "UTC";
  }
  zone?.setAttribute("aria-pressed", String(isLocal));
}

// A browser may forbid to keep anything.
function kept() {
  try {
    return localStorage.getItem(KEY) === "1";
  } catch {
    return false;
  }
}

function keep(isLocal) {
  try {
    localStorage.setItem(KEY, isLocal ? "1" : "0");
  } catch {
    // It is for this page only.
  }
}

if (times.length) {
  let isLocal = kept();
  showTimes(isLocal);
  // There is none in a frame, which hears of the page's.
  if (zone) zone.hidden = false;
  zone?.addEventListener("click", () => {
    isLocal = !isLocal;
    keep(isLocal);
    showTimes(isLocal);
  });
  addEventListener("storage", event => {
    if (event.key !== KEY) return;
    isLocal = kept();
    showTimes(isLocal);
  });
}

// The one that was ticked first is unticked by a third.
const ticked = [];
for (const tick of document.querySelectorAll("input[name=trace]")) {
  if (tick.checked) ticked.push(tick);
  tick.addEventListener("change", () => {
    if (tick.checked) ticked.push(tick);
    else ticked.splice(ticked.indexOf(tick), 1);
    if (ticked.length > 2) ticked.shift().checked = false;
  });
}

document.addEventListener("keydown", event => {
  const first = document.querySelector(".filters input");
  const isTyping = event.target.closest("input, select, textarea");
  if (event.key !== "/" || !first || isTyping) return;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  first.closest("details")?.setAttribute("open", "");
  first.select();
});
