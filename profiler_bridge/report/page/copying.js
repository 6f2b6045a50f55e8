/* SPDX-License-Identifier: Apache-2.0 */

// Texts to the clipboard.

/** Where a page is not told of the clipboard: not over plain HTTP. */
function copySelected(content) {
  const area = make("textarea");
  area.value = content;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}

async function copy(content) {
  try {
    await navigator.clipboard.writeText(content);
    return true;
  } catch {
    return copySelected(content);
  }
}

function makeCopyButton(what, contentOf) {
  const button = makeButton("Copy", "copy", async () => {
    const isCopied = await copy(contentOf());
    button.textContent = isCopied ? "Copied" : "Not allowed";
    button.focus();
    announce(isCopied ? `Copied: ${what}` : "");
  });
  if (what === "link" || what === "JSON") button.textContent += " " + what;
  button.setAttribute("aria-label", "Copy " + what);
  return button;
}
