// Texts to begin with, by what a model reads; what is typed takes their place.
import type { Layers } from "./facts";

export interface Sample { text: string; target?: string; given?: number }

const ENGLISH: Sample = { text: "The Eiffel Tower stands in Paris. It was built in 1889, and every year millions of people climb its stairs to look down on the city." };
const CHINESE: Sample = { text: "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。" };
const STORY: Sample = { text: "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her big red ball." };
const SCRIPTURE: Sample = { text: "And God said, Let there be light: and there was light. And God saw the light, that it was good: and God divided the light from the darkness." };
const HIDDEN: Sample = { text: "Paris is the capital of France, and Rome is the capital of [MASK]." };
const SOURCE: Sample = { text: "The Eiffel Tower is 324 metres tall. It was built for the World Fair of 1889 in Paris by the company of the engineer Gustave Eiffel, and was the tallest building in the world for 41 years." };
const DIGITS: Sample = { text: "2 0 1 2 0 1 0 0 1 1 2", given: 6 };

export function sampleOf(model: string, layers: Layers): Sample {
  if (layers.reads === "tokens") return layers.vocabulary === 3 ? DIGITS : { text: Array.from({ length: 12 }, (_, i) => (7 * i) % layers.vocabulary).join(" ") };
  if (layers.kind === "fills" || layers.kind === "turns") return layers.kind === "turns" ? ENGLISH : HIDDEN;
  if (layers.kind === "translates") return SOURCE;
  // What a small model has read, it can say something about.
  if (/duet/.test(model)) return SCRIPTURE;
  return /stories/.test(model) ? STORY : ENGLISH;
}

export const samplesOf = (model: string, layers: Layers): Sample[] => {
  const first = sampleOf(model, layers);
  return layers.kind === "writes" && layers.reads === "text" ? [...new Set([first, ENGLISH, STORY, CHINESE])] : [first];
};
