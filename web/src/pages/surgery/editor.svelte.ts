// The cards that are being edited: tree, choice, focus, undo and redo. Every change makes a new tree.
import { identity, every, parsed, printed, type Card } from "./plan";
import { mistakeIn, tidied, type Done } from "./operations";

const MOST_KEPT = 200;

export class Editor {
  tree = $state.raw<Card[]>([]);
  chosen = $state.raw<ReadonlySet<number>>(new Set<number>());
  focused = $state<number | null>(null);
  /** Said to those who cannot see what changed; also the reason where nothing did. */
  said = $state("");
  private past = $state.raw<Card[][]>([]);
  private future = $state.raw<Card[][]>([]);
  readonly text = $derived(printed(this.tree));
  readonly order = $derived([...every(this.tree)].map((card) => card.id));

  constructor(
    private readonly depth: number,
    text: string,
    private readonly changed: (text: string) => void,
  ) {
    this.tree = text ? parsed(text, depth) : identity(depth);
    this.focused = this.tree[0]?.id ?? null;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }
  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** The cards that an operation is about: the chosen ones, or the focused one. */
  get meant(): ReadonlySet<number> {
    if (this.chosen.size) return this.chosen;
    return new Set(this.focused === null ? [] : [this.focused]);
  }

  card(id: number | null): Card | undefined {
    if (id === null) return undefined;
    for (const card of every(this.tree)) if (card.id === id) return card;
    return undefined;
  }

  /** Does something to a copy of the tree and takes it over where it is a plan; `told` is said of it. */
  edit(work: (tree: Card[]) => Done, told: string, translated: (reason: string) => string): void {
    const copy = structuredClone(this.tree);
    const done = work(copy);
    const next = Array.isArray(done) ? tidied(copy) : copy;
    const reason = Array.isArray(done) ? mistakeIn(next) : done.reason;
    if (reason !== undefined) {
      this.said = translated(reason);
      return;
    }
    const had = this.chosen.size > 0;
    this.take(next);
    const there = new Set(this.order);
    const kept = (done as number[]).filter((id) => there.has(id));
    this.chosen = new Set(had && kept.length > 1 ? kept : []);
    this.focused = kept[0] ?? this.order[Math.min(this.order.length - 1, 0)] ?? null;
    this.said = told;
  }

  /** Another plan, as a step that can be undone. */
  replace(text: string, told = ""): void {
    if (text === this.text) return;
    this.take(text ? parsed(text, this.depth) : identity(this.depth));
    this.chosen = new Set();
    this.focused = this.order[0] ?? null;
    this.said = told;
  }

  private take(next: Card[]): void {
    if (printed(next) === this.text) return void (this.tree = next);
    this.past = [...this.past, this.tree].slice(-MOST_KEPT);
    this.future = [];
    this.tree = next;
    this.changed(printed(next));
  }

  undo(told: string): void {
    this.step("past", "future", told);
  }
  redo(told: string): void {
    this.step("future", "past", told);
  }

  private step(from: "past" | "future", to: "past" | "future", told: string): void {
    const next = this[from][this[from].length - 1] as Card[] | undefined;
    if (!next) return;
    this[to] = [...this[to], this.tree];
    this[from] = this[from].slice(0, -1);
    this.tree = next;
    this.chosen = new Set();
    if (!this.order.includes(this.focused ?? -1)) this.focused = this.order[0] ?? null;
    this.said = told;
    this.changed(this.text);
  }

  toggle(id: number): void {
    const next = new Set(this.chosen);
    if (!next.delete(id)) next.add(id);
    this.chosen = next;
    this.focused = id;
  }

  /** Chooses everything between the focused card and another one. */
  extend(id: number): void {
    const from = this.order.indexOf(this.focused ?? id);
    const to = this.order.indexOf(id);
    const between = this.order.slice(Math.min(from, to), Math.max(from, to) + 1);
    this.chosen = new Set([...this.chosen, ...between]);
    this.focused = id;
  }

  all(): void {
    this.chosen = new Set(this.tree.map((card) => card.id));
  }
  none(): void {
    this.chosen = new Set();
  }
}
