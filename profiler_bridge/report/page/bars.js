/* SPDX-License-Identifier: Apache-2.0 */

// A span as a bar, in its row and in the overview of the whole trace.

function drawBar(bar, i) {
  bar.removeAttribute("style");
  const run = runAt(i);
  const [from, to] = [beginOf(i), run?.endTime ?? endOf(i)];
  if (from > view[1] || to < view[0]) {
    bar.className = to < view[0] ? "earlier" : "later";
    return;
  }
  bar.className = "bar" + (isFailed(i) ? " failed" : "")
    + (isUnfinished(i) ? " unfinished" : "")
    + (isHeadless(i) ? " headless" : "") + (isLate(i) ? " late" : "");
  const begin = Math.max(from, view[0]);
  const end = Math.min(to, view[1]);
  const percent = 100 / (view[1] - view[0]);
  const left = (begin - view[0]) * percent;
  paint(bar, colourOf(i));
  bar.style.left = `min(${left}%, 100% - var(--thinnest))`;
  bar.style.width = (end - begin) * percent + "%";
  if (run) {
    bar.classList.add("run");
    bar.style.backgroundImage = stripes(timesOf(i, run.end), begin, end,
      "var(--colour)", true);
  } else if (!isOpen(i)) {
    bar.style.backgroundImage = stripes(timesOf(i + 1, subtreeEnd[i]), begin,
      end, "var(--pale)", false);
  }
}

/** When siblings ran, from the first up to a span behind them. */
function* timesOf(first, behind) {
  for (let i = first; i < behind; i = subtreeEnd[i]) {
    if (!isOpen(i)) yield [beginOf(i), endOf(i)];
  }
}

/**
 * A background with stripes at some times, which are sorted by their begin.
 * isAll: so that those can be seen which are too short for it
 */
function stripes(times, begin, end, colour, isAll) {
  const finest = (view[1] - view[0]) / 1000;
  const parts = [];
  for (const time of times) {
    const [starts, ends] = [Math.max(time[0], begin), Math.min(time[1], end)];
    if (ends < starts) continue;
    const last = parts.at(-1);
    if (last && starts <= last[1] + finest / 2) {
      last[1] = Math.max(last[1], ends);
    } else {
      parts.push([starts, ends]);
    }
  }
  const percent = time =>
    ((time - begin) / (end - begin) * 100).toFixed(2) + "%";
  const stops = parts.filter(part => isAll || part[1] - part[0] >= finest)
    .map(([starts, ends]) => {
      const left = percent(starts);
      const right = percent(Math.max(ends, starts + finest));
      return `transparent ${left}, ${colour} ${left} ${right},`
        + ` transparent ${right}`;
    });
  return stops.length && end > begin
    ? `linear-gradient(90deg, ${stops})` : "none";
}

function drawOverview() {
  const canvas = $("canvas");
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(canvas);
  const plain = plainColour(style);
  const thickness = Math.min(height / spans.length, 4);
  const end = extent()[1];
  const drawLine = (i, colour, least) => {
    if (beginOf(i) > end) return;
    const lineHeight = Math.max(thickness, least);
    context.fillStyle = colour;
    context.fillRect(beginOf(i) / end * width,
      i / spans.length * (height - lineHeight),
      Math.max((endOf(i) - beginOf(i)) / end * width, 1 + least / 2),
      lineHeight);
  };
  spans.forEach((_, i) => drawLine(i, plain(colourOf(i)), 1));
  const red = style.getPropertyValue("--failed");
  spans.forEach((_, i) => isFailed(i) && drawLine(i, red, 4));
}
