// What the tree knows: models and presets as the worker sends them, which ones a filter keeps, and where each is drawn.
export interface Model {
  name: string;
  year: number;
  month: number;
  branch: "encoder" | "decoder" | "encoder-decoder";
  prefix_decoder: boolean;
  form: string;
  organisation: string;
  sizes: string[];
  weights: "open" | "closed" | "none";
  changed: string;
  parents: string[];
  presets: string[];
  paper: string;
  drawn_under: string | null;
}
export interface Summary {
  name: string;
  form: string;
  form_words: string;
  branch: string;
  layers: number[];
  parameters: number;
  stated: string | null;
  ours: boolean;
}
export interface Module {
  path: string;
  kind: string;
  shapes: string[];
  times: number;
  each: number;
  parameters: number;
  shared: boolean;
  children: Module[];
}
export interface Sublayer {
  part: "self_attn" | "cross_attn" | "mlp";
  norm: string | null;
  result_norm: string | null;
  after_sum: boolean;
  reads_block_input: boolean;
}
export interface Blueprint extends Summary {
  sizes: Record<"width" | "heads" | "kv_heads" | "head_width" | "feedforward_width" | "vocabulary" | "context", number>;
  choices: string[];
  norm: string;
  norm_placement: string;
  positions: string;
  feedforward: string;
  parallel: boolean;
  mixers: string[];
  parts: { part: string; name: string; parameters: number }[];
  built: number;
  published: number | null;
  counted_by: string | null;
  agrees: boolean | null;
  source: string | null;
  note: string | null;
  bytes: { float32: number; bfloat16: number };
  kept_per_token: number | null;
  modules: Module[];
  blocks: { path: string; count: number; sublayers: Sublayer[] }[];
  printout: string;
}

export const BRANCHES = ["encoder", "encoder-decoder", "decoder"] as const;

export interface Filter {
  branch: string;
  open: string;
  organisation: string;
  from: number;
  to: number;
  words: string;
}

export function fits(model: Model, filter: Filter): boolean {
  const text = [model.name, model.organisation, model.changed, model.paper, ...model.sizes, ...model.presets].join(" ").toLowerCase();
  return (
    (!filter.branch || model.branch === filter.branch) &&
    (!filter.open || model.weights === filter.open) &&
    (!filter.organisation || model.organisation.split(", ").includes(filter.organisation)) &&
    model.year >= filter.from &&
    model.year <= filter.to &&
    filter.words.toLowerCase().split(/\s+/).every((word) => text.includes(word))
  );
}

const UNITS: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };
/** 6.7B as a number; null where it is none. */
export function sizeOf(text: string): number | null {
  const found = /^([\d.]+)([KMBT])$/.exec(text);
  return found ? Number(found[1]) * UNITS[found[2]] : null;
}

export interface Node {
  model: Model;
  x: number;
  y: number;
  radius: number;
}
export interface Drawing {
  nodes: Map<string, Node>;
  height: number;
  years: { year: number; x: number }[];
  lanes: { branch: (typeof BRANCHES)[number]; top: number; bottom: number }[];
}

const ROW = 36;
const LANE_GAP = 16;
const TOP = 26;
export const labelOf = (model: Model): string => model.name;
const wide = (model: Model): number => 7.1 * labelOf(model).length + 16;

