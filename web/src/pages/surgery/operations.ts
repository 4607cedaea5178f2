// What can be done to cards. Each operation changes the tree that it is given and says which cards are chosen afterwards, or
// why it cannot be done.
import { msg } from "$lib/i18n.svelte";
import { copied, every, layer, listsOf, loop, parallel, printed, type Card } from "./plan";

export interface Place {
  list: Card[];
  index: number;
  /** The box that holds the list, null at the top. */
  box: Card | null;
}
export type Side = "before" | "after" | "beside";
/** The cards chosen afterwards, or a reason. */
export type Done = number[] | { reason: string };

export function placeOf(cards: Card[], id: number, box: Card | null = null): Place | undefined {
  const index = cards.findIndex((card) => card.id === id);
  if (index >= 0) return { list: cards, index, box };
  for (const card of cards) {
    for (const list of listsOf(card)) {
      const found = placeOf(list, id, card);
      if (found) return found;
    }
  }
  return undefined;
}

/** The chosen cards in order, without those that lie in another chosen one. */
export function outermost(cards: readonly Card[], ids: ReadonlySet<number>): Card[] {
  return cards.flatMap((card) => (ids.has(card.id) ? [card] : listsOf(card).flatMap((list) => outermost(list, ids))));
}

/** Boxes without content go, boxes that mean nothing open, until nothing changes. */
export function tidied(cards: Card[]): Card[] {
  return cards.flatMap((card): Card[] => {
    if (card.kind === "layer") return [card];
    if (card.kind === "loop") {
      card.body = tidied(card.body);
      if (card.body.length === 0) return [];
      return card.count === 1 ? card.body : [card];
    }
    card.branches = card.branches.map(tidied).filter((branch) => branch.length > 0);
    if (card.branches.length === 0) return [];
    return card.branches.length === 1 && card.gain === 1 ? card.branches[0] : [card];
  });
}

/** Why this tree is no plan; undefined where it is one. */
export function mistakeIn(cards: readonly Card[]): string | undefined {
  if (cards.length === 0) return msg("A plan needs at least one layer.");
  for (const card of every(cards)) {
    if (card.kind !== "parallel") continue;
    const texts = card.branches.map(printed);
    if (new Set(texts).size < texts.length) return msg("A parallel set names each branch once; use a gain for more weight.");
  }
  return undefined;
}

function taken(cards: Card[], ids: ReadonlySet<number>): Card[] {
  const chosen = outermost(cards, ids);
  for (const card of chosen) {
    const place = placeOf(cards, card.id);
    place?.list.splice(place.index, 1);
  }
  return chosen;
}

const idsOf = (cards: readonly Card[]) => cards.map((card) => card.id);

/** Removes; the card that moves up is chosen. */
export function removed(cards: Card[], ids: ReadonlySet<number>): Done {
  const first = outermost(cards, ids)[0];
  const place = first && placeOf(cards, first.id);
  if (!place) return [];
  taken(cards, ids);
  const next = place.list[Math.min(place.index, place.list.length - 1)] ?? place.box;
  return next ? [next.id] : [];
}

/** Copies behind the last of the chosen. */
export function duplicated(cards: Card[], ids: ReadonlySet<number>): Done {
  const chosen = outermost(cards, ids);
  const place = chosen.length ? placeOf(cards, chosen[chosen.length - 1].id) : undefined;
  if (!place) return [];
  const made = chosen.map(copied);
  place.list.splice(place.index + 1, 0, ...made);
  return idsOf(made);
}

/** One place up (-1) or down (1); at the edge of a box, out of it. */
export function moved(cards: Card[], ids: ReadonlySet<number>, step: -1 | 1): Done {
  const chosen = outermost(cards, ids);
  const edge = chosen[step < 0 ? 0 : chosen.length - 1];
  const place = edge && placeOf(cards, edge.id);
  if (!place) return [];
  const neighbour = place.list[place.index + step] as Card | undefined;
  if (neighbour) return put(cards, ids, neighbour.id, step < 0 ? "before" : "after");
  if (!place.box) return { reason: step < 0 ? msg("This is the first place.") : msg("This is the last place.") };
  return put(cards, ids, place.box.id, step < 0 ? "before" : "after");
}

