/* SPDX-License-Identifier: Apache-2.0 */

// The trace that html.py put into the page. A span is known by its index i
// in the list, in which parents come first. Times are microseconds since the
// trace began.

const data = JSON.parse($("data").textContent);
const { spans, strings, notifications } = data;
const traceLength = Math.max(data.length, 1);

// The places of values in the array of a span; of a total of spans; of a
// repeated statement; of a finding.
const [DEPTH, ID, OPERATION, NAME, SERVICE, HOST, WHAT, BEGIN, DURATION, SELF,
  FAILURE, START, STOP, LATE] = Array(14).keys();
const [VALUE, COUNT, ERRORS, TOTAL, TOTAL_SELF] = Array(5).keys();
const [STATEMENT, TOTAL_TIME, EXECUTIONS] = Array(3).keys();
const [RULE, TITLE, EVIDENCE, CRITICAL, ALL] = Array(5).keys();
const KEYS = [OPERATION, SERVICE, HOST];  // what data.totals are by

const isFailed = i => spans[i][FAILURE] > 0;
const isUnfinished = i => spans[i][STOP] < 0;
const isHeadless = i => spans[i][START] < 0;
const isOpen = i => isUnfinished(i) || isHeadless(i);
const isLate = i => spans[i][LATE] > 0;
const isProblem = i => isFailed(i) || isOpen(i);
const beginOf = i => isHeadless(i) ? 0 : spans[i][BEGIN];
const endOf = i => isUnfinished(i) ? traceLength
  : spans[i][BEGIN] + Math.max(spans[i][DURATION], 0);
// When that ended which is not late.
const workEnd = spans.reduce(
  (end, _, i) => isLate(i) ? end : Math.max(end, endOf(i)), 1);
const durationText = i => isUnfinished(i) ? "unfinished"
  : isHeadless(i) ? "headless" : duration(spans[i][DURATION]);
const textOf = (i, key) => strings[spans[i][key]];
const serviceAtHost = i => [textOf(i, SERVICE), textOf(i, HOST)]
  .filter(Boolean).join(" @ ");

function timestampAt(time) {
  const since = data.started[1] + time;
  const seconds = data.started[0] + Math.floor(since / 1e6);
  return new Date(seconds * 1000).toISOString().slice(0, -4)
    + String(since % 1e6).padStart(6, "0");
}

// The tree, by a span's index.
const parentOf = new Int32Array(spans.length);       // -1 for none
const subtreeEnd = new Int32Array(spans.length);     // the first not below it
const siblingNumber = new Int32Array(spans.length);  // from 1
const childCount = new Int32Array(spans.length);
const insideCount = i => subtreeEnd[i] - i - 1;
const ancestors = [];
let roots = 0;
spans.forEach((span, i) => {
  ancestors.length = span[DEPTH];
  parentOf[i] = ancestors.at(-1) ?? -1;
  siblingNumber[i] = parentOf[i] < 0 ? ++roots : ++childCount[parentOf[i]];
  ancestors.push(i);
});
for (let i = spans.length - 1; i >= 0; i--) {
  subtreeEnd[i] ||= i + 1;  // else a child has set it
  if (parentOf[i] >= 0) subtreeEnd[parentOf[i]] ||= subtreeEnd[i];
}

// Siblings that are alike, or groups of them that come again and again: html.py
// says which. By the first: the first span behind them, how many come in
// turn and how often, their times summed up, and when the last one ends.
const runs = new Map();
const runOf = new Int32Array(spans.length).fill(-1);  // the first; -1 for none
const lateWithOthers = [];  // those with late spans below them
for (const [first, length, period] of data.runs) {
  if (length === 1) {
    lateWithOthers.push(first);
    continue;
  }
  const run = { end: first, period, times: length / period, total: 0,
    self: 0, endTime: 0 };
  for (let n = 0; n < length; n++, run.end = subtreeEnd[run.end]) {
    const i = run.end;
    runOf[i] = first;
    if (childCount[i]) lateWithOthers.push(i);
    run.total += spans[i][DURATION];
    run.self += spans[i][SELF];
    run.endTime = Math.max(run.endTime, endOf(i));
  }
  runs.set(first, run);
}
