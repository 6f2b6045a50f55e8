/* SPDX-License-Identifier: Apache-2.0 */

// Moments in UTC, and in the browser's zone beside it if the reader wants so.

// As the service's other pages keep it.
const LOCAL_TIMES = "profiler_bridge.local-times";
let isLocal = false;
try {
  isLocal = localStorage.getItem(LOCAL_TIMES) === "1";
} catch {
  // A browser may forbid to keep anything.
}

function momentText(time) {
  const utc = timestampAt(time);
  if (!isLocal) return utc + " UTC";
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  // A browser knows milliseconds.
  const moment = new Date(utc.slice(0, 23) + "Z");
  const minutes = moment.getTimezoneOffset();
  const local = new Date(moment.getTime() - minutes * 60_000).toISOString();
  return `${utc} UTC, ${local.slice(0, 19)}${utc.slice(19)} ${timeZone}`;
}

function drawTimes() {
  $("zone").setAttribute("aria-pressed", isLocal);
  for (const element of document.querySelectorAll(".started dd")) {
    element.textContent = momentText(0);
  }
  if (!$("details").hidden) drawDetails();
}

function switchTimes() {
  isLocal = !isLocal;
  try {
    localStorage.setItem(LOCAL_TIMES, isLocal ? "1" : "0");
  } catch {
    // It is for this page only.
  }
  drawTimes();
}
