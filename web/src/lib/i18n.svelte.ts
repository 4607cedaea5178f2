// Words in the chosen language, by their English sentence with {names}. The Chinese table is loaded when it is first wanted.
export type Language = "en" | "zh";

const KEPT = "glassworks.language";
const words = $state<{ language: Language; chinese: Record<string, string> }>({ language: "en", chinese: {} });

/** The language of everything on the page. */
export function language(): Language {
  return words.language;
}

/** Marks a sentence that is translated later, where it is shown. */
export function msg(sentence: string): string {
  return sentence;
}

/** The sentence in the chosen language, its {names} filled in. */
export function t(sentence: string, values: Record<string, string | number> = {}): string {
  const template = words.language === "zh" ? (words.chinese[sentence] ?? sentence) : sentence;
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}

/** Changes the language of the page, and remembers it. */
export async function speak(chosen: Language): Promise<void> {
  if (chosen === "zh" && Object.keys(words.chinese).length === 0) {
    words.chinese = (await import("virtual:chinese")).default;
  }
  words.language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  localStorage.setItem(KEPT, chosen);
}

/** At the start: ?lang= of the address, then what was chosen before, then what the studio was started with. */
export async function begin(): Promise<void> {
  const wanted = new URLSearchParams(location.search).get("lang") ?? localStorage.getItem(KEPT) ?? (await started());
  await speak(wanted === "zh" ? "zh" : "en");
}

async function started(): Promise<string> {
  try {
    return ((await (await fetch("/api/state")).json()) as { language: string }).language;
  } catch {
    return "en";
  }
}
