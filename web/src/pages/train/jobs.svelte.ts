// The jobs of the studio, and what one of them tells while it runs: curves by training, samples, what was measured.
import { get, post } from "$lib/api";
import { language } from "$lib/i18n.svelte";

export type State = "queued" | "running" | "paused" | "stopping" | "done" | "stopped" | "failed" | "interrupted";
export interface Progress { step: number | null; loss: number | null; done: number | null; total: number | null; label: string; at: number | null }
export interface Facts { steps?: number; tokens_per_step?: number; answers_per_step?: number; model?: string; seconds?: number | null; found?: boolean; unit?: string; reads?: string; run?: string; trainings?: number; place?: "here" | "local" | "slurm" | "ray"; workers?: number; launch?: number; preset?: string }
export interface Job {
  id: string; verb: string; about: string; title: string; command: string; choices: Record<string, unknown>; facts: Facts; state: State;
  created: number; started: number | null; ended: number | null; code: number | null; session: number; threads: number; folder: string; progress: Progress;
}
/** One combination of what varied: its values, its numbers, where its model lies. */
export interface Row { values: Record<string, string>; facts: Record<string, number | string | null>; digest: string; folder: string; error: string | null }
export interface Group { values: Record<string, string>; mean: number | null; low: number | null; high: number | null; seeds: number }
export interface Detail extends Job {
  log: string;
  result: { model?: string; report?: string; run?: string; parameters?: number; held_out?: { loss: number; unit: string }; floor?: number | null; facts?: Record<string, number | string>; verdicts?: unknown[]; seconds?: number; reused?: boolean; rows?: Row[] | string; groups?: Group[]; table?: string } | null;
  samples: Record<string, { prompt?: string; text?: string }[]> | null;
}
interface Event { kind: string; at: number; digest?: string; step?: number; steps?: number; first_step?: number; label?: string; loss?: number | null; scores?: Record<string, number | null>; trainings?: Record<string, number>; prompt?: string; text?: string; name?: string; claim?: string; verdict?: string; cause?: string; reused?: boolean; seconds?: number; done?: number; total?: number; job?: string; worker?: number; machine?: string; attempt?: number; reason?: string; log?: string; again?: boolean; found?: boolean }

/** Work of a cluster cannot be held; all else can. */
export const canPause = (job: Job) => !["slurm", "ray"].includes(job.facts.place ?? "here");
export const ALIVE: readonly State[] = ["running", "paused", "stopping"];
export const isOver = (state: State) => !["queued", ...ALIVE].includes(state);

const shared = $state<{ list: Job[]; most: number; isKnown: boolean }>({ list: [], most: 2, isKnown: false });

export const jobs = () => shared.list;

const presets = $state<{ titles: Record<string, string> }>({ titles: {} });
export const nameThem = (titles: Record<string, string>) => (presets.titles = titles);
/** A job's name in the page's language, where it came from a form that was filled in already. */
export const titleOf = (job: Job): string => presets.titles[job.facts.preset ?? ""] ?? job.title;
export const areKnown = () => shared.isKnown;
export const mostRunning = () => shared.most;

export async function refresh(): Promise<void> {
  const found = await get<{ jobs: Job[]; most_running: number }>("/api/jobs");
  [shared.list, shared.most, shared.isKnown] = [found.jobs, found.most_running, true];
}

export async function act(job: Job, action: "pause" | "continue" | "stop" | "again" | "delete"): Promise<void> {
  if (action === "delete") await post(`/api/jobs/${job.id}`, {}, "DELETE");
  else await post(`/api/jobs/${job.id}/${action}`, {});
  await refresh();
}

export const detailOf = (id: string, signal?: AbortSignal) => get<Detail>(`/api/jobs/${id}?lang=${language()}`, signal);

/** One training of a job: a column per score, a row per logged step; a step that was done again has its last value. */
export class Training {
  steps: number[] = [];
  at: number[] = [];
  scores: Record<string, (number | null)[]> = {};
  total = 0;
  isDone = false;
  isReused = false;
  constructor(readonly digest: string, public label: string) {}

  add(step: number, at: number, row: Record<string, number | null>): void {
    while (this.steps.length && this.steps[this.steps.length - 1] >= step) {
      this.steps.pop();
      this.at.pop();
      for (const column of Object.values(this.scores)) column.length = this.steps.length;
    }
    for (const name of Object.keys(row)) this.scores[name] ??= Array.from({ length: this.steps.length }, () => null);
    this.steps.push(step);
    this.at.push(at);
    for (const [name, column] of Object.entries(this.scores)) column.push(row[name] ?? null);
  }

  get done(): number {
    return this.isDone ? this.total : this.steps.length ? this.steps[this.steps.length - 1] + 1 : 0;
  }
}

export interface Sample { step: number; prompt: string; text: string; digest: string }

/** Who works on what, since when. */
export interface Worker { name: string; machine: string; job: string; label: string; attempt: number }
export interface Failure { label: string; attempt: number; reason: string; log: string; again: boolean }

