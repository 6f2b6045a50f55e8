/* SPDX-License-Identifier: Apache-2.0 */

// What the trace says of itself, and the way to the spans that show it.

function makeFinding(finding) {
  const evidence = finding[EVIDENCE];
  const item = make("li");
  const count = evidence.length;
  item.append(
    makeButton(visible(finding[TITLE]), "link",
      () => showInTimeline([...evidence])),
    make("p", "", `${finding[RULE]}: on the critical path `
      + `${duration(finding[CRITICAL])}, in all ${duration(finding[ALL])}, `
      + `from +${duration(beginOf(evidence[0]))}, `
      + (count === 1 ? "1 span" : `${whole(count)} spans`)));
  return item;
}

/** What cost most, in a line above everything. */
function makeFirstFinding() {
  const [first] = data.findings;
  const line = make("p", "finding");
  const count = data.findings.length;
  line.append(count === 1 ? "Finding: " : `First of ${whole(count)} findings: `,
    makeButton(visible(first[TITLE]), "link", () => showView("findings")),
    ` (${duration(first[CRITICAL])} on the critical path)`);
  return line;
}

function drawFindings() {
  const list = $("finding-list");
  if (list.children.length) return;
  list.append(...data.findings.map(makeFinding));
  $("no-findings").hidden = data.findings.length > 0;
}
