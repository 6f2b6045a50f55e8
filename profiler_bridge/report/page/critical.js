/* SPDX-License-Identifier: Apache-2.0 */

// The critical path, what the end of the request waited for, as html.py has it:
// in segments, of a span's time or, with -1, of time in which nothing ran.

const segments = [];  // [begin, end, span], earliest first
for (let n = 1, begin = data.path[0]; n < data.path.length; n += 2) {
  segments.push([begin, begin += data.path[n], data.path[n + 1]]);
}
const pathLength = segments.length
  ? segments.at(-1)[1] - segments[0][0] : 0;
const pathUnknown = segments.reduce((sum, [begin, end, i]) =>
  i < 0 ? sum + end - begin : sum, 0);

// By span, to find those of one and of all below it.
const segmentsBySpan = segments.filter(([, , i]) => i >= 0)
  .sort((a, b) => a[2] - b[2] || a[0] - b[0]);
const firstSegment = new Int32Array(spans.length + 1);  // of it or a later one
const pathBefore = new Float64Array(spans.length + 1);  // of all before it
for (let i = 0, n = 0; i < spans.length; i++) {
  pathBefore[i + 1] = pathBefore[i];
  for (; segmentsBySpan[n]?.[2] === i; n++) {
    pathBefore[i + 1] += segmentsBySpan[n][1] - segmentsBySpan[n][0];
  }
  firstSegment[i + 1] = n;
}

/** How long one of some spans was on the path, from the first up to another. */
const pathTime = (i, end = i + 1) => pathBefore[end] - pathBefore[i];
const isOnPath = i => pathTime(i) > 0;
/** The spans that a row stands for end before this one. */
const rowEnd = i => runAt(i)?.end ?? (collapsed[i] ? subtreeEnd[i] : i + 1);

const pathCanvas = make("canvas", "path");
pathCanvas.title = "The critical path: what the end of the request waited for";

/** Draw the path along the ruler, in the colours of who it was. */
function drawPath() {
  const { clientWidth: width, clientHeight: height } = pathCanvas;
  pathCanvas.width = width * devicePixelRatio;
  pathCanvas.height = height * devicePixelRatio;
  const context = pathCanvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const plain = plainColour(getComputedStyle(pathCanvas));
  const xOf = time => (time - view[0]) / (view[1] - view[0]) * width;
  for (const [begin, end, i] of segments) {
    if (i < 0 || end < view[0] || begin > view[1]) continue;
    context.fillStyle = plain(colourOf(i));
    context.fillRect(xOf(begin), 0, Math.max(xOf(end) - xOf(begin), 0.5),
      height);
  }
}

/** Draw when what a row stands for was on the path. */
function drawMark(mark, i) {
  const parts = segmentsBySpan.slice(firstSegment[i], firstSegment[rowEnd(i)])
    .filter(([begin, end]) => end >= view[0] && begin <= view[1])
    .sort((a, b) => a[0] - b[0]);
  mark.hidden = !parts.length;
  if (!parts.length) return;
  mark.style.backgroundImage = stripes(parts, view[0], view[1],
    "var(--text)", true);
}
