/* SPDX-License-Identifier: Apache-2.0 */

// Searching, and going from hit to hit.

const isHit = new Uint8Array(spans.length);
const hitRuns = new Set();  // runs with a hit in them, by their first
let hits = [];
let searchable = null;  // the strings as they are compared

const normalized = text => text.toLowerCase().replace(/\s+/g, " ");

function search(query) {
  const wanted = normalized(query).trim();
  if (!wanted) return setHits([], "");
  searchable ??= strings.map(normalized);
  const inString = searchable.map(string => string.includes(wanted));
  // The first is the template, which is no text of the trace if there are
  // texts to fill it with.
  const inNotification = notifications.map(places => places.some(
    (place, n) => (n > 0 || places.length === 1) && inString[place]));
  return setHits([...spans.keys()].filter(i => {
    const span = spans[i];
    return inNotification[span[START]] || inNotification[span[STOP]]
      || [OPERATION, NAME, SERVICE, WHAT, FAILURE].some(key => inString[span[key]])
      || span[ID].toLowerCase().includes(wanted);
  }));
}

function setHits(matches, note = `${whole(matches.length)} found`) {
  hits = matches;
  isHit.fill(0);
  hitRuns.clear();
  for (const i of hits) {
    isHit[i] = 1;
    hitRuns.add(runOf[i]);
  }
  announce(note);
  redraw();
}

/** Go to the next hit in the order of rows, round the end. */
function goToNextHit(direction) {
  if (!hits.length) return;
  const isBeyond = i => (i - active) * direction > 0;
  let n = direction > 0 ? hits.findIndex(isBeyond)
    : hits.findLastIndex(isBeyond);
  if (n < 0) n = direction > 0 ? 0 : hits.length - 1;
  goTo(hits[n]);
  announce(`${whole(n + 1)} of ${whole(hits.length)}`);
}

function announce(note) {
  $("status").textContent = note;
}

/** Show in the timeline what a line of a table counts. */
function showInTimeline(counted) {
  $("query").value = "";
  setHits(counted);
  goTo(counted[0]);
  announce(`1 of ${whole(counted.length)}`);
  $("grid").focus();
}
