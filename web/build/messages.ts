// Every sentence of the pages stands in English in the code, as t("...") or msg("..."), and in Chinese in the zh.json of its
// folder. This plugin merges the catalogues into one module and fails the build when a sentence is missing or left over.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Plugin } from "vite";

const NAME = "virtual:chinese";
const SENTENCE = /\b(?:t|msg)\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`([^`$\\]*)`)/g;

export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** The English sentences of a source text. */
export function sentencesIn(source: string): string[] {
  return [...source.matchAll(SENTENCE)].map((found) => unescaped(found[1] ?? found[2] ?? found[3] ?? ""));
}

function unescaped(text: string): string {
  return text.replace(/\\(u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|n|(.))/g, (_, whole: string, braced, four, one) => {
    if (whole === "n") return "\n";
    const code = (braced as string | undefined) ?? (four as string | undefined);
    return code ? String.fromCodePoint(parseInt(code, 16)) : String(one);
  });
}

/** The merged catalogue, and what is wrong with it: sentences without Chinese, Chinese without a sentence, lost names. */
export function catalogue(root: string): { table: Record<string, string>; problems: string[] } {
  const table: Record<string, string> = {};
  const problems: string[] = [];
  const used = new Map<string, string>();
  for (const file of filesBelow(root)) {
    const place = relative(root, file);
    if (file.endsWith("zh.json")) {
      for (const [english, chinese] of Object.entries(JSON.parse(readFileSync(file, "utf-8")) as Record<string, string>)) {
        if (table[english] !== undefined && table[english] !== chinese) problems.push(`${place}: two translations of "${english}"`);
        table[english] = chinese;
      }
    } else if (/\.(svelte|ts)$/.test(file) && !file.endsWith(".test.ts")) {
      for (const sentence of sentencesIn(readFileSync(file, "utf-8"))) used.set(sentence, place);
    }
  }
  for (const [sentence, place] of used) {
    const chinese = table[sentence];
    if (chinese === undefined) problems.push(`${place}: no Chinese for "${sentence}"`);
    else if (names(sentence) !== names(chinese)) problems.push(`${place}: other {names} in the Chinese of "${sentence}"`);
  }
  for (const english of Object.keys(table)) if (!used.has(english)) problems.push(`no page says "${english}" any more`);
  return { table, problems };
}

function names(sentence: string): string {
  return [...new Set(sentence.match(/\{\w+\}/g) ?? [])].sort().join();
}

/** GLASSWORKS_LOOSE=1 turns the failure into a warning while pages are being written. */
export function messages(root: string): Plugin {
  return {
    name: "messages",
    resolveId: (id) => (id === NAME ? `\0${NAME}` : undefined),
    load(id) {
      if (id !== `\0${NAME}`) return undefined;
      const { table, problems } = catalogue(root);
      if (problems.length && process.env.GLASSWORKS_LOOSE !== "1") this.error(`messages:\n${problems.join("\n")}`);
      for (const problem of problems) this.warn(problem);
      return `export default ${JSON.stringify(table)}`;
    },
  };
}
