/* SPDX-License-Identifier: Apache-2.0 */

// All that is known of the selected span.

const TITLES = { "db.statement": "SQL", "db.params": "Parameters" };
// What of a section comes first; the rest stands as it was sent.
const FIRST = ["statement", "method", "path", "query", "name", "args",
  "kwargs", "params"];
const rankOf = key => FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length;

// JSON's strings, and what stands between them: places to fill in a template;
// numbers that JavaScript lacks or would round.
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/.source;
const HOLE = new RegExp(`${STRING}|[@#]`, "g");
const ODD_NUMBER = new RegExp(
  `${STRING}|-?(?:NaN|Infinity|[0-9][0-9.eE+-]{15,})`, "g");

/** The start or the stop of a span as osprofiler sent it, as JSON. */
function jsonOf(i, key) {
  const index = spans[i][key];
  if (index < 0) return null;
  const [template, ...places] = notifications[index];
  const end = spans[i][BEGIN] + (spans[i][DURATION] ?? 0);
  const own = {
    "-1": timestampAt(index === spans[i][STOP] ? end : spans[i][BEGIN]),
    "-2": spans[i][ID],
    "-3": spans[parentOf[i]]?.[ID],
  };
  let n = 0;
  return strings[template].replace(HOLE, token => {
    if (token !== "@" && token !== "#") return token;
    const value = own[places[n]] ?? strings[places[n]];
    n++;
    return token === "@" ? JSON.stringify(value) : value;
  });
}

/** The same, parsed. */
function payloadOf(i, key) {
  const json = jsonOf(i, key);
  try {
    // Such numbers are kept as strings.
    return json && JSON.parse(json.replace(ODD_NUMBER,
      token => token.startsWith('"') ? token : `"${token}"`));
  } catch {
    return { "too deep for this browser": json };
  }
}

const fragmentOf = i => "#span=" + encodeURIComponent(spans[i][ID]);

/** What is known of a span beside what was sent. */
function addOwnFields(addField, i, start, stop) {
  const run = runAt(i);
  if (run) {
    addField("Alike", `the first of ${whole(run.times)} in a row, together `
      + `${duration(run.total)}; \u25b8 in the row shows all`);
  }
  addField("Duration",
    isOpen(i) ? durationText(i) : exactDuration(spans[i][DURATION]));
  if (!isOpen(i)) addField("Self", exactDuration(spans[i][SELF]));
  const [waited, below] = [pathTime(i), pathTime(i, subtreeEnd[i])];
  addField("On the critical path", below
    ? `${duration(waited)} itself, ${duration(below)} with all below` : "no");
  addField("Started", start
    && `${momentText(beginOf(i))} (+${duration(beginOf(i))})`);
  addField("Stopped", stop && momentText(
    spans[i][BEGIN] + (spans[i][DURATION] ?? 0)));
  if (isLate(i)) addField("Late", "began when the request's work was over");
  addField("Trace point", textOf(i, NAME));
  addField("Service", textOf(i, SERVICE));
  addField("Host", textOf(i, HOST));
  addField("Spans inside", insideCount(i) ? whole(insideCount(i)) : "");
  addField("Span", spans[i][ID], "id");
  addField("Parent", (start ?? stop).parent_id, "id");
}

function drawDetails() {
  const i = active;
  const [start, stop] = [payloadOf(i, START), payloadOf(i, STOP)];
  const stopInfo = stop?.info ?? {};
  const list = make("dl");
  const addField = (title, value, className) => {
    if (value === undefined || value === null || value === "") return;
    const content = typeof value === "string" ? value
      : JSON.stringify(value, null, 2);
    const isLong = content.length > 60 || content.includes("\n");
    const field = make("dd");
    list.append(make("dt", "", visible(title)), field);
    field.append(make(isLong && className !== "id" ? "pre" : "span",
      className, visibleLines(content)));
    if (title === "SQL" || className === "id") {
      field.append(makeCopyButton(title, () => content));
    }
  };
  addField("Exception", stopInfo.etype, "failure");
  addField("Message", stopInfo.message);
  for (const info of [start?.info, stopInfo]) {
    for (const [section, fields] of Object.entries(info ?? {})) {
      if (fields === null || typeof fields !== "object") continue;
      const sorted = Object.entries(fields)
        .sort(([a], [b]) => rankOf(a) - rankOf(b));
      for (const [key, value] of sorted) {
        addField(TITLES[`${section}.${key}`] ?? `${section} ${key}`, value);
      }
    }
  }
  addOwnFields(addField, i, start, stop);
  const actions = make("p", "actions");
  const link = make("a", "", "Link to this span");
  link.href = fragmentOf(i);
  actions.append(link,
    makeCopyButton("link", () => new URL(link.hash, location.href).href),
    makeCopyButton("JSON", () => `[${[START, STOP]
      .map(key => jsonOf(i, key)).filter(Boolean).join(",\n")}]\n`));
  const payloads = [["Start as sent", start], ["Stop as sent", stop]];
  $("details").replaceChildren(
    makeButton("Close", "", closeDetails),
    make("h2", "", visible(textOf(i, OPERATION))),
    actions,
    list,
    ...payloads.filter(([, payload]) => payload).map(([title, payload]) => {
      const block = make("details");
      block.append(make("summary", "", title),
        make("pre", "", visibleLines(JSON.stringify(payload, null, 2))));
      return block;
    }));
}

function openDetails() {
  if (!$("details").hidden) return;
  $("details").hidden = $("divider").hidden = false;
  $("panes").classList.add("opened");
  drawDetails();
  reveal(active);
}

function closeDetails() {
  $("details").hidden = $("divider").hidden = true;
  $("panes").classList.remove("opened");
  $("grid").focus();
}