/** The chosen cards before, after or beside another one; beside makes a parallel set, or joins it. */
export function put(cards: Card[], ids: ReadonlySet<number>, target: number, side: Side): Done {
  const chosen = outermost(cards, ids);
  for (const card of chosen) {
    if ([...every([card])].some((one) => one.id === target)) return { reason: msg("Cards cannot be put into themselves.") };
  }
  taken(cards, ids);
  const place = placeOf(cards, target);
  if (!place) return { reason: msg("This place is gone.") };
  const { list, index, box } = place;
  if (side !== "beside") {
    list.splice(side === "before" ? index : index + 1, 0, ...chosen);
  } else {
    const goal = list[index];
    const branches = chosen.map((card) => [card]);
    if (goal.kind === "parallel") goal.branches.push(...branches);
    else if (box?.kind === "parallel" && list.length === 1) box.branches.splice(box.branches.indexOf(list) + 1, 0, ...branches);
    else list[index] = parallel([[goal], ...branches]);
  }
  return idsOf(chosen);
}

/** The chosen cards side by side; one alone with the card behind it. */
export function grouped(cards: Card[], ids: ReadonlySet<number>): Done {
  const chosen = outermost(cards, ids);
  const place = chosen.length ? placeOf(cards, chosen[0].id) : undefined;
  if (!place) return [];
  if (chosen.length === 1) {
    const next = place.list[place.index + 1] as Card | undefined;
    if (!next) return { reason: msg("There is no card behind this one to run beside it.") };
    chosen.push(next);
  }
  // A plain set that is among the chosen takes the others in.
  const branches = chosen.flatMap((card) => (card.kind === "parallel" && card.gain === 1 && card.combine === "mean" ? card.branches : [[card]]));
  const made = parallel(branches);
  taken(cards, new Set(idsOf(chosen.slice(1))));
  const kept = placeOf(cards, chosen[0].id);
  if (kept) kept.list[kept.index] = made;
  return [made.id];
}

/** Opens boxes: the branches of a set one after the other, the body of a loop once. */
export function ungrouped(cards: Card[], ids: ReadonlySet<number>): Done {
  const boxes = outermost(cards, ids).map((card) => (card.kind === "layer" ? placeOf(cards, card.id)?.box : card));
  const different = [...new Set(boxes.filter((box) => box !== null && box !== undefined))];
  if (different.length === 0) return { reason: msg("None of these is in a parallel set or a loop.") };
  const freed: Card[] = [];
  for (const box of different) {
    const place = placeOf(cards, box.id);
    if (!place) continue;
    const inner = listsOf(box).flat();
    place.list.splice(place.index, 1, ...inner);
    freed.push(...inner);
  }
  return idsOf(freed);
}

/** A loop around the chosen cards, which must follow each other; a chosen loop gets the count. */
export function looped(cards: Card[], ids: ReadonlySet<number>, count: number): Done {
  const chosen = outermost(cards, ids);
  const place = chosen.length ? placeOf(cards, chosen[0].id) : undefined;
  if (!place) return [];
  const [only] = chosen;
  if (chosen.length === 1 && only.kind === "loop") {
    only.count = count;
    return [only.id];
  }
  if (!chosen.every((card, i) => place.list[place.index + i] === card)) return { reason: msg("Only cards that follow each other can be looped.") };
  const made = loop(place.list.splice(place.index, chosen.length), count);
  place.list.splice(place.index, 0, made);
  return [made.id];
}

/** A layer that never runs comes back: before the first card whose layers are all higher. */
export function restored(cards: Card[], number: number): Done {
  const made = layer(number);
  const lowest = (card: Card): number => (card.kind === "layer" ? card.layer : Math.min(...listsOf(card).flat().map(lowest)));
  const at = cards.findIndex((card) => lowest(card) > number);
  cards.splice(at < 0 ? cards.length : at, 0, made);
  return [made.id];
}
