import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const KEY = "lensmesh-theme";
const ALL: Theme[] = ["auto", "light", "dark"];

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY) as Theme | null;
    return found && ALL.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}

export const theme = signal<Theme>(stored());

effect(() => {
  const root = document.documentElement;
  if (theme.value === "auto") root.removeAttribute("data-theme");
  else root.dataset["theme"] = theme.value;
  try {
    localStorage.setItem(KEY, theme.value);
  } catch {
    // A browser that keeps nothing shows what the system wants each time.
  }
});

/** Go to the next: as the system, light, dark. */
export function nextTheme(): void {
  theme.value = ALL[(ALL.indexOf(theme.value) + 1) % ALL.length] ?? "auto";
}
