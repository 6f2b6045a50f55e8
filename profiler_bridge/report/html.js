/* Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */


/* Draws the trace that html.py put into the page. What comes from the trace
 * becomes text only: by textContent, or as the value of a title or a label.
 * A span is known by its place i in the list, in which parents come first.
 * Times are microseconds since the trace began.
 */
"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { spans, strings, notifications } = data;
  const length = Math.max(data.length, 1);

  // The places of a span's values in its array.
  const [DEPTH, ID, NAME, SERVICE, HOST, WHAT, BEGIN, DURATION, SELF, FAILURE,
    START, STOP] = Array(12).keys();
  const KEYS = [NAME, SERVICE, HOST];  // what data.totals are by
  const PALETTE = 8;
  const MAX_INDENT = 16;
  const MAX_LINES = 200;  // of a table: nobody reads further
  const MAX_PRINTED = 2000;
  const SHORTEST_VIEW = 10;

  const isFailed = i => spans[i][FAILURE] > 0;
  const isUnfinished = i => spans[i][STOP] < 0;
  const isHeadless = i => spans[i][START] < 0;
  const isOpen = i => isUnfinished(i) || isHeadless(i);
  const isProblem = i => isFailed(i) || isOpen(i);
  const from = i => isHeadless(i) ? 0 : spans[i][BEGIN];
  const to = i => isUnfinished(i) ? length
    : spans[i][BEGIN] + Math.max(spans[i][DURATION], 0);
  const text = (i, key) => strings[spans[i][key]];
  const where = i => [text(i, SERVICE), text(i, HOST)].filter(Boolean)
    .join(" @ ");
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /* ---- Text ---- */

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
  const ending = i => isUnfinished(i) ? "unfinished"
    : isHeadless(i) ? "headless" : milliseconds(spans[i][DURATION]);

  function clock(time) {
    const since = data.started[1] + time;
    const seconds = data.started[0] + Math.floor(since / 1e6);
    return new Date(seconds * 1000).toISOString().slice(0, -4)
      + String(since % 1e6).padStart(6, "0");
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

  /* ---- The tree ---- */

  const parent = new Int32Array(spans.length);    // -1 for none
  const after = new Int32Array(spans.length);     // the first not below it
  const place = new Int32Array(spans.length);     // among siblings, from 1
  const children = new Int32Array(spans.length);  // how many
  let roots = 0;
  const path = [];
  spans.forEach((span, i) => {
    path.length = span[DEPTH];
    parent[i] = path.at(-1) ?? -1;
    place[i] = parent[i] < 0 ? ++roots : ++children[parent[i]];
    path.push(i);
  });
  for (let i = spans.length - 1; i >= 0; i--) {
    after[i] ||= i + 1;  // else a child has set it
    if (parent[i] >= 0) after[parent[i]] ||= after[i];
  }

  /* ---- What is shown ---- */

  const collapsed = new Uint8Array(spans.length);
  const isHit = new Uint8Array(spans.length);
  let hits = [];    // what was searched for
  let shown = [];   // the span of each row
  let active = 0;   // the selected span
  let view = [0, length];
  let rowHeight = 0;
  let version = 0;  // a row drawn for another one is out of date

  const isZoomed = () => view[0] > 0 || view[1] < length;
  const isInView = i => from(i) <= view[1] && to(i) >= view[0];

  /** The spans that the filters leave, and all above them. */
  function kept() {
    const keep = new Uint8Array(spans.length);
    const isFiltered = $("problems").checked;
    for (let span = 0; span < spans.length; span++) {
      if (isFiltered && !isProblem(span) || !isInView(span)) continue;
      for (let i = span; i >= 0 && !keep[i]; i = parent[i]) keep[i] = 1;
    }
    return keep;
  }

  function refresh() {
    const keep = kept();
    const before = active;
    shown = [];
    for (let i = 0; i < spans.length;) {
      if (keep[i]) shown.push(i);
      i = keep[i] && !collapsed[i] ? i + 1 : after[i];
    }
    // Else the nearest above that is still there.
    while (active >= 0 && rowOf(active) < 0) active = parent[active] ?? -1;
    if (active < 0) active = shown[0] ?? 0;
    $("grid").setAttribute("aria-rowcount", shown.length + 1);
    redraw();
    if (active !== before && !$("details").hidden) drawDetails();
  }

  /** The row of a span; -1 when it has none. */
  function rowOf(i) {
    let [low, high] = [0, shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (shown[middle] < i) low = middle + 1;
      else high = middle;
    }
    return shown[low] === i ? low : -1;
  }

  /* ---- Rows: only those in sight exist, and are used again ---- */

  const pool = [];
  let isDrawing = false;
  let isPrinting = false;

  function makeRow() {
    const row = { element: make("div", "row") };
    const add = (to, name, role) => {
      row[name] = to.appendChild(make("span", name));
      if (role) row[name].setAttribute("role", role);
    };
    row.element.setAttribute("role", "row");
    for (const name of ["operation", "where", "duration", "self", "time"]) {
      add(row.element, name, "gridcell");
    }
    const parts = ["toggle", "depth", "mark", "name", "failure", "what"];
    for (const name of parts) add(row.operation, name);
    add(row.time, "bar");
    row.toggle.setAttribute("aria-hidden", "true");
    row.element.addEventListener("click", event => {
      select(row.span);
      if (event.target === row.toggle) fold(row.span, !collapsed[row.span]);
      else openDetails();
    });
    row.element.addEventListener("dblclick", event => {
      if (event.target !== row.toggle) zoomTo(row.span);
    });
    return row;
  }

  function fillRow(row, position) {
    const i = row.span = shown[position];
    const [depth, inside] = [spans[i][DEPTH], after[i] - i - 1];
    const { element } = row;
    element.id = "row-" + i;
    element.className = "row" + (i === active ? " active" : "")
      + (isHit[i] ? " hit" : "");
    element.style.top = position * rowHeight + "px";
    const attributes = {
      rowindex: position + 2,
      level: depth + 1,
      posinset: place[i],
      setsize: parent[i] < 0 ? roots : children[parent[i]],
      selected: i === active,
    };
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute("aria-" + name, value);
    }
    if (inside) element.setAttribute("aria-expanded", !collapsed[i]);
    else element.removeAttribute("aria-expanded");
    element.style.setProperty("--depth", Math.min(depth, MAX_INDENT));
    row.toggle.textContent = inside ? "\u25be\u25b8"[collapsed[i]] : "";
    row.depth.textContent = depth > MAX_INDENT ? depth : "";
    row.mark.textContent = isFailed(i) ? "error" : isOpen(i) ? "?" : "";
    row.mark.classList.toggle("failed", isFailed(i));
    row.name.textContent = visible(text(i, NAME));
    row.failure.textContent = visible(text(i, FAILURE));
    row.what.textContent = visible(text(i, WHAT))
      + (collapsed[i] ? ` (+${whole(inside)} inside)` : "");
    row.where.textContent = visible(where(i));
    row.duration.textContent = ending(i);
    row.self.textContent = isOpen(i) ? "" : milliseconds(spans[i][SELF]);
    row.time.setAttribute("aria-label", `from ${milliseconds(from(i))} ms`);
    drawBar(row.bar, i);
  }

  function drawBar(bar, i) {
    bar.removeAttribute("style");
    if (!isInView(i)) {
      bar.className = to(i) < view[0] ? "earlier" : "later";
      return;
    }
    bar.className = `bar colour-${colourOf(i)}`
      + (isFailed(i) ? " failed" : "") + (isUnfinished(i) ? " unfinished" : "")
      + (isHeadless(i) ? " headless" : "");
    const begin = Math.max(from(i), view[0]);
    const end = Math.min(to(i), view[1]);
    const percent = 100 / (view[1] - view[0]);
    const left = (begin - view[0]) * percent;
    bar.style.left = `min(${left}%, 100% - var(--thinnest))`;
    bar.style.width = (end - begin) * percent + "%";
    if (!isOpen(i)) bar.style.backgroundImage = shading(i, begin, end);
  }

  /** Pale where children of the span ran. */
  function shading(i, begin, end) {
    const finest = (view[1] - view[0]) / 1000;
    const stops = [];
    let [first, last] = [begin, begin];
    const add = () => {
      if (last - first < finest) return;
      const [a, b] = [first, last].map(
        time => ((time - begin) / (end - begin) * 100).toFixed(2) + "%");
      stops.push(`transparent ${a}, var(--pale) ${a} ${b}, transparent ${b}`);
    };
    for (let child = i + 1; child < after[i]; child = after[child]) {
      const [starts, ends] = [from(child), Math.min(to(child), end)];
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

  function draw() {
    isDrawing = false;
    const grid = $("grid");
    let first = Math.max(Math.floor(grid.scrollTop / rowHeight) - 4, 0);
    let end = first + Math.ceil(grid.clientHeight / rowHeight) + 8;
    if (isPrinting) [first, end] = [0, MAX_PRINTED];
    end = Math.min(end, shown.length);
    $("rows").style.height = (isPrinting ? end : shown.length) * rowHeight
      + "px";
    if (pool.length < end - first) version++;
    while (pool.length < end - first) {
      pool.push(makeRow());
      $("rows").append(pool.at(-1).element);
    }
    // Row n is always drawn by the same of the pool: scrolling by one row
    // fills one.
    for (let n = first; n < first + pool.length; n++) {
      const row = pool[n % pool.length];
      row.element.hidden = n >= end;
      if (n >= end || row.position === n && row.version === version) continue;
      Object.assign(row, { position: n, version });
      fillRow(row, n);
    }
    const isDrawn = shown.slice(first, end).includes(active);
    grid.setAttribute("aria-activedescendant", isDrawn ? "row-" + active : "");
  }

  function redraw() {
    version++;
    drawRuler();
    draw();
  }

  function resize() {
    rowHeight = $("grid").clientHeight && parseFloat(
      getComputedStyle($("rows")).getPropertyValue("--row-height"));
    if (!rowHeight) return;  // another view is shown
    drawOverview();
    redraw();
  }

  /* ---- Time ---- */

  function drawRuler() {
    const [begin, end] = view;
    const width = $("ruler").clientWidth;
    const least = (end - begin) * 80 / Math.max(width, 80);
    const power = 10 ** Math.floor(Math.log10(least));
    const step = power * [1, 2, 5, 10].find(each => each * power >= least);
    const [unit, size] = end >= 1e7 ? ["s", 1e6] : end >= 1e3 ? ["ms", 1e3]
      : step >= 1 ? ["\u00b5s", 1] : ["ns", 1e-3];
    const format = decimals(
      Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9)));
    const share = time => time / (end - begin);
    const percent = part => part * 100 + "%";
    const firstTick = Math.ceil(begin / step);
    $("ruler").replaceChildren();
    for (let n = firstTick; n * step < end; n++) {
      const hasSpace = share(end - n * step) * width > 60;
      const tick = make("span", "tick",
        hasSpace ? `${format(n * step / size)} ${unit}` : "");
      tick.style.left = percent(share(n * step - begin));
      $("ruler").append(tick);
    }
    // The lines behind the bars are a background, which repeats. CSS places
    // it by a share of what it leaves free.
    const free = 1 - Math.min(share(step), 0.999);
    $("rows").style.setProperty("--step", percent(share(step)));
    $("rows").style.setProperty("--offset",
      percent(share(firstTick * step - begin) / free));
    $("window").style.left = percent(begin / length);
    $("window").style.width = percent((end - begin) / length);
    $("window").hidden = !isZoomed();
    $("unzoom").disabled = !isZoomed();
  }

  // Those with the longest self time have a colour of their own. One colour
  // says nothing: with one service the operations are what differs.
  const colourKey = data.totals[1].length > 1 ? 1 : 0;
  const ranking = [...data.totals[colourKey]].sort((a, b) => b[4] - a[4]);
  const colours = new Map(ranking.map(([value], n) => [value, n % PALETTE]));
  const colourOf = i => colours.get(spans[i][KEYS[colourKey]]);

  function drawOverview() {
    const canvas = $("canvas");
    const { clientWidth: width, clientHeight: height } = canvas;
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    const pen = canvas.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(canvas);
    const inks = Array.from({ length: PALETTE },
      (_, n) => style.getPropertyValue("--colour-" + n));
    const thickness = Math.min(height / spans.length, 4);
    const drawLine = (i, ink, least) => {
      const lineHeight = Math.max(thickness, least);
      pen.fillStyle = ink;
      pen.fillRect(from(i) / length * width,
        i / spans.length * (height - lineHeight),
        Math.max((to(i) - from(i)) / length * width, 1 + least / 2),
        lineHeight);
    };
    spans.forEach((_, i) => drawLine(i, inks[colourOf(i)], 1));
    const red = style.getPropertyValue("--failed");
    spans.forEach((_, i) => isFailed(i) && drawLine(i, red, 4));
  }

  function zoom(begin, end) {
    const margin = Math.max(SHORTEST_VIEW - (end - begin), 0) / 2;
    view = [Math.max(begin - margin, 0), Math.min(end + margin, length)];
    refresh();
    reveal(active);
    say(isZoomed() ? `${whole(shown.length)} rows in view` : "");
  }

  function zoomTo(i) {
    const margin = (to(i) - from(i)) / 50;
    zoom(from(i) - margin, to(i) + margin);
  }

  /** Let a drag over an element that shows a range choose the view. */
  function dragToZoom(element, range) {
    const selection = make("span", "selection");
    let start = null;
    const at = event => {
      const box = element.getBoundingClientRect();
      return clamp((event.clientX - box.left) / box.width, 0, 1);
    };
    element.addEventListener("pointerdown", event => {
      if (event.button) return;
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      start = at(event);
    });
    element.addEventListener("pointermove", event => {
      if (start === null) return;
      selection.style.left = Math.min(start, at(event)) * 100 + "%";
      selection.style.width = Math.abs(start - at(event)) * 100 + "%";
      element.append(selection);
    });
    element.addEventListener("pointerup", event => {
      const [low, high] = [start ?? 0, at(event)].sort((a, b) => a - b);
      const [begin, end] = range();
      const isDrag = start !== null && (high - low) * element.clientWidth > 3;
      const time = share => begin + share * (end - begin);
      if (isDrag) zoom(time(low), time(high));
    });
    element.addEventListener("lostpointercapture", () => {
      start = null;
      selection.remove();
    });
  }

  /* ---- Selecting and folding ---- */

  function select(i) {
    active = i;
    version++;
    reveal(i);
    if (!$("details").hidden) drawDetails();
  }

  function reveal(i) {
    const grid = $("grid");
    const top = rowOf(i) * rowHeight;
    const space = grid.clientHeight - $("head").offsetHeight - rowHeight;
    const nearest = clamp(grid.scrollTop, top - space, top);
    const isFar = Math.abs(nearest - grid.scrollTop) > space;
    grid.scrollTop = isFar ? top - space / 2 : nearest;
    draw();
  }

  /** Select a span that may be folded away or filtered out. */
  function goTo(i) {
    showView("timeline");
    for (let up = parent[i]; up >= 0; up = parent[up]) collapsed[up] = 0;
    if (!isInView(i)) view = [0, length];
    refresh();
    if (rowOf(i) < 0) {
      $("problems").checked = false;
      refresh();
    }
    select(i);
  }

  function fold(i, isFolded) {
    if (!children[i]) return;
    collapsed[i] = isFolded;
    refresh();
  }

  function foldAll(isFolded) {
    collapsed.fill(isFolded);
    refresh();
    reveal(active);
  }

  /* ---- Searching ---- */

  const plain = value => value.toLowerCase().replace(/\s+/g, " ");
  let searched = null;  // the strings so

  function find(query) {
    const wanted = plain(query).trim();
    if (!wanted) return setHits([], "");
    searched ??= strings.map(plain);
    const inString = searched.map(each => each.includes(wanted));
    // The first is the template, which is no text of the trace.
    const inNotification = notifications.map(
      each => each.some((argument, n) => n > 0 && inString[argument]));
    return setHits([...spans.keys()].filter(i => {
      const span = spans[i];
      return inNotification[span[START]] || inNotification[span[STOP]]
        || [NAME, SERVICE, WHAT, FAILURE].some(key => inString[span[key]])
        || span[ID].toLowerCase().includes(wanted);
    }));
  }

  function setHits(found, note = `${whole(found.length)} found`) {
    hits = found;
    isHit.fill(0);
    for (const i of hits) isHit[i] = 1;
    say(note);
    redraw();
  }

  /** Go to the next hit in the order of rows, round the end. */
  function step(direction) {
    if (!hits.length) return;
    const isBeyond = i => (i - active) * direction > 0;
    let n = direction > 0 ? hits.findIndex(isBeyond)
      : hits.findLastIndex(isBeyond);
    if (n < 0) n = direction > 0 ? 0 : hits.length - 1;
    goTo(hits[n]);
    say(`${whole(n + 1)} of ${whole(hits.length)}`);
  }

  function say(note) {
    $("found").textContent = note;
  }

  /** Show in the timeline what a line of a table counts. */
  function pick(found) {
    $("query").value = "";
    setHits(found);
    goTo(found[0]);
    say(`1 of ${whole(found.length)}`);
    $("grid").focus();
  }

  /* ---- Details ---- */

  const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/.source;
  const HOLE = new RegExp(`${STRING}|[@#]`, "g");
  const ODD = new RegExp(
    `${STRING}|-?(?:NaN|Infinity|[0-9][0-9.eE+-]{15,})`, "g");

  /** A notification as osprofiler sent it, parsed. */
  function payload(i, at) {
    if (at < 0) return null;
    const [template, ...holes] = notifications[at];
    const end = spans[i][BEGIN] + (spans[i][DURATION] ?? 0);
    const own = {
      "-1": clock(at === spans[i][STOP] ? end : spans[i][BEGIN]),
      "-2": spans[i][ID],
      "-3": spans[parent[i]]?.[ID],
    };
    let n = 0;
    const json = strings[template].replace(HOLE, token => {
      if (token !== "@" && token !== "#") return token;
      const value = own[holes[n]] ?? strings[holes[n]];
      n++;
      return token === "@" ? JSON.stringify(value) : value;
    });
    try {
      // Numbers that JavaScript lacks or would round are kept as strings.
      return JSON.parse(json.replace(ODD,
        token => token.startsWith('"') ? token : `"${token}"`));
    } catch {
      return { "too deep for this browser": json };
    }
  }

  const TITLES = { "db.statement": "SQL", "db.params": "Parameters" };

  function drawDetails() {
    const i = active;
    const [start, stop] = [START, STOP].map(key => payload(i, spans[i][key]));
    const ended = stop?.info ?? {};
    const list = make("dl");
    const field = (title, value, className) => {
      if (value === undefined || value === null || value === "") return;
      const content = typeof value === "string" ? value
        : JSON.stringify(value, null, 2);
      const isLong = content.length > 60 || content.includes("\n");
      list.append(make("dt", "", visible(title)), make("dd"));
      list.lastChild.append(make(isLong && className !== "id" ? "pre" : "span",
        className, visibleLines(content)));
    };
    field("Exception", ended.etype, "failure");
    field("Message", ended.message);
    for (const info of [start?.info, ended]) {
      for (const [kind, told] of Object.entries(info ?? {})) {
        if (told === null || typeof told !== "object") continue;
        // Sorted as sent; the other way round the statement comes first.
        for (const [key, value] of Object.entries(told).reverse()) {
          field(TITLES[`${kind}.${key}`] ?? `${kind} ${key}`, value);
        }
      }
    }
    field("Duration", ending(i) + (isOpen(i) ? "" : " ms"));
    if (!isOpen(i)) field("Self", milliseconds(spans[i][SELF]) + " ms");
    field("Started", start
      && `${start.timestamp} UTC (+${milliseconds(from(i))} ms)`);
    field("Stopped", stop && stop.timestamp + " UTC");
    field("Service", text(i, SERVICE));
    field("Host", text(i, HOST));
    field("Spans inside", after[i] > i + 1 ? whole(after[i] - i - 1) : "");
    field("Span", spans[i][ID], "id");
    field("Parent", (start ?? stop).parent_id, "id");
    const raw = [["Start as sent", start], ["Stop as sent", stop]];
    $("details").replaceChildren(
      makeButton("Close", "", closeDetails),
      make("h2", "", visible(text(i, NAME))),
      list,
      ...raw.filter(([, sent]) => sent).map(([title, sent]) => {
        const block = make("details");
        block.append(make("summary", "", title),
          make("pre", "", visibleLines(JSON.stringify(sent, null, 2))));
        return block;
      }));
  }

  function openDetails() {
    if (!$("details").hidden) return;
    $("details").hidden = false;
    drawDetails();
    reveal(active);
  }

  function closeDetails() {
    $("details").hidden = true;
    $("grid").focus();
  }

  /* ---- Tables ---- */

  /**
   * Add a table that the reader can sort; the first column leads to the spans
   * that a line counts.
   * columns: the title, what to sort by, and how to write it if a number
   */
  function addTable(section, caption, columns, lines, spansOf) {
    const table = make("table");
    table.append(make("caption", "", caption));
    const head = table.createTHead().insertRow();
    const body = table.createTBody();
    const fillLine = line => {
      const row = make("tr");
      columns.forEach(([title, key, format], n) => {
        const value = key(line);
        const content = format ? format(value) : visible(value) || "(none)";
        const cell = make(n ? "td" : "th", format && "number");
        cell.append(n ? content
          : makeButton(content, "link", () => pick(spansOf(line))));
        if (title === "Share") cell.style.setProperty("--share", content);
        row.append(cell);
      });
      return row;
    };
    const sort = (column, isFalling) => {
      const key = columns[column][1];
      const order = (a, b) => key(a) < key(b) ? -1 : Number(key(a) > key(b));
      lines.sort((a, b) => isFalling ? order(b, a) : order(a, b));
      [...head.cells].forEach((cell, n) => cell.setAttribute("aria-sort",
        n !== column ? "none" : isFalling ? "descending" : "ascending"));
      body.replaceChildren(...lines.slice(0, MAX_LINES).map(fillLine));
    };
    columns.forEach(([title, , format], n) => {
      const cell = make("th", format && "number");
      const isFalling = { descending: false, ascending: true };
      cell.append(makeButton(title, "", () => sort(n,
        isFalling[cell.getAttribute("aria-sort")] ?? Boolean(format))));
      head.append(cell);
    });
    sort(columns.length - 1, true);
    section.append(table);
    if (lines.length > MAX_LINES) section.append(
      make("p", "", `The first ${MAX_LINES} of ${whole(lines.length)}`));
  }

  // What is selected is long, and says less than from where.
  const shortened = statement =>
    statement.replace(/^(SELECT .{60}\S*) .*? (?=FROM )/i, "$1 \u2026 ");

  function drawTables() {
    const own = spans.reduce((sum, span) => sum + (span[SELF] ?? 0), 0);
    const share = time => tenths(own && time / own * 100) + "%";
    const everyone = [...spans.keys()];
    ["Operation", "Service", "Host"].forEach((title, n) => addTable(
      $("totals"), "By " + title.toLowerCase(), [
        [title, line => strings[line[0]]],
        ["Count", line => line[1], whole],
        ["Errors", line => line[2], whole],
        ["Total, ms", line => line[3], milliseconds],
        ["Share", line => line[4], share],
        ["Self, ms", line => line[4], milliseconds],
      ], data.totals[n],
      line => everyone.filter(i => spans[i][KEYS[n]] === line[0])));
    addTable($("totals"), "Longest self time", [
      ["Span", i => `${text(i, NAME)} ${text(i, WHAT)}`],
      ["Service @ host", where],
      ["Duration, ms", i => spans[i][DURATION], milliseconds],
      ["Share", i => spans[i][SELF], share],
      ["Self, ms", i => spans[i][SELF], milliseconds],
    ], everyone.filter(i => !isOpen(i))
      .sort((a, b) => spans[b][SELF] - spans[a][SELF]).slice(0, 20), i => [i]);
    addTable($("statements"), "Statements executed more than once", [
      ["Statement, without literals", line => shortened(strings[line[0]])],
      ["Mean, ms", line => line[1] / line[2].length, milliseconds],
      ["Total, ms", line => line[1], milliseconds],
      ["Count", line => line[2].length, whole],
    ], data.statements, line => line[2]);
  }

  /* ---- The frame ---- */

  function showView(name) {
    $("show-" + name).checked = true;
    resize();
  }

  function drawFrame() {
    const count = test => [...spans.keys()].filter(test).length;
    const fact = (title, content, className) => {
      const pair = $("facts").appendChild(make("div", className));
      pair.append(make("dt", "", title), make("dd", "", content));
    };
    const failed = count(isFailed);
    fact("Trace", visible(data.base_id), "id");
    if (spans.length) {
      $("title").textContent = visible(text(0, WHAT) || text(0, NAME));
      fact("Started", clock(0) + " UTC");
      fact("Duration", milliseconds(data.length) + " ms");
    }
    fact("Spans", whole(spans.length));
    fact("Errors", (failed ? "\u2717 " : "") + whole(failed), failed && "bad");
    fact("Verdict", (data.complete ? "\u2713 " : "\u26a0 ") + data.verdict,
      data.complete ? "good" : "bad");
    $("problem-count").textContent = whole(count(isProblem));
    $("statement-count").textContent = data.statements.length;
    $("colours").append(...ranking.slice(0, PALETTE).map(([value], n) => {
      const item = make("span");
      item.append(make("i", "bar colour-" + n),
        visible(strings[value].slice(0, 40)) || "(none)");
      return item;
    }));
  }

  /* ---- Keys and other events ---- */

  const move = rows =>
    select(shown[clamp(rowOf(active) + rows, 0, shown.length - 1)]);
  const pageRows = () =>
    Math.max(Math.floor($("grid").clientHeight / rowHeight) - 2, 1);

  const gridKeys = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    PageDown: () => move(pageRows()),
    PageUp: () => move(-pageRows()),
    Home: () => move(-shown.length),
    End: () => move(shown.length),
    ArrowRight: () => {
      if (collapsed[active]) fold(active, false);
      else if (children[active]) move(1);
    },
    ArrowLeft: () => {
      if (children[active] && !collapsed[active]) fold(active, true);
      else if (parent[active] >= 0) select(parent[active]);
    },
    Enter: () => $("details").hidden ? openDetails() : $("details").focus(),
    z: () => zoomTo(active),
    n: () => step(1),
    N: () => step(-1),
  };

  document.addEventListener("keydown", event => {
    const { key, target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (target === $("grid") && gridKeys[key] && shown.length) {
      gridKeys[key]();
    } else if (target === $("query") && key === "Enter") {
      step(event.shiftKey ? -1 : 1);
    } else if (key === "/" && target !== $("query")) {
      showView("timeline");
      $("query").select();
    } else if (key === "Escape" && target === $("query")) {
      if (!target.value) $("grid").focus();
      target.value = "";
      find("");
    } else if (key === "Escape") {
      if (!$("details").hidden) closeDetails();
      else if (isZoomed()) zoom(0, length);
      else setHits([], "");
    } else {
      return;
    }
    event.preventDefault();
  });

  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("query", "input", event => find(event.target.value));
  on("next", "click", () => step(1));
  on("previous", "click", () => step(-1));
  on("problems", "change", refresh);
  on("expand", "click", () => foldAll(false));
  on("collapse", "click", () => foldAll(true));
  on("zoom", "click", () => spans.length && zoomTo(active));
  on("unzoom", "click", () => zoom(0, length));
  on("grid", "scroll", () => {
    if (!isDrawing) requestAnimationFrame(draw);
    isDrawing = true;
  });
  dragToZoom($("ruler"), () => view);
  dragToZoom($("overview"), () => [0, length]);
  const print = isStarting => {
    isPrinting = isStarting;
    for (const row of pool.splice(0)) row.element.remove();
    redraw();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("(prefers-color-scheme: dark)")
    .addEventListener("change", resize);

  drawFrame();
  resize();
  refresh();
  drawTables();
  new ResizeObserver(resize).observe($("grid"));
})();