/** What a job has told so far; asked for piece by piece from where the last piece ended. */
export class Feed {
  trainings: Training[] = [];
  samples: Sample[] = [];
  measured: string[] = [];
  judged: { claim: string; verdict: string }[] = [];
  planned: Record<string, number> = {};
  work: { label: string; done: number; total: number; seconds: number } | null = null;
  stopped: string | null = null;
  workers = new Map<string, Worker>();
  failures: Failure[] = [];
  /** Parts that workers finished, and how many of them were there already. */
  parts = { done: 0, found: 0 };
  first: { at: number; done: number } | null = null;
  private next = 0;
  private current: Training | null = null;
  version = $state(0);

  constructor(readonly id: string) {}

  async read(signal?: AbortSignal): Promise<void> {
    for (let more = true; more; ) {
      const piece = await get<{ events: Event[]; next: number; more: boolean; start: number }>(`/api/jobs/${this.id}/events?after=${this.next}`, signal);
      for (const event of piece.events) this.hear(event);
      more = piece.more && piece.next > this.next;
      this.next = piece.next;
      if (piece.events.length) this.version++;
    }
  }

  private hear(event: Event): void {
    switch (event.kind) {
      // Workers of an earlier session are gone.
      case "run_started": this.workers.clear(); [this.failures, this.parts] = [[], { done: 0, found: 0 }]; break;
      case "job_started": {
        const [name, job] = [`${event.machine ?? ""} ${event.worker ?? 0}`, event.job ?? ""];
        this.workers.set(name, { name: String(event.worker ?? 0), machine: event.machine ?? "", job, label: event.label ?? job, attempt: event.attempt ?? 1 });
        break;
      }
      case "job_failed":
        this.leave(event.job ?? "");
        this.failures.push({ label: event.label ?? "", attempt: event.attempt ?? 1, reason: event.reason ?? "", log: event.log ?? "", again: Boolean(event.again) });
        break;
      case "job_done": this.leave(event.job ?? ""); this.parts.done++; if (event.found) this.parts.found++; break;
      case "planned": Object.assign(this.planned, event.trainings); break;
      case "training_started":
        this.current = this.training(event.digest ?? "", event.label ?? "");
        this.current.label = event.label || this.current.label;
        this.current.total = event.steps ?? 0;
        this.planned[this.current.digest] = this.current.total;
        this.first = { at: event.at, done: this.doneSteps - this.current.done + (event.first_step ?? 0) };
        this.stopped = null;
        this.work = null;
        break;
      case "step_done":
        this.training(event.digest ?? "", "").add(event.step ?? 0, event.at, { loss: event.loss ?? null, ...event.scores });
        break;
      case "sampled": this.samples.push({ step: event.step ?? 0, prompt: event.prompt ?? "", text: event.text ?? "", digest: event.digest ?? "" }); break;
      case "training_done": {
        const found = this.training(event.digest ?? "", event.label ?? "");
        found.total ||= this.planned[found.digest] ?? found.done;
        [found.isDone, found.isReused] = [true, Boolean(event.reused)];
        if (found.isReused && !found.steps.length) void this.recall(found);
        break;
      }
      case "progressed": this.work = { label: event.label ?? "", done: event.done ?? 0, total: event.total ?? 0, seconds: event.seconds ?? 0 }; break;
      case "measured": this.measured.push(event.name ?? ""); this.work = null; break;
      case "judged": this.judged.push({ claim: event.claim ?? "", verdict: event.verdict ?? "" }); break;
      case "stopped": this.stopped = event.cause ?? ""; break;
    }
  }

  /** The history of an equal training that was found finished. */
  private async recall(training: Training): Promise<void> {
    const found = await get<{ steps: number[]; metrics: Record<string, (number | null)[]> }>(`/api/jobs/${this.id}/history/${training.digest}`).catch(() => null);
    if (!found) return;
    found.steps.forEach((step, i) => training.add(step, NaN, Object.fromEntries(Object.entries(found.metrics).map(([name, column]) => [name, column[i]]))));
    training.total ||= training.done;
    this.version++;
  }

  private leave(job: string): void {
    for (const [name, worker] of this.workers) if (worker.job === job) this.workers.delete(name);
  }

  /** The training that a worker is at, where its part is one. */
  trainingOf(worker: Worker): Training | undefined {
    return this.trainings.find((one) => one.digest && worker.job.includes(one.digest));
  }

  private training(digest: string, label: string): Training {
    let found = this.trainings.find((one) => one.digest === digest);
    if (!found) this.trainings.push((found = new Training(digest, label)));
    return found;
  }

  get totalSteps(): number {
    return Object.values(this.planned).reduce((a, b) => a + b, 0);
  }
  get doneSteps(): number {
    return this.trainings.reduce((sum, one) => sum + Math.min(one.done, this.planned[one.digest] ?? one.done), 0);
  }
  /** Seconds to the end of the trainings at the pace of this session; null before anything is known. */
  get secondsLeft(): number | null {
    if (this.work && this.work.done > 0) return (this.work.seconds * (this.work.total - this.work.done)) / this.work.done;
    const last = Math.max(...this.trainings.flatMap((one) => one.at.slice(-1)), -Infinity);
    if (!this.first || !Number.isFinite(last) || this.doneSteps <= this.first.done || last <= this.first.at) return null;
    return ((last - this.first.at) / (this.doneSteps - this.first.done)) * (this.totalSteps - this.doneSteps);
  }
}
