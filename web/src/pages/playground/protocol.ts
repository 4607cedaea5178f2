// What the playground page and its engine say to each other over the socket /api/playground.
//
// The page sends JSON with a `kind` (a Said below); the engine sends frames (a Frame below, decoded by $lib/frame).
// Every frame has a number and must be acknowledged ({kind: "ack", frame}) once it was drawn: the engine keeps at most two
// unacknowledged frames under way and trains on meanwhile. What is not about drawing (Problem, Answer) is no frame of the picture
// and needs no acknowledgement.
import type { NdArray } from "$lib/frame";

export const ACTIVATIONS = ["relu", "tanh", "sigmoid", "linear", "gelu", "silu", "leaky_relu", "sine", "step"] as const;
export type Activation = (typeof ACTIVATIONS)[number];
export const REGULARIZATIONS = ["none", "L1", "L2"] as const;
export type Regularization = (typeof REGULARIZATIONS)[number];
export const OPTIMIZERS = ["sgd", "momentum", "adam"] as const;
export type Optimizer = (typeof OPTIMIZERS)[number];
/** Order of the inputs, as in the original; the last two exist there as keys of the address only. */
export const FEATURES = ["x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY", "cosX", "cosY"] as const;
export type Feature = (typeof FEATURES)[number];
/** The first four have two classes always; rings, blobs and arms have `classes` of them; own has what its points say. */
export const DATASETS = ["circle", "xor", "gauss", "spiral", "moons", "curve", "rings", "blobs", "arms", "own"] as const;
export type Dataset = (typeof DATASETS)[number];
export const REGRESSION_DATASETS = ["reg-plane", "reg-gauss", "own"] as const;
export type RegressionDataset = (typeof REGRESSION_DATASETS)[number];
/** For the dataset `curve`: a point is +1 where x2 > f(x1). line 0.5x, parabola x^2/4 - 3, cubic x^3/18 - x, sine 2.5 sin x, absolute |x| - 3. */
export const CURVES = ["line", "parabola", "cubic", "sine", "absolute"] as const;
export type Curve = (typeof CURVES)[number];

/** Everything that fixes the numbers. The engine answers with the whole of it; the page may send any part of it. */
export interface Settings {
  problem: "classification" | "regression";
  dataset: Dataset;
  regression_dataset: RegressionDataset;
  curve: Curve;
  /** Of rings, blobs and arms: 2 to 5. With 2 the labels are -1 and +1 (tanh, squared error), with more softmax and cross-entropy. */
  classes: number;
  /** Own points [x1, x2, label], at most 5000. Labels -1 and 1 are two classes; otherwise class numbers 0 to 4; in regression any number. */
  points: [number, number, number][];
  /** Per cent, 0 to 80. */
  noise: number;
  /** Share of training points in per cent, 1 to 99. */
  train_percent: number;
  /** 1 to 1200; above the number of training points it is that number. */
  batch_size: number;
  features: Feature[];
  /** Hidden layers: at most 12 of at most 32. */
  shape: number[];
  activation: Activation;
  /** Own activations by hidden layer; null or missing entries take `activation`. */
  activations: (Activation | null)[];
  regularization: Regularization;
  regularization_rate: number;
  /** The only one besides dropout that changes a running network without a reset. */
  learning_rate: number;
  optimizer: Optimizer;
  /** Share of hidden outputs that is dropped while training, 0 to 0.9. */
  dropout: number;
  /** Text; data and first weights come from it. Empty: the engine draws one (five decimals) and says it in the next frame. */
  seed: string;
  /** How many networks were drawn from this seed before this one: "reset new" raises it by one. */
  draw: number;
  init_zero: boolean;
}

// Keys of the address: TensorFlow Playground's for what it knows (percTrainData, networkShape, regDataset ...), and beside them
//   activations=relu,,tanh  optimizer=adam  dropout=0.2  classes=3  curve=sine  points=x,y,label;x,y,label  draw=2
// and dataset=moons|curve|rings|blobs|arms|own, regDataset=own, activation=gelu|silu|leaky_relu|sine|step.
// Network B: the same keys with the prefix b_ where B differs, and b=true. x_hide=true removes the feature x, as in the original.

/** -- what the page says -- */

