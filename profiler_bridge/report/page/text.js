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
const thousandths = decimals(3);
const milliseconds = time => thousandths(time / 1000);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

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
