/* SPDX-License-Identifier: Apache-2.0 */

// Where the time went, and which SQL is repeated.

const MAX_LINES = 200;  // nobody reads further

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
        : makeButton(content, "link", () => showInTimeline(spansOf(line))));
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

function drawTotals() {
  if ($("totals").children.length) return;
  const selfTime = spans.reduce((sum, span) => sum + (span[SELF] ?? 0), 0);
  const share = time => tenths(selfTime && time / selfTime * 100) + "%";
  const allSpans = [...spans.keys()];
  ["Operation", "Service", "Host"].forEach((title, n) => {
    const waited = new Map();
    for (const i of allSpans) {
      const value = spans[i][KEYS[n]];
      waited.set(value, (waited.get(value) ?? 0) + pathTime(i));
    }
    addTable($("totals"), "By " + title.toLowerCase(), [
      [title, total => strings[total[VALUE]]],
      ["Count", total => total[COUNT], whole],
      ["Errors", total => total[ERRORS], whole],
      ["Total", total => total[TOTAL], duration],
      ["On path", total => waited.get(total[VALUE]) ?? 0, duration],
      ["Share", total => total[TOTAL_SELF], share],
      ["Self", total => total[TOTAL_SELF], duration],
    ], data.totals[n],
    total => allSpans.filter(i => spans[i][KEYS[n]] === total[VALUE]));
  });
  addTable($("totals"), "Longest self time", [
    ["Span", i => `${textOf(i, OPERATION)} ${textOf(i, WHAT)}`],
    ["Service @ host", serviceAtHost],
    ["Duration", i => spans[i][DURATION], duration],
    ["Share", i => spans[i][SELF], share],
    ["Self", i => spans[i][SELF], duration],
  ], allSpans.filter(i => !isOpen(i))
    .sort((a, b) => spans[b][SELF] - spans[a][SELF]).slice(0, 20), i => [i]);
}

function drawStatements() {
  if ($("statements").children.length) return;
  const count = repeated => repeated[EXECUTIONS].length;
  addTable($("statements"), "Statements executed more than once", [
    ["Statement, without literals",
      repeated => shortened(strings[repeated[STATEMENT]])],
    ["Mean", repeated => repeated[TOTAL_TIME] / count(repeated),
      duration],
    ["Total", repeated => repeated[TOTAL_TIME], duration],
    ["Count", count, whole],
  ], data.statements, repeated => repeated[EXECUTIONS]);
}
