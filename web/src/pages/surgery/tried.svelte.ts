// The plans that were tried, per model, stack and text; kept in this browser, so that they are there after a reload.
import type { Scores, Summary } from "./facts";

export interface Trial {
  /** The one text of the plan. */
  plan: string;
  /** The text as it was made, in which a loop over several layers is one. */
  text?: string;
  layer_runs: number;
  critical_depth: number;
  summary?: Summary;
  /** Cosine of an encoder's mean vector to the whole model's. */
  cosine?: number;
  /** Strategy and number of middle layers, where a preset made it. */
  strategy?: string;
  affected?: number;
  scores?: Record<string, { metric: string; documents: number; value: number | null; plain: number | null; higher: boolean }>;
}

const KEPT = "glassworks.surgery.tried";
const MOST_SCOPES = 12;
const MOST_ROWS = 400;
type Store = Record<string, Trial[]>;

function read(): Store {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    return found && typeof found === "object" ? (found as Store) : {};
  } catch {
    return {};
  }
}

export class Tried {
  rows = $state.raw<Trial[]>([]);
  private scope = "";

  open(scope: string): void {
    if (scope === this.scope) return;
    this.scope = scope;
    const found = read()[scope];
    this.rows = Array.isArray(found) ? found.filter((row) => typeof row?.plan === "string") : [];
  }

  /** Adds rows, or what is new to those of the same plan. */
  add(scope: string, ...rows: Trial[]): void {
    if (scope !== this.scope) return;
    const next = new Map(this.rows.map((row) => [row.plan, row]));
    for (const row of rows) {
      const old = next.get(row.plan);
      next.set(row.plan, { ...old, ...row, scores: { ...old?.scores, ...row.scores } });
    }
    this.rows = [...next.values()].slice(-MOST_ROWS);
    this.keep();
  }

  remove(plan: string): void {
    this.rows = this.rows.filter((row) => row.plan !== plan);
    this.keep();
  }

  clear(): void {
    this.rows = [];
    this.keep();
  }


  private keep(): void {
    const store = read();
    delete store[this.scope];
    if (this.rows.length) store[this.scope] = this.rows;
    const kept = Object.entries(store).slice(-MOST_SCOPES);
    try {
      localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(kept)));
    } catch {
      // The browser's store is full or closed: the table then lasts as long as the page.
    }
  }
}

export const scored = (scores: Scores) => {
  const main = scores.rows.find((row) => row.main) ?? scores.rows[0];
  return { [scores.benchmark]: { metric: main.metric, documents: scores.documents, value: main.value, plain: main.plain, higher: main.higher_is_better } };
};
