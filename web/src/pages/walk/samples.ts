// Texts to begin with.
import { language, msg } from "$lib/i18n.svelte";

const AGAIN = "The king of the north came home and the king of the north came";
const AGAIN_CHINESE = "行者大喜，饮酒三杯。众人不饮。行者大喜，饮酒三";
export const SAMPLES: readonly (readonly [string, string])[] = [
  [msg("the same words twice"), AGAIN],
  [msg("the same in Chinese"), AGAIN_CHINESE],
  [msg("a story begins"), "Once upon a time there was a little girl named Lily. She liked to"],
  [msg("scrambled English"), "Aoccdrnig to a rscheearch at an Elingsh uinervtisy, it deosn't mttaer in waht oredr the ltteers in a wrod are."],
  [msg("scrambled Chinese"), "研表究明，汉字的序顺并不定一能影阅响读"],
  [msg("a fact"), "The capital of France is"],
];
export const NUMBERS: readonly (readonly [string, string])[] = [
  [msg("six numbers to sort"), "0 2 1 0 1 2"],
  [msg("sorted so far"), "2 1 0 2 0 1 0 0 1"],
];

/** The text to begin with, in the language of the page. */
export function first(): string {
  return language() === "zh" ? AGAIN_CHINESE : AGAIN;
}