export type Which = "a" | "b";
export type Said =
  /** First of all: settings of A and, where two are compared, of B (parts are filled with defaults). Or an address of TensorFlow Playground. */
  | { kind: "open"; settings?: Partial<Settings>; other?: Partial<Settings> | null; hash?: string }
  /**
   * Changes; whatever but learning_rate and dropout starts the network anew and pauses. Problem and data of B follow A.
   * With `keep`, other points are learned by the weights as they are, also while running (for painting into a training);
   * where the network does not fit them, as when a third class appears, it starts anew all the same.
   */
  | { kind: "set"; which?: Which | "both"; settings: Partial<Settings>; keep?: boolean }
  /** Opens network B on the same seed and data, with these differences from A; null closes it. */
  | { kind: "compare"; settings: Partial<Settings> | null }
  | { kind: "run" }
  | { kind: "pause" }
  /** Pauses, then trains so much: one sample adds its gradient and updates at the end of its batch; batch: to the next update. */
  | { kind: "step"; unit: "sample" | "batch" | "epoch"; count?: number }
  /** Runs at full speed until the epoch (of both) or the loss (of A) is reached, then pauses. */
  | { kind: "until"; epoch?: number; loss?: number; of?: "train" | "test" }
  /** max; redraw: one epoch per frame drawn, as the original; rate: so many epochs a second (0.1 to 1000). Stays until changed; first: redraw. */
  | { kind: "speed"; mode: "max" | "redraw" | "rate"; rate?: number }
  /** same: the weights it began with; otherwise new ones (draw + 1). Epoch 0, paused. */
  | { kind: "reset"; same?: boolean }
  /** New seed (the engine draws one as the original does, where none is given) and points; keeps weights, epoch and curve. */
  | { kind: "regenerate"; seed?: string }
  /** Goes so many epochs back and stays there: what came after is forgotten. */
  | { kind: "back"; epochs?: number }
  /** Shows the kept moment nearest to this epoch, paused (Side.epoch says which); null: the present again. run, step and edit go on from the present; after `keep`, from what is shown. */
  | { kind: "scrub"; epoch: number | null }
  /** What is shown by scrub becomes the present; what came after is forgotten. */
  | { kind: "keep" }
  /** The node whose map is sent large (see Large.node); null: the output. */
  | { kind: "show"; node: number | null }
  /** The point whose path through the network is sent with each frame; null: none. */
  | { kind: "probe"; point: [number, number] | null }
  /** Writes a weight (layer 0 is the first hidden one, or the output where there is none), or a bias where `from` is null or missing. */
  | { kind: "edit"; which?: Which; layer: number; to: number; from?: number | null; value: number }
  | { kind: "ack"; frame: number }
  /** Answer.code: a PyTorch program; Answer.saved: what `import` takes. */
  | { kind: "code"; which?: Which }
  | { kind: "export" }
  | { kind: "import"; saved: unknown };

/** -- what the engine says -- */

export type Heard = Ready | Frame | Problem | Answer;

/** Once, as soon as the socket is open and the worker is there. No acknowledgement; messages sent before it are not lost. */
export interface Ready {
  kind: "ready";
  most_networks: number;
}

export interface Frame {
  kind: "frame";
  /** To be acknowledged. */
  number: number;
  running: boolean;
  /** The epoch shown is an earlier one (see scrub). */
  scrubbed: boolean;
  speed: { mode: "max" | "redraw" | "rate"; rate: number };
  /** Epochs a second of A, over the last second of running; 0 when paused. */
  rate: number;
  until: { epoch: number | null; loss: number | null; of: "train" | "test" } | null;
  a: Side;
  b: Side | null;
  /** Only after open, set, regenerate, compare, import: */
  made?: Made;
}

/** What changes with the settings, not with training. */
export interface Made {
  a: Settings;
  b: Settings | null;
  /** What a setting was turned into and why, sentences for the person. */
  notes: string[];
  /** 2: one output of -1 to 1 (tanh, squared error). More: so many outputs, softmax. 1: regression (linear, squared error). */
  classes: number;
  loss: "squared error" | "cross-entropy";
  /** float64 [n, 2] and [n]; class numbers where classes > 2, else -1 and 1, or the value in regression. */
  train: { points: NdArray; labels: NdArray };
  test: { points: NdArray; labels: NdArray };
}

/** One network. Nodes are numbered through: all of the first hidden layer, then the next, ..., the outputs last. */
export interface Side {
  epoch: number;
  /** Training points of the epoch under way that were already seen (stepping by sample or batch). */
  sample: number;
  /** Updates done since the reset. */
  updates: number;
  /** Means over the points; null where there are none. */
  train: number | null;
  test: number | null;
  /** Share of points whose sign or class is right; null in regression. */
  train_accuracy: number | null;
  test_accuracy: number | null;
  /** Rows [epoch, train, test] of the loss curve, float64 [k, 3]; `from` is the index of the first of them: what the page holds from there on is replaced. */
  curve: { from: number; rows: NdArray };
  /** Per layer: weights float64 [out, in], biases float64 [out]; `dead` uint8 like weights, where L1 froze one (else null). */
  weights: NdArray[];
  biases: NdArray[];
  dead: NdArray[] | null;
  /** int8 [nodes, s, s], value = round(127 * output) within -127..127; row 0 is x2 = +6, column 0 is x1 = -6. Softmax outputs: 2p - 1. s is 20, or 10 above 64 nodes. */
  maps: NdArray;
  /** float32 [100, 100] of a node, or [classes, 100, 100] of the probabilities where it is the softmax output as a whole. */
  large: { node: number | null; map: NdArray };
  /** Of the probed point: inputs (one per feature), sums and outputs (float64, one per node). */
  probe: { inputs: NdArray; sums: NdArray; outputs: NdArray } | null;
  /** First and last epoch that scrub can show, and the distance of the kept ones. */
  kept: { first: number; last: number; every: number };
  /** Training stopped by itself, and why. */
  trouble: Trouble | null;
}

export interface Trouble {
  cause: "rate" | "regularization" | "input" | "weight";
  what: string;
  right: string;
  /** The epoch at which it happened; `back` leads before it. */
  epoch: number;
  /** A learning rate (cause rate), or regularisation rate, from the list of the control that would do; null where it is not that. */
  suggestion: number | null;
}

/** Something that was asked cannot be; nothing changed. What is no message at all closes the socket instead. */
export interface Problem {
  kind: "problem";
  what: string;
  given: string | null;
  right: string | null;
  next: string | null;
  /** The kind of message that it answers. */
  of: string;
}

export interface Answer {
  kind: "answer";
  of: "code" | "export";
  code?: string;
  saved?: unknown;
}

/** GET /api/playground/sets: 200 points without noise of every data set, for the thumbnails. */
export interface Sets {
  sets: { name: string; problem: "classification" | "regression"; classes: number; points: [number, number, number][] }[];
}
