// Light or dark: as the system has it, unless the person chose.
export type Theme = "auto" | "light" | "dark";

const KEPT = "glassworks.theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const state = $state<{ chosen: Theme; systemIsDark: boolean }>({ chosen: kept(), systemIsDark: system.matches });
system.addEventListener("change", (event) => (state.systemIsDark = event.matches));
show();

function kept(): Theme {
  const found = localStorage.getItem(KEPT);
  return found === "light" || found === "dark" ? found : "auto";
}

function show(): void {
  if (state.chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.chosen;
}

export function theme(): Theme {
  return state.chosen;
}

/** What canvases draw for: reading it makes them redraw when it changes. */
export function isDark(): boolean {
  return state.chosen === "auto" ? state.systemIsDark : state.chosen === "dark";
}

export function choose(chosen: Theme): void {
  state.chosen = chosen;
  localStorage.setItem(KEPT, chosen);
  show();
}
