// Which scores belong on one chart, what they are called, in which unit; curves smoothed, rates counted.
import { msg, t } from "$lib/i18n.svelte";
import type { Training } from "./jobs.svelte";

export interface Group { id: string; title: string; unit: string; names: string[]; note: string; log: boolean }

const KNOWN: readonly { id: string; title: string; unit: string; fits: RegExp; note: string; log?: boolean }[] = [
  { id: "induction", title: msg("Induction score"), unit: msg("share of attention"), fits: /^(induction|previous_token)\//, note: msg("The best head of each layer: how much of its attention goes to what followed this token the last time (induction), or to the token before. Random tokens said twice; in the bigram world the places where a trigger comes back.") },
  { id: "recall", title: msg("Memory recall"), unit: msg("share recalled"), fits: /^recall\/(output|match|position_64)$/, note: msg("What the weight matrices themselves have stored: the output for each token, the trigger for each token, the place before each place (first 64).") },
  { id: "loss", title: msg("Loss"), unit: msg("nats"), fits: /^(loss|held_out_loss|eval_loss)$/, note: "", log: true },
  { id: "accuracy", title: msg("Accuracy"), unit: msg("share right"), fits: /^accuracy($|\/(all|in_context|trigger)$)|^held_out_accuracy$|_accuracy$/, note: "" },
  { id: "reward", title: msg("Reward"), unit: msg("reward"), fits: /^(reward|gold|rewards?\/(mean|margins|chosen|rejected))$/, note: "" },
  { id: "kl", title: msg("Divergence from the start"), unit: msg("nats per answer"), fits: /^(kl|kl_.*|objective\/kl)$/, note: "" },
  { id: "bits", title: msg("Bits per byte"), unit: msg("bits"), fits: /bits_per_byte/, note: "" },
];

const NAMES: Record<string, string> = {
  loss: msg("training"), held_out_loss: msg("held out"), bits_per_byte: msg("held out, bits per byte"), reward: msg("reward learned from"), gold: msg("gold reward"), kl: msg("divergence"),
  "accuracy/in_context": msg("in context"), "accuracy/all": msg("all tokens"), "accuracy/trigger": msg("at a trigger"),
  "recall/output": msg("W_O²: its output"), "recall/match": msg("W_K²: the trigger"), "recall/position_64": msg("W_K¹: one place back"),
};

/** Units of losses as a job names them. */
export const UNITS: Record<string, string> = { "half squared error": msg("half squared error"), "nats per byte": msg("nats per byte"), "nats per token": msg("nats per token"), "nats per pair": msg("nats per pair"), "policy loss": msg("loss of the policy") };

export function nameOf(score: string): string {
  const known = NAMES[score];
  if (known) return t(known);
  const layer = /^(induction|previous_token)\/layer_(\d+)$/.exec(score);
  if (layer) return layer[1] === "induction" ? t("induction, layer {layer}", { layer: layer[2] }) : t("token before, layer {layer}", { layer: layer[2] });
  return score.replaceAll("_", " ");
}

/** The charts that some trainings have numbers for, the telling ones first; what fits none is under "other". */
export function groupsOf(trainings: readonly Training[]): Group[] {
  const names = [...new Set(trainings.flatMap((one) => Object.keys(one.scores)))];
  const has = (name: string) => trainings.some((one) => one.scores[name]?.some((value) => value !== null && Number.isFinite(value)));
  const found: Group[] = [];
  for (const { id, title, unit, fits, note, log } of KNOWN) {
    const own = names.filter((name) => fits.test(name) && has(name));
    if (own.length) found.push({ id, title: t(title), unit: t(unit), names: own, note: note && t(note), log: log ?? false });
  }
  const rest = names.filter((name) => has(name) && !KNOWN.some(({ fits }) => fits.test(name)));
  return rest.length ? [...found, { id: "other", title: t("Other scores"), unit: "", names: rest, note: "", log: false }] : found;
}

/** A mean over a window of logged steps that reaches back; window 1 leaves everything as it is. */
export function smoothed(values: readonly (number | null)[], window: number): number[] {
  const found: number[] = [];
  for (let i = 0; i < values.length; i++) {
    let [sum, count] = [0, 0];
    for (let j = Math.max(0, i - window + 1); j <= i; j++) {
      const value = values[j];
      if (value !== null && Number.isFinite(value)) [sum, count] = [sum + value, count + 1];
    }
    const own = values[i];
    found.push(own === null || !Number.isFinite(own) || !count ? NaN : sum / count);
  }
  return found;
}

/** Tokens (or answers) a second between two logged steps; pauses show as what they are. */
export function ratesOf(training: Training, perStep: number): { x: number[]; y: number[] } {
  const [x, y]: [number[], number[]] = [[], []];
  for (let i = 1; i < training.steps.length; i++) {
    const seconds = training.at[i] - training.at[i - 1];
    if (seconds > 0.02) {
      x.push(training.steps[i]);
      y.push(((training.steps[i] - training.steps[i - 1]) * perStep) / seconds);
    }
  }
  return { x, y };
}
