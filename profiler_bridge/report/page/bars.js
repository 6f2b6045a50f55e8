/* SPDX-License-Identifier: Apache-2.0 */

// A span as a bar, in its row and in the overview of the whole trace.

const PALETTE = 8;

// Those with the longest self time have a colour of their own. One colour
// says nothing: with one service the operations are what differs.
const colourKey = data.totals[1].length > 1 ? 1 : 0;
const ranking = [...data.totals[colourKey]]
  .sort((a, b) => b[TOTAL_SELF] - a[TOTAL_SELF]);
const colours = new Map(
  ranking.map((total, n) => [total[VALUE], n % PALETTE]));
const colourOf = i => colours.get(spans[i][KEYS[colourKey]]);

function drawBar(bar, i) {
  bar.removeAttribute("style");
  if (!isInView(i)) {
    bar.className = endOf(i) < view[0] ? "earlier" : "later";
    return;
  }
  bar.className = `bar colour-${colourOf(i)}`
    + (isFailed(i) ? " failed" : "") + (isUnfinished(i) ? " unfinished" : "")
    + (isHeadless(i) ? " headless" : "") + (isLate(i) ? " late" : "");
  const begin = Math.max(beginOf(i), view[0]);
  const end = Math.min(endOf(i), view[1]);
  const percent = 100 / (view[1] - view[0]);
  const left = (begin - view[0]) * percent;
  bar.style.left = `min(${left}%, 100% - var(--thinnest))`;
  bar.style.width = (end - begin) * percent + "%";
  if (!isOpen(i)) bar.style.backgroundImage = shading(i, begin, end);
}

/** A background that is pale where children of the span ran. */
function shading(i, begin, end) {
  const finest = (view[1] - view[0]) / 1000;
  const stops = [];
  let [first, last] = [begin, begin];
  const add = () => {
    if (last - first < finest) return;
    const [left, right] = [first, last].map(
      time => ((time - begin) / (end - begin) * 100).toFixed(2) + "%");
    stops.push(`transparent ${left}, var(--pale) ${left} ${right},`
      + ` transparent ${right}`);
  };
  for (let child = i + 1; child < subtreeEnd[i]; child = subtreeEnd[child]) {
    const [starts, ends] = [beginOf(child), Math.min(endOf(child), end)];
    if (isOpen(child) || ends <= last) continue;
    if (starts > last + finest / 2) {
      add();
      first = starts;
    }
    last = ends;
  }
  add();
  return stops.length ? `linear-gradient(90deg, ${stops})` : "none";
}

function drawOverview() {
  const canvas = $("canvas");
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(canvas);
  const palette = Array.from({ length: PALETTE },
    (_, n) => style.getPropertyValue("--colour-" + n));
  const thickness = Math.min(height / spans.length, 4);
  const drawLine = (i, colour, least) => {
    const lineHeight = Math.max(thickness, least);
    context.fillStyle = colour;
    context.fillRect(beginOf(i) / traceLength * width,
      i / spans.length * (height - lineHeight),
      Math.max((endOf(i) - beginOf(i)) / traceLength * width, 1 + least / 2),
      lineHeight);
  };
  spans.forEach((_, i) => drawLine(i, palette[colourOf(i)], 1));
  const red = style.getPropertyValue("--failed");
  spans.forEach((_, i) => isFailed(i) && drawLine(i, red, 4));
}
