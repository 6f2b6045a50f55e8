/* SPDX-License-Identifier: Apache-2.0 */

// The axis of time, and the part of the time that is chosen on it.

function drawRuler() {
  const [begin, end] = view;
  const width = $("ruler").clientWidth;
  const least = (end - begin) * 80 / Math.max(width, 80);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = power * [1, 2, 5, 10].find(
    multiple => multiple * power >= least);
  const [unit, size] = end >= 1e6 ? ["s", 1e6] : end >= 1e3 ? ["ms", 1e3]
    : step >= 1 ? ["\u00b5s", 1] : ["ns", 1e-3];
  const format = decimals(
    Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9)));
  const share = time => time / (end - begin);
  const percent = part => part * 100 + "%";
  const firstTick = Math.ceil(begin / step);
  $("ruler").replaceChildren(pathCanvas);
  for (let n = firstTick; n * step < end; n++) {
    const hasSpace = share(end - n * step) * width > 60;
    const tick = make("span", "tick",
      hasSpace ? `${format(n * step / size)} ${unit}` : "");
    tick.style.left = percent(share(n * step - begin));
    $("ruler").append(tick);
  }
  drawPath();
  // The lines behind the bars are a background, which repeats. CSS places
  // it by a share of what it leaves free.
  const free = 1 - Math.min(share(step), 0.999);
  $("rows").style.setProperty("--step", percent(share(step)));
  $("rows").style.setProperty("--offset",
    percent(share(firstTick * step - begin) / free));
  const all = extent()[1];
  $("window").style.left = percent(begin / all);
  $("window").style.width = percent((end - begin) / all);
  $("window").hidden = !isZoomed();
  $("unzoom").disabled = !isZoomed();
}

/** Let a drag over an element that shows a range choose the view. */
function dragToZoom(element, range) {
  const selection = make("span", "selection");
  let start = null;
  const shareAt = event => {
    const box = element.getBoundingClientRect();
    return clamp((event.clientX - box.left) / box.width, 0, 1);
  };
  element.addEventListener("pointerdown", event => {
    if (event.button) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    start = shareAt(event);
  });
  element.addEventListener("pointermove", event => {
    if (start === null) return;
    selection.style.left = Math.min(start, shareAt(event)) * 100 + "%";
    selection.style.width = Math.abs(start - shareAt(event)) * 100 + "%";
    element.append(selection);
  });
  element.addEventListener("pointerup", event => {
    const [low, high] = [start ?? 0, shareAt(event)].sort((a, b) => a - b);
    const [begin, end] = range();
    const isDrag = start !== null && (high - low) * element.clientWidth > 3;
    const timeAt = share => begin + share * (end - begin);
    if (isDrag) zoom(timeAt(low), timeAt(high));
  });
  element.addEventListener("lostpointercapture", () => {
    start = null;
    selection.remove();
  });
}
