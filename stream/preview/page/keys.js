// Keyboard shortcuts, and the sheet that lists them.

/**
 * @param list where they are listed
 * @param shortcuts [{key, shown, words, act}]; `key` as in KeyboardEvent.key
 */
export function followKeys(list, shortcuts) {
  for (const { shown, words } of shortcuts) {
    const row = document.createElement("div");
    const what = document.createElement("dt");
    const how = document.createElement("dd");
    const key = document.createElement("kbd");
    what.textContent = words;
    key.textContent = shown;
    how.append(key);
    row.append(what, how);
    list.append(row);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, select, textarea, [role=slider]") && event.key !== "?") return;
    if (event.key === " " && event.target.matches("button, summary, a")) return;
    const found = shortcuts.find(({ key }) => [key].flat().includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act(event);
  });
}
