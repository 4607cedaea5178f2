// What the parts of a pass are called on the page, by the end of their names.
import { msg, t } from "$lib/i18n.svelte";

const NAMES: Record<string, string> = {
  embed: msg("token vector"), positions: msg("position vector"), in: msg("stream before the block"), "in.sum": msg("sum before the norm"),
  "mixer.in": msg("what attention reads"), "mixer.q.map": msg("query before it is turned"), "mixer.k.map": msg("key before it is turned"),
  "mixer.q.norm": msg("query, normed"), "mixer.k.norm": msg("key, normed"), "mixer.q": msg("query"), "mixer.k": msg("key"), "mixer.v": msg("value"),
  "mixer.dots": msg("dot product"), "mixer.scores": msg("score"), "mixer.pattern": msg("attention weight"), "mixer.z": msg("what the head gives"),
  "mixer.out": msg("what attention writes"), "mixer.out.map": msg("attention's result before its norm"), mid: msg("stream between the halves"), "mid.sum": msg("sum before the norm"),
  "cross.in": msg("what the look at the source reads"), "cross.q": msg("query to the source"), "cross.k": msg("key of the source"), "cross.v": msg("value of the source"),
  "cross.dots": msg("dot product"), "cross.scores": msg("score"), "cross.pattern": msg("attention weight"), "cross.z": msg("what the head gives"),
  "cross.out": msg("what the look at the source writes"), "cross.mid": msg("stream after it"), "cross.mid.sum": msg("sum before the norm"),
  "feedforward.in": msg("what the feed-forward reads"), "feedforward.gate": msg("gate"), "feedforward.up": msg("up"), "feedforward.pre": msg("neuron before its curve"),
  "feedforward.post": msg("neuron"), "feedforward.out": msg("what the feed-forward writes"), "feedforward.out.map": msg("the feed-forward's result before its norm"),
  out: msg("stream after the block"), "out.sum": msg("sum before the norm"), "norm.out": msg("normed at the end"), "readout.map": msg("the head's own map"),
  "readout.bent": msg("the head's own curve"), logits: msg("logit"), probabilities: msg("probability"),
};
const DIMENSIONS: Record<string, string> = {
  position: msg("token"), column: msg("column"), head: msg("head"), kv_head: msg("key-value head"), query: msg("query"), key: msg("key"), neuron: msg("neuron"), token: msg("word"),
};

/** What a part is, in words. */
export function partName(site: string): string {
  const inner = site.replace(/^encoder\./, "").replace(/^layers\.\d+\./, "");
  return NAMES[inner] ? t(NAMES[inner]) : site;
}

export function layerOf(site: string): number | null {
  const found = /layers\.(\d+)\./.exec(site);
  return found ? Number(found[1]) : null;
}

export function dimensionName(name: string): string {
  return DIMENSIONS[name] ? t(DIMENSIONS[name]) : name;
}
