// What each page cannot do, and the sizes it stops at.
import { msg } from "$lib/i18n.svelte";

export const LIMITS: Readonly<Record<string, readonly string[]>> = {
  home: [msg("the bundled model reads sentences of up to 48 tokens here; the Walk-through takes more")],
  perceptron: [msg("two inputs and at most 60 points, so that the margin can be computed exactly"), msg("a run ends after 200 passes when it neither converges nor repeats")],
  playground: [msg("networks of up to 12 layers of 32 neurons, in two dimensions; they are not saved as models")],
  walk: [msg("up to 1,024 tokens, or as many as the model's context; longer texts show one window at a time"), msg("attention shows where a head reads, not that what it reads is used"), msg("encoders have no next word; their passes end with vectors")],
  examine: [msg("up to 512 tokens; patching up to 64; the command line takes more"), msg("one text is one sample: scores on it are no statement about the model as a whole")],
  surgery: [msg("weights stay as they are: a plan changes the order in which layers run, and nothing is healed by training"), msg("benchmarks here use few questions; a sweep on the command line uses all")],
  train: [msg("two trainings at a time; further ones wait; a phone shows them but does not start large ones"), msg("on a processor alone: models of a few million numbers in minutes, larger ones in hours")],
  results: [msg("verdicts are those of the runs on this disk, at the scale they were run at; a smoke run proves little")],
  tree: [msg("presets are built without their trained numbers: shape, parts and counts, no weights"), msg("a model without a preset has undisclosed sizes or parts that are not built here")],
  runs: [msg("deleting is for good; nothing is moved to a bin")],
};
