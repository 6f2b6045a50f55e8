/* SPDX-License-Identifier: Apache-2.0 */

// Which colour is whose, and the legend, which is a filter as well.

const PALETTE = 20;
const MAX_LEGEND = 100;
const OTHERS = "var(--muted)";

// Those with the longest self time have a colour of their own. One colour
// says nothing: with one service the operations are what differs.
const colourKey = data.totals[1].length > 1 ? 1 : 0;
const ranking = [...data.totals[colourKey]]
  .sort((a, b) => b[TOTAL_SELF] - a[TOTAL_SELF]);
const colours = new Map(ranking.slice(0, PALETTE).map(
  (total, n) => [total[VALUE], `var(--colour-${n})`]));
const colourValue = i => spans[i][KEYS[colourKey]];
const colourOf = i => colours.get(colourValue(i)) ?? OTHERS;

/** A canvas takes no variables; give what they stand for. */
function plainColour(style) {
  const known = new Map();
  return colour => {
    if (!known.has(colour)) {
      known.set(colour, style.getPropertyValue(colour.slice(4, -1)));
    }
    return known.get(colour);
  };
}

/** Show only what is chosen in the legend; with null everything. */
function choose(value) {
  if (value === null) chosen.clear();
  else if (!chosen.delete(value)) chosen.add(value);
  for (const button of $("colours").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", chosen.has(Number(button.value)));
  }
  $("colours").classList.toggle("filtered", chosen.size > 0);
}

function drawLegend() {
  const kind = colourKey === 1 ? "service" : "operation";
  $("colours").setAttribute("aria-label", `Show only this ${kind}`);
  // Without a colour an operation says nothing here.
  const most = colourKey === 1 ? MAX_LEGEND : PALETTE;
  for (const total of ranking.slice(0, most)) {
    const name = visible(strings[total[VALUE]]) || "(none)";
    const button = makeButton("", "colour", () => {
      choose(total[VALUE]);
      refresh();
      announce(chosen.size ? `${whole(shown.length)} rows` : "");
    });
    button.value = total[VALUE];
    button.title = `${name}: ${whole(total[COUNT])} spans, `
      + `${duration(total[TOTAL_SELF])} itself. Show only this ${kind}`;
    button.setAttribute("aria-pressed", false);
    button.append(
      paint(make("i", "bar"), colours.get(total[VALUE]) ?? OTHERS),
      make("span", "", name.slice(0, 60)));
    $("colours").append(button);
  }
  if (ranking.length > most) {
    const item = make("span");
    item.append(paint(make("i", "bar"), OTHERS),
      `${whole(ranking.length - most)} others`);
    $("colours").append(item);
  }
}
