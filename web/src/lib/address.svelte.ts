// The address is the state: /page#name=value&name=value. Reading is reactive; writing replaces the entry, or adds one to go back to.
import { KEYS as PLAYGROUND_KEYS } from "./playgroundKeys";

export const PAGES = ["home", "perceptron", "playground", "walk", "examine", "surgery", "train", "results", "tree", "runs", "help"] as const;
export type PageName = (typeof PAGES)[number];

interface Place {
  page: PageName;
  values: Record<string, string>;
}

let place = $state<Place>(read());

function read(): Place {
  const values = parse(location.hash);
  const named = location.pathname.replace(/^\/+|\/+$/g, "");
  const known = PAGES.find((one) => one === named);
  // An old link of TensorFlow Playground has nothing but its hash.
  const isLesson = named === "" && Object.keys(values).some((name) => PLAYGROUND_KEYS.includes(name));
  return { page: known ?? (isLesson ? "playground" : "home"), values };
}

export function parse(hash: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at > 0) found[decoded(part.slice(0, at))] = decoded(part.slice(at + 1));
  }
  return found;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replace(/\+/g, " "));
  } catch {
    return text;
  }
}

export function hashOf(values: Record<string, string>): string {
  // Commas, colons and the like stay readable, as in the links that people already have.
  const written = (text: string) => encodeURIComponent(text).replace(/%(2C|3A|2F|40|3B|7C)/g, (code) => decodeURIComponent(code));
  const parts = Object.entries(values).map(([name, value]) => `${written(name)}=${written(value)}`);
  return parts.length ? `#${parts.join("&")}` : "";
}

/** The page that is shown. */
export function page(): PageName {
  return place.page;
}

/** All values of the address, of the page that is shown. */
export function values(): Record<string, string> {
  return place.values;
}

/** One value of the address, or the fallback. */
export function value(name: string, fallback = ""): string {
  return place.values[name] ?? fallback;
}

/** Sets some values (null or the empty string removes one) without a new entry in the history, unless `step`. */
export function put(changes: Record<string, string | number | boolean | null>, step = false): void {
  const next = { ...place.values };
  for (const [name, given] of Object.entries(changes)) {
    if (given === null || given === "") delete next[name];
    else next[name] = String(given);
  }
  const target = `/${place.page === "home" ? "" : place.page}${hashOf(next)}`;
  if (target === location.pathname + location.hash) return;
  place = { page: place.page, values: next };
  history[step ? "pushState" : "replaceState"](null, "", target);
}

/** The address of a page with values: for links. */
export function addressOf(name: PageName, given: Record<string, string> = {}): string {
  return `/${name === "home" ? "" : name}${hashOf(given)}`;
}

/** Goes to another page, as a link would. */
export function go(name: PageName, given: Record<string, string> = {}): void {
  history.pushState(null, "", addressOf(name, given));
  arrive();
}

function arrive(): void {
  place = read();
  window.scrollTo(0, 0);
}

/** Links inside the studio change the page without loading it anew; to be put on the element that holds them all. */
export function followed(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest("a");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (link.pathname.startsWith("/api/")) return;
  if (link.pathname === location.pathname && link.hash && !link.hash.includes("=")) return; // a place on this page
  event.preventDefault();
  history.pushState(null, "", link.pathname + link.hash);
  arrive();
}

window.addEventListener("popstate", () => (place = read()));
window.addEventListener("hashchange", () => (place = read()));
