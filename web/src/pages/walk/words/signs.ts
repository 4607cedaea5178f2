// Tokens as people read them: blanks visible, bytes where there is no character, nothing ever unreadable.
import { t } from "$lib/i18n.svelte";
import type { Group, Token } from "./types";

const SIGNS: Record<string, string> = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

/** A text with its blanks visible; other control characters by their number. */
export function visible(text: string): string {
  return text.replace(/[\s\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (sign) => {
    if (sign === "\u200d") return "";
    return SIGNS[sign] ?? `⟨U+${(sign.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** The bytes of a token as people write them: E4 B8 96. */
export function bytesOf(hex: string): string {
  return (hex.match(/../g) ?? []).join(" ").toUpperCase();
}

/** What a chip shows. */
export function shownOf(group: Group): string {
  if (group.text === null) return `⟨${group.tokens.map((token) => bytesOf(token.hex)).join("·")}⟩`;
  return visible(group.text) || "∅";
}

export const idsOf = (group: Group): string => group.tokens.map((token) => token.id).join(" · ");

/** One sentence about a group, for those who cannot see it and for the card that opens over it. */
export function wordsOf(group: Group): string {
  const token = group.tokens[0];
  if (token.special) return t("special token {text}, id {id}", { text: shownOf(group), id: token.id });
  if (token.unknown) return t("a character that the vocabulary does not have: {text}, id {id}", { text: shownOf(group), id: token.id });
  if (group.tokens.length > 1) return t("{text}: {count} tokens together, ids {ids}", { text: shownOf(group), count: group.tokens.length, ids: idsOf(group) });
  return t("{text}, id {id}", { text: shownOf(group), id: token.id });
}

export const idsIn = (groups: readonly Group[]): number[] => groups.flatMap((group) => group.tokens.map((token: Token) => token.id));
