// Dark or light: as the system has it, or as was chosen in this browser.

const KEPT = "nire-live-theme";
const system = matchMedia("(prefers-color-scheme: light)");

/** Follow the system and the chooser; `changed` is called whenever the colours are others. */
export function followTheme(chooser, changed) {
  const apply = () => {
    const chosen = localStorage.getItem(KEPT) ?? "auto";
    chooser.value = chosen;
    document.documentElement.dataset.theme = chosen === "auto" ? (system.matches ? "light" : "dark") : chosen;
    changed();
  };
  system.addEventListener("change", apply);
  chooser.addEventListener("change", () => {
    localStorage.setItem(KEPT, chooser.value);
    apply();
  });
  apply();
}
