// Which keys do what, page by page; "g" and a letter go to a page ($lib/keys).
import { msg } from "$lib/i18n.svelte";

export const KEYMAP: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  everywhere: [
    ["?", msg("this map of keys")],
    ["Tab · Shift Tab", msg("to the next control, to the one before")],
    ["Escape", msg("closes what is open")],
    ["← → ↑ ↓", msg("inside a figure: read it cell by cell, point by point")],
    ["← →", msg("on a slider: one step less or more")],
  ],
  perceptron: [
    ["← → ↑ ↓", msg("on a point: moves it by 0.1, with Shift by 1")],
    ["Enter", msg("on a point: changes its class")],
    ["Delete", msg("on a point: removes it")],
    [", .", msg("on a point: to the point before or after")],
    ["← → ↑ ↓", msg("on a handle of the line: turns the line")],
  ],
  playground: [
    ["Space", msg("run or pause")],
    ["s", msg("one step")],
    ["r · R", msg("reset with new weights, with the same weights")],
    ["← → ↑ ↓", msg("from neuron to neuron; on the painting board: move the brush")],
    ["+ −", msg("one layer or neuron more, or one less")],
  ],
  walk: [
    ["[ ]", msg("layer before, layer after")],
    [", .", msg("head before, head after")],
    ["← → Home End", msg("from token to token")],
    ["Space · Enter", msg("word by word: the next word")],
    ["Backspace", msg("word by word: one word back")],
    ["Escape", msg("closes the card of a number; stops a generation")],
  ],
  examine: [
    ["← → ↑ ↓", msg("from head to head, from cell to cell")],
    ["Enter", msg("opens what is framed")],
  ],
  surgery: [
    ["← → ↑ ↓ · Home End", msg("from card to card, with Shift chooses a stretch")],
    ["Space · Enter", msg("chooses a card")],
    ["Alt ← → ↑ ↓", msg("moves what is chosen")],
    ["d · Delete", msg("doubles, removes what is chosen")],
    ["p · Shift p", msg("side by side, and apart again")],
    ["l · Shift l", msg("once more around, once less")],
    ["u · r", msg("undo, redo")],
    ["Ctrl a", msg("chooses all")],
  ],
  tree: [
    ["→ ←", msg("to what builds on a model, to what it builds on")],
    ["↑ ↓", msg("to the nearest model above or below")],
    ["Enter", msg("opens a model and builds it")],
    ["Escape", msg("closes the card")],
  ],
};
