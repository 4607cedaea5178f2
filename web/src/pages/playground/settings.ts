// The address is the state: TensorFlow Playground's own hash, read with its fallbacks and written back whole, and our keys beside it.
import { hashOf } from "$lib/address.svelte";
import { WITH_CLASSES } from "./sets";
import { ACTIVATIONS, CURVES, DATASETS, FEATURES, OPTIMIZERS, REGRESSION_DATASETS, REGULARIZATIONS } from "./protocol";
import type { Activation, Feature, Settings } from "./protocol";

/** What is shown, and how; the engine never hears of it. */
export interface View {
  showTestData: boolean;
  discretize: boolean;
  hideText: boolean;
  tutorial: string;
  /** Names of controls that a lesson's link hides. */
  hidden: ReadonlySet<string>;
  /** Epochs a second; 0 is as fast as it goes. */
  speed: number;
  logLoss: boolean;
}

/** What the second network may differ in; data and problem are those of the first. */
export const OWN_OF_B = ["features", "shape", "activation", "activations", "regularization", "regularization_rate", "learning_rate", "batch_size", "optimizer", "dropout", "init_zero", "draw"] as const;
export type Difference = Partial<Pick<Settings, (typeof OWN_OF_B)[number]>>;

export interface State { a: Settings; b: Difference | null; view: View; others: Record<string, string> }
type Values = Record<string, string>;

export const LEARNING_RATES = [0.00001, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10] as const;
export const REGULARIZATION_RATES = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10] as const;
export const SPEEDS = [1, 3, 10, 30, 100, 300, 1000, 0] as const;
export const USUAL_SPEED = 100;
export const MOST_LAYERS = 12;
export const MOST_NEURONS = 32;
export const MOST_POINTS = 5000;

export const DEFAULTS: Settings = {
  problem: "classification", dataset: "circle", regression_dataset: "reg-plane", curve: "parabola", classes: 3, points: [],
  noise: 0, train_percent: 50, batch_size: 10, features: ["x", "y"], shape: [4, 2], activation: "tanh", activations: [],
  regularization: "none", regularization_rate: 0, learning_rate: 0.03, optimizer: "sgd", dropout: 0, seed: "", draw: 0, init_zero: false,
};

function oneOf<T extends string>(values: Values, name: string, known: readonly T[], fallback: T): T {
  return known.find((one) => one === values[name]) ?? fallback;
}

function between(values: Values, name: string, low: number, high: number, fallback: number): number {
  const text = values[name]?.trim();
  const given = text ? Number(text) : NaN;
  return Number.isFinite(given) && given >= low && given <= high ? given : fallback;
}

function flag(values: Values, name: string, fallback: boolean): boolean {
  const text = values[name]?.trim();
  return text ? text !== "false" : fallback;
}

function shapeOf(text: string | undefined): number[] | null {
  if (text === undefined) return null;
  if (text.trim() === "") return [];
  const sizes = text.split(",").map(Number);
  if (sizes.some((size) => !Number.isInteger(size) || size < 1)) return null;
  return sizes.slice(0, MOST_LAYERS).map((size) => Math.min(size, MOST_NEURONS));
}

function activationsOf(text: string | undefined): (Activation | null)[] {
  return text ? text.split(",").map((name) => ACTIVATIONS.find((one) => one === name) ?? null) : [];
}

export function pointsOf(text: string | undefined): Settings["points"] {
  const rows = (text ?? "").split(";").filter(Boolean).map((row) => row.split(",").map(Number));
  return rows.filter((row): row is [number, number, number] => row.length === 3 && row.every(Number.isFinite)).slice(0, MOST_POINTS);
}

export function textOfPoints(points: Settings["points"]): string {
  const short = (value: number) => String(Number(value.toFixed(3)));
  return points.map((row) => row.map(short).join(",")).join(";");
}

function noiseOf(values: Values): number {
  const given = values.noise?.trim() ? Number(values.noise) : NaN;
  if (!Number.isFinite(given)) return DEFAULTS.noise;
  return given < 0 ? 0 : given > 80 ? 50 : given;
}

function featuresOf(values: Values, hidden: ReadonlySet<string>, prefix: string, usual: readonly Feature[]): Feature[] {
  return FEATURES.filter((name) => !hidden.has(name) && flag(values, prefix + name, usual.includes(name)));
}

function hiddenOf(values: Values): ReadonlySet<string> {
  return new Set(Object.keys(values).filter((name) => name.endsWith("_hide") && values[name] === "true").map((name) => name.slice(0, -5)));
}

function settingsOf(values: Values, hidden: ReadonlySet<string>): Settings {
  return {
    problem: oneOf(values, "problem", ["classification", "regression"], DEFAULTS.problem),
    dataset: oneOf(values, "dataset", DATASETS, DEFAULTS.dataset),
    regression_dataset: oneOf(values, "regDataset", REGRESSION_DATASETS, DEFAULTS.regression_dataset),
    curve: oneOf(values, "curve", CURVES, DEFAULTS.curve),
    classes: Math.round(between(values, "classes", 2, 5, DEFAULTS.classes)),
    points: pointsOf(values.points),
    noise: noiseOf(values),
    train_percent: Math.round(between(values, "percTrainData", 1, 99, DEFAULTS.train_percent)),
    batch_size: Math.round(between(values, "batchSize", 1, 1200, DEFAULTS.batch_size)),
    features: featuresOf(values, hidden, "", DEFAULTS.features),
    shape: shapeOf(values.networkShape) ?? DEFAULTS.shape,
    activation: oneOf(values, "activation", ACTIVATIONS, DEFAULTS.activation),
    activations: activationsOf(values.activations),
    regularization: oneOf(values, "regularization", REGULARIZATIONS, DEFAULTS.regularization),
    regularization_rate: between(values, "regularizationRate", 0, 1000, DEFAULTS.regularization_rate),
    learning_rate: between(values, "learningRate", 0, 1000, DEFAULTS.learning_rate),
    optimizer: oneOf(values, "optimizer", OPTIMIZERS, DEFAULTS.optimizer),
    dropout: between(values, "dropout", 0, 0.9, DEFAULTS.dropout),
    seed: values.seed?.trim() ?? "",
    draw: Math.round(between(values, "draw", 0, 1e6, 0)),
    init_zero: flag(values, "initZero", DEFAULTS.init_zero),
  };
}