/** Time runs to the right, years with more models get more room; each branch has its rows, a child stands beside its parent where there is room. */
export function drawn(models: readonly Model[], width: number): Drawing {
  const first = Math.min(...models.map((model) => model.year));
  const last = Math.max(...models.map((model) => model.year));
  const counts = Array.from({ length: last - first + 1 }, (_, i) => models.filter((model) => model.year === first + i).length);
  const shares = counts.map((count) => 1.6 + Math.min(7, count));
  const unit = (width - 128) / shares.reduce((sum, one) => sum + one, 0);
  const starts = shares.map((_, i) => 16 + unit * shares.slice(0, i).reduce((sum, one) => sum + one, 0));
  const at = (model: Model) => starts[model.year - first] + ((model.month - 0.5) / 12) * unit * shares[model.year - first];

  const nodes = new Map<string, Node>();
  const lanes: Drawing["lanes"] = [];
  let top = TOP;
  for (const branch of BRANCHES) {
    const ends: number[] = [];
    const keepers: string[] = [];
    const rows = new Map<string, number>();
    for (const model of models.filter((one) => one.branch === branch)) {
      const x = at(model);
      const parent = model.drawn_under === null ? 0 : (rows.get(model.drawn_under) ?? 0);
      const free = [...ends.keys(), ends.length].filter((row) => (ends[row] ?? -Infinity) < x - 12);
      const isFollowed = model.drawn_under !== null && keepers[parent] === model.drawn_under && free.includes(parent);
      const from = model.drawn_under === null ? x : (nodes.get(model.drawn_under)?.x ?? x);
      // A row that is taken between parent and child would have the link run through strangers.
      const cost = (row: number) => Math.abs(row - parent) + ((ends[row] ?? -Infinity) > from + 12 ? 3.6 : 0) + (row < parent ? 0.1 : 0);
      const row = isFollowed ? parent : free.filter((one) => one !== parent || model.drawn_under === null).sort((a, b) => cost(a) - cost(b))[0];
      rows.set(model.name, row);
      ends[row] = x + wide(model);
      keepers[row] = model.name;
      nodes.set(model.name, { model, x, y: top + 22 + row * ROW, radius: radiusOf(model) });
    }
    const bottom = top + Math.max(1, ends.length) * ROW + 6;
    lanes.push({ branch, top, bottom });
    top = bottom + LANE_GAP;
  }
  return { nodes, height: top, years: starts.map((x, i) => ({ year: first + i, x })), lanes };
}

function radiusOf(model: Model): number {
  const largest = Math.max(0, ...model.sizes.map((size) => sizeOf(size) ?? 0));
  return largest ? Math.min(10, Math.max(4, 4 + 1.6 * Math.log10(largest / 1e8))) : 5;
}

/** The line between two: along the child's row, along the parent's row, or straight through, whichever meets no other model. */
export function link(drawing: Drawing, from: Node, to: Node): string {
  const isFree = (y: number) => ![...drawing.nodes.values()].some((node) => Math.abs(node.y - y) < 1 && node.x > from.x + 1 && node.x < to.x - 1);
  if (Math.abs(from.y - to.y) < 1) return `M${from.x} ${from.y}H${to.x}`;
  const gap = to.x - from.x;
  const turn = Math.min(34, Math.max(6, gap * 0.7));
  if (isFree(to.y)) return `M${from.x} ${from.y}C${from.x + turn * 0.7} ${from.y} ${from.x + turn * 0.3} ${to.y} ${from.x + turn} ${to.y}H${to.x}`;
  if (isFree(from.y)) return `M${from.x} ${from.y}H${to.x - turn}C${to.x - turn * 0.3} ${from.y} ${to.x - turn * 0.7} ${to.y} ${to.x} ${to.y}`;
  return `M${from.x} ${from.y}C${from.x + gap / 2} ${from.y} ${to.x - gap / 2} ${to.y} ${to.x} ${to.y}`;
}

/** The models that build on one, drawn or not, oldest first. */
export const childrenOf = (models: readonly Model[], name: string): Model[] => models.filter((model) => model.parents.includes(name));

/** Where an arrow key leads from a model: left to what it builds on, right to what builds on it, up and down to the nearest. */
export function neighbour(drawing: Drawing, from: string, key: string): string | null {
  const here = drawing.nodes.get(from);
  if (!here) return null;
  const all = [...drawing.nodes.values()];
  if (key === "ArrowLeft") return here.model.drawn_under ?? here.model.parents[0] ?? null;
  if (key === "ArrowRight") {
    const later = childrenOf(all.map((node) => node.model), from);
    return (later.find((model) => model.drawn_under === from) ?? later[0])?.name ?? null;
  }
  const way = key === "ArrowUp" ? -1 : key === "ArrowDown" ? 1 : 0;
  const beyond = all.filter((node) => way * (node.y - here.y) > 1);
  const cost = (node: Node) => Math.abs(node.y - here.y) * 3 + Math.abs(node.x - here.x);
  return way === 0 ? null : (beyond.sort((a, b) => cost(a) - cost(b))[0]?.model.name ?? null);
}

/** The address of a paper that has one; shown as text elsewhere. */
export function paperAddress(paper: string): string | null {
  const arxiv = /^arXiv (\d{4}\.\d{4,5})$/.exec(paper);
  if (arxiv) return `https://arxiv.org/abs/${arxiv[1]}`;
  return /^[\w.-]+\.\w+\//.test(paper) ? `https://${paper}` : null;
}
