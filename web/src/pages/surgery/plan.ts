// A plan as the cards show it: layers, parallel sets and loops in a tree. `printed` and `parsed` are inverse; whether a typed
// text is a plan at all, and its one canonical form, is the studio's to say (surgery/grammar.py).
export interface LayerCard { id: number; kind: "layer"; layer: number }
export interface ParallelCard { id: number; kind: "parallel"; combine: "mean" | "sum"; gain: number; branches: Card[][] }
export interface LoopCard { id: number; kind: "loop"; count: number; body: Card[] }
export type Card = LayerCard | ParallelCard | LoopCard;

let last = 0;
export const layer = (number: number): LayerCard => ({ id: ++last, kind: "layer", layer: number });
export const parallel = (branches: Card[][], combine: "mean" | "sum" = "mean", gain = 1): ParallelCard => ({ id: ++last, kind: "parallel", combine, gain, branches });
export const loop = (body: Card[], count: number): LoopCard => ({ id: ++last, kind: "loop", count, body });

/** Every layer once, in order. */
export const identity = (depth: number): Card[] => Array.from({ length: depth }, (_, number) => layer(number));

/** The same cards under new numbers of their own. */
export function copied(card: Card): Card {
  if (card.kind === "layer") return layer(card.layer);
  if (card.kind === "loop") return loop(card.body.map(copied), card.count);
  return parallel(card.branches.map((branch) => branch.map(copied)), card.combine, card.gain);
}

/** The lists that a card holds. */
export const listsOf = (card: Card): Card[][] => (card.kind === "layer" ? [] : card.kind === "loop" ? [card.body] : card.branches);

/** Every card, a box before what it holds. */
export function* every(cards: readonly Card[]): Generator<Card> {
  for (const card of cards) {
    yield card;
    for (const list of listsOf(card)) yield* every(list);
  }
}

/** The layers that are run, in order, repeats counted. */
export function executions(cards: readonly Card[]): number[] {
  return cards.flatMap((card) => {
    if (card.kind === "layer") return [card.layer];
    const inner = listsOf(card).flatMap(executions);
    return card.kind === "loop" ? Array.from({ length: card.count }, () => inner).flat() : inner;
  });
}

export function printed(cards: readonly Card[]): string {
  const words: string[] = [];
  for (let at = 0; at < cards.length; ) {
    const count = Math.max(neighbours(cards, at, 1), neighbours(cards, at, -1));
    words.push(count > 1 ? `${word(cards[at])}..${word(cards[at + count - 1])}` : word(cards[at]));
    at += count;
  }
  return words.join(" ");
}

function word(card: Card): string {
  if (card.kind === "layer") return String(card.layer);
  if (card.kind === "loop") {
    const [only] = card.body;
    const bare = card.body.length === 1 && only.kind !== "loop";
    return `${bare ? word(only) : `(${printed(card.body)})`}x${card.count}`;
  }
  const inner = card.branches.map(printed).join(" | ");
  return `${card.gain === 1 ? "" : `${card.gain}*`}${card.combine === "sum" ? "sum" : ""}(${inner})`;
}

/** How many layers from `start` on follow each other by `step`. */
function neighbours(cards: readonly Card[], start: number, step: number): number {
  const first = cards[start];
  if (first.kind !== "layer") return 1;
  let count = 1;
  for (; start + count < cards.length; count++) {
    const here = cards[start + count];
    if (here.kind !== "layer" || here.layer !== first.layer + step * count) break;
  }
  return count;
}

/** The cards of a text that the studio has found to be a plan. */
export function parsed(text: string, depth: number): Card[] {
  return new Reader(text, depth).plan();
}

class Reader {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly depth: number,
  ) {}

  plan(): Card[] {
    const cards: Card[] = [];
    for (;;) {
      this.take(/[\s,;]*/y);
      if (this.at >= this.text.length || "|)]".includes(this.text[this.at])) return cards;
      cards.push(...this.item());
    }
  }

  private item(): Card[] {
    const gain = Number(this.take(/((?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+)\s*)\*\s*/iy)?.[1] ?? 1);
    const name = this.take(/(sum|mean)?\s*(?=[([])/iy);
    const made = name ? this.group(name[1]?.toLowerCase() === "sum" ? "sum" : "mean", gain) : this.range().map((one) => (gain === 1 ? one : parallel([[one]], "mean", gain)));
    const times = Number(this.take(/ *[x×](\d+)/iy)?.[1] ?? 1);
    return times === 1 ? made : [loop(made, times)];
  }

  private group(combine: "mean" | "sum", gain: number): Card[] {
    const branches: Card[][] = [];
    do {
      this.at++;
      branches.push(this.plan());
    } while (this.text[this.at] === "|");
    this.at++;
    return branches.length === 1 && gain === 1 ? branches[0] : [parallel(branches, branches.length === 1 ? "mean" : combine, gain)];
  }

  private range(): LayerCard[] {
    const found = this.take(/(\d+)((?:\.\.|-|–|…)(\d*))?/y);
    if (!found) throw new Error(`no plan: ${this.text}`);
    const first = Number(found[1]);
    const end = found[2] === undefined ? first : found[3] === "" ? this.depth - 1 : Number(found[3]);
    const step = end < first ? -1 : 1;
    return Array.from({ length: Math.abs(end - first) + 1 }, (_, i) => layer(first + step * i));
  }

  private take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at += found[0].length;
    return found;
  }
}