function differenceOf(values: Values, hidden: ReadonlySet<string>, a: Settings): Difference | null {
  if (values.b !== "true") return null;
  const own: Values = {};
  for (const [name, text] of Object.entries(values)) if (name.startsWith("b_")) own[name.slice(2)] = text;
  const given = settingsOf({ ...written(a), ...own }, hidden);
  return Object.fromEntries(OWN_OF_B.filter((name) => !same(given[name], a[name])).map((name) => [name, given[name]]));
}

export const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** The state that an address means; unknown values are the defaults. */
export function stateOf(values: Values): State {
  const hidden = hiddenOf(values);
  const a = settingsOf(values, hidden);
  const view: View = {
    showTestData: flag(values, "showTestData", false), discretize: flag(values, "discretize", false), hideText: flag(values, "hideText", false),
    tutorial: values.tutorial ?? "", hidden, speed: values.speed === "max" ? 0 : (SPEEDS.find((speed) => speed !== 0 && String(speed) === values.speed) ?? USUAL_SPEED), logLoss: flag(values, "logLoss", false),
  };
  return { a, b: differenceOf(values, hidden, a), view, others: kept(values) };
}

function kept(values: Values): Record<string, string> {
  return values.collectStats ? { collectStats: values.collectStats } : {};
}

function written(a: Settings): Values {
  return {
    activation: a.activation, regularization: a.regularization, batchSize: String(a.batch_size), dataset: a.dataset, regDataset: a.regression_dataset,
    learningRate: String(a.learning_rate), regularizationRate: String(a.regularization_rate), noise: String(a.noise), networkShape: a.shape.join(","),
    seed: a.seed, percTrainData: String(a.train_percent), ...Object.fromEntries(FEATURES.map((name) => [name, String(a.features.includes(name))])),
    problem: a.problem, initZero: String(a.init_zero), optimizer: a.optimizer, dropout: String(a.dropout), draw: String(a.draw),
    activations: a.activations.map((one) => one ?? "").join(","),
  };
}

/** The whole address of a state: first the keys that TensorFlow Playground reads, then ours where they are not the defaults. */
export function hashOfState({ a, b, view, others }: State): string {
  const all = written(a);
  const { optimizer, dropout, draw, activations, ...theirs } = all;
  const hash: Values = { ...theirs, showTestData: String(view.showTestData), discretize: String(view.discretize), collectStats: others.collectStats ?? "false", hideText: String(view.hideText) };
  if (view.tutorial) hash.tutorial = view.tutorial;
  for (const name of view.hidden) hash[`${name}_hide`] = "true";
  if (a.optimizer !== DEFAULTS.optimizer) hash.optimizer = optimizer;
  if (a.dropout) hash.dropout = dropout;
  if (a.draw) hash.draw = draw;
  if (a.activations.slice(0, a.shape.length).some(Boolean)) hash.activations = activations;
  if (a.classes !== DEFAULTS.classes) hash.classes = String(a.classes);
  if (a.curve !== DEFAULTS.curve) hash.curve = a.curve;
  if (a.points.length) hash.points = textOfPoints(a.points);
  if (view.speed !== USUAL_SPEED) hash.speed = view.speed ? String(view.speed) : "max";
  if (view.logLoss) hash.logLoss = "true";
  if (b) Object.assign(hash, { b: "true" }, ofB(a, b));
  return hashOf(hash);
}

function ofB(a: Settings, b: Difference): Values {
  const [ours, theirs] = [written({ ...a, ...b }), written(a)];
  const names = Object.keys(ours).filter((name) => ours[name] !== theirs[name]);
  return Object.fromEntries(names.map((name) => [`b_${name}`, ours[name]]));
}

/** How many neurons the output has: one, or one for each of more than two classes. */
export function outputsOf(settings: Settings): number {
  if (settings.problem === "regression") return 1;
  const labels = settings.points.map(([, , label]) => label);
  const count = settings.dataset === "own" ? (labels.every((label) => Math.abs(label) === 1) ? 2 : Math.max(2, ...labels.map((label) => label + 1))) : WITH_CLASSES.includes(settings.dataset) ? settings.classes : 2;
  return count > 2 ? count : 1;
}

/** What of `wanted` is not as in `known`. */
export function changes(wanted: Settings, known: Settings): Partial<Settings> {
  const names = (Object.keys(wanted) as (keyof Settings)[]).filter((name) => !same(wanted[name], known[name]));
  return Object.fromEntries(names.map((name) => [name, wanted[name]]));
}

/** A seed as TensorFlow Playground draws one. */
export const drawnSeed = (): string => Math.random().toFixed(5);
