/* SPDX-License-Identifier: Apache-2.0 */

// Elements, and how texts and numbers are written in them. What comes from
// the trace becomes text only: by textContent, or as the value of a title or
// a label.

const $ = id => document.getElementById(id);

// What is unassigned or invisible, or moves other characters about.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|[^\P{Zs} ]/gu;
const escaped = char => `\\u{${char.codePointAt(0).toString(16)}}`;
const visible = value => value.replace(UNSEEN, escaped);
const visibleLines = value => value.replace(UNSEEN,
  char => "\n\t".includes(char) ? char : escaped(char));

const decimals = digits => new Intl.NumberFormat("en",
  { minimumFractionDigits: digits, maximumFractionDigits: digits }).format;
const whole = decimals(0);
const tenths = decimals(1);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Each unit in microseconds, and from how many of it on the next one is used.
const UNITS = [["\u00b5s", 1, 1000], ["ms", 1e3, 1000], ["s", 1e6, 1000],
  ["min", 6e7, 100], ["h", 3.6e9, 100], ["d", 8.64e10, Infinity]];

/** Microseconds with three significant digits, as in the tree. */
function duration(time) {
  if (time < 0) return "-" + duration(-time);
  for (const [unit, size, most] of UNITS) {
    const value = time / size;
    const places = size === 1 ? 0 : value.toFixed(2) < 10 ? 2
      : value.toFixed(1) < 100 ? 1 : 0;
    if (value.toFixed(places) < most) return `${value.toFixed(places)} ${unit}`;
  }
  return "";
}

/** The same, and all digits where these are fewer. */
function exactDuration(time) {
  const isWhole = Math.abs(time) < 1000;
  return duration(time) + (isWhole ? "" : ` (${whole(time)} \u00b5s)`);
}

function make(tag, className = "", content = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

function makeButton(content, className, action) {
  const element = make("button", className, content);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

/** Have an element take the colour of a bar. */
function paint(element, colour) {
  element.style.setProperty("--colour", colour);
  return element;
}
