// Keyboard shortcuts, and the sheet that lists them.

/**
 * @param lists [{list, shortcuts}]: where they are listed, and [{key, shown, words, act}]; `key` as in KeyboardEvent.key
 */
export function followKeys(lists) {
  const all = lists.flatMap(({ shortcuts }) => shortcuts);
  for (const { list, shortcuts } of lists) list.append(...shortcuts.map(listed));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, select, textarea, [role=slider]") && event.key !== "?") return;
    if (event.key === " " && event.target.matches("button, summary, a")) return;
    const found = all.find(({ key }) => [key].flat().includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act(event);
  });
}

function listed({ shown, words }) {
  const row = document.createElement("div");
  const what = document.createElement("dt");
  const how = document.createElement("dd");
  const key = document.createElement("kbd");
  what.textContent = words;
  key.textContent = shown;
  how.append(key);
  row.append(what, how);
  return row;
}
