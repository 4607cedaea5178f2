// The second key after g, by page.
import type { PageName } from "./address.svelte";

export const PAGE_KEYS: Record<PageName, string> = {
  home: "h", perceptron: "n", playground: "p", walk: "w", examine: "e", surgery: "s", train: "t", results: "r", tree: "f", runs: "m", help: "?",
};
