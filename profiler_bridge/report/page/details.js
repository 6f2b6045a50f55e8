/* SPDX-License-Identifier: Apache-2.0 */

// All that is known of the selected span.

const TITLES = { "db.statement": "SQL", "db.params": "Parameters" };

// JSON's strings, and what stands between them: places to fill in a template;
// numbers that JavaScript lacks or would round.
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/.source;
const HOLE = new RegExp(`${STRING}|[@#]`, "g");
const ODD_NUMBER = new RegExp(
  `${STRING}|-?(?:NaN|Infinity|[0-9][0-9.eE+-]{15,})`, "g");

/** The start or the stop of a span as osprofiler sent it, parsed. */
function payloadOf(i, key) {
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
  const json = strings[template].replace(HOLE, token => {
    if (token !== "@" && token !== "#") return token;
    const value = own[places[n]] ?? strings[places[n]];
    n++;
    return token === "@" ? JSON.stringify(value) : value;
  });
  try {
    // Such numbers are kept as strings.
    return JSON.parse(json.replace(ODD_NUMBER,
      token => token.startsWith('"') ? token : `"${token}"`));
  } catch {
    return { "too deep for this browser": json };
  }
}

/** A link to the page with a span selected, where it has an address. */
function permalink(i) {
  const link = make("a", "", "link");
  link.href = "#" + encodeURIComponent(spans[i][ID]);
  return link;
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
    list.append(make("dt", "", visible(title)), make("dd"));
    list.lastChild.append(make(isLong && className !== "id" ? "pre" : "span",
      className, visibleLines(content)));
  };
  addField("Exception", stopInfo.etype, "failure");
  addField("Message", stopInfo.message);
  for (const info of [start?.info, stopInfo]) {
    for (const [section, fields] of Object.entries(info ?? {})) {
      if (fields === null || typeof fields !== "object") continue;
      // Sorted as sent; the other way round the statement comes first.
      for (const [key, value] of Object.entries(fields).reverse()) {
        addField(TITLES[`${section}.${key}`] ?? `${section} ${key}`, value);
      }
    }
  }
  addField("Duration", durationText(i) + (isOpen(i) ? "" : " ms"));
  if (!isOpen(i)) addField("Self", milliseconds(spans[i][SELF]) + " ms");
  addField("Started", start
    && `${start.timestamp} UTC (+${milliseconds(beginOf(i))} ms)`);
  addField("Stopped", stop && stop.timestamp + " UTC");
  if (isLate(i)) addField("Late", "began when the request's work was over");
  addField("Trace point", textOf(i, NAME));
  addField("Service", textOf(i, SERVICE));
  addField("Host", textOf(i, HOST));
  addField("Spans inside", insideCount(i) ? whole(insideCount(i)) : "");
  addField("Span", spans[i][ID], "id");
  if ($("links")) list.lastChild.append(" ", permalink(i));
  addField("Parent", (start ?? stop).parent_id, "id");
  const payloads = [["Start as sent", start], ["Stop as sent", stop]];
  $("details").replaceChildren(
    makeButton("Close", "", closeDetails),
    make("h2", "", visible(textOf(i, OPERATION))),
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
  $("details").hidden = false;
  drawDetails();
  reveal(active);
}

function closeDetails() {
  $("details").hidden = true;
  $("grid").focus();
}
