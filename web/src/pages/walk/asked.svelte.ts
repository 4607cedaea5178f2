// A question whose answer follows the address: the last one is called off when another is asked, and answers are kept to page back.
import { untrack } from "svelte";
import { ask, type Progress } from "$lib/api";
import { language } from "$lib/i18n.svelte";

const KEPT = 60;
const kept = new Map<string, unknown>();
const open = $state({ count: 0 });

function keep(name: string, found: unknown): void {
  kept.set(name, found);
  for (const oldest of kept.keys()) if (kept.size > KEPT) kept.delete(oldest);
}

/** How many questions of the walk wait for their answers. */
export const running = (): number => open.count;

export interface Asked<Answer> {
  readonly value: Answer | undefined;
  readonly problem: unknown;
  readonly busy: boolean;
  readonly progress: Progress | undefined;
  again(): void;
  cancel(): void;
}

/** Asks ahead while the page rests, so that the next step finds its answer; failures do not matter here. */
export function ahead(kind: string, wanted: { model: string; text: string } & Record<string, unknown>, signal: AbortSignal): void {
  const name = `${kind} ${language()} ${JSON.stringify(wanted)}`;
  if (kept.has(name)) return;
  ask(kind, wanted, { signal }).then((found) => keep(name, found), () => undefined);
}

/** To be called while a component is set up. A null question asks nothing; an answer to another text is never shown. */
export function asked<Answer>(kind: string, question: () => ({ model: string; text: string } & Record<string, unknown>) | null): Asked<Answer> {
  // Raw: an answer holds arrays of many thousands of numbers, and is never changed in part.
  let answer = $state.raw<Answer | undefined>(undefined);
  let problem = $state.raw<unknown>(null);
  let progress = $state.raw<Progress | undefined>(undefined);
  let busy = $state(false);
  let tries = $state(0);
  let of = "";
  let stop = new AbortController();
  const key = $derived.by(() => {
    const wanted = question();
    return wanted && JSON.stringify(wanted);
  });

  $effect(() => {
    void tries;
    if (!key) return;
    const wanted = JSON.parse(key) as { model: string; text: string };
    const name = `${kind} ${language()} ${key}`;
    const known = kept.get(name) as Answer | undefined;
    const own = `${wanted.model}\n${wanted.text}`;
    problem = null;
    if (known !== undefined) {
      [answer, busy, of] = [known, false, own];
      return;
    }
    if (of !== own) answer = undefined;
    [busy, progress] = [true, undefined];
    stop = new AbortController();
    const { signal } = stop;
    untrack(() => open.count++);
    ask<Answer>(kind, wanted, { signal, progress: (how) => (progress = how) }).then(
      (found) => {
        if (signal.aborted) return;
        keep(name, found);
        [answer, busy, of] = [found, false, own];
      },
      (why: unknown) => {
        if (!signal.aborted) [problem, busy, answer] = [why, false, undefined];
      },
    ).finally(() => open.count--);
    const asking = stop;
    return () => asking.abort();
  });

  return {
    get value() { return answer; },
    get problem() { return problem; },
    get busy() { return busy; },
    get progress() { return progress; },
    again: () => { tries++; },
    cancel: () => { stop.abort(); busy = false; },
  };
}
