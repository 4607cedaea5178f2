import { describe, expect, it } from "vitest";
import { drawn, fits, neighbour, paperAddress, sizeOf, type Model } from "./family";

const model = (name: string, year: number, fields: Partial<Model> = {}): Model => ({
  name, year, month: 6, branch: "decoder", prefix_decoder: false, form: "decoder", organisation: "A, B", sizes: ["7B"], weights: "open", changed: "shares keys", parents: [], presets: [], paper: "arXiv 2302.13971", drawn_under: null, ...fields,
});
const ALL = { branch: "", open: "", organisation: "", words: "", from: 2017, to: 2030 };
const LINE = [model("one", 2018), model("two", 2019, { parents: ["one"], drawn_under: "one" }), model("side", 2019, { parents: ["one"], drawn_under: "one", month: 7 }), model("three", 2023, { parents: ["two"], drawn_under: "two" })];

describe("the drawing", () => {
  it("runs from left to right in time, and no two models share a place", () => {
    const { nodes } = drawn(LINE, 1100);
    const at = (name: string) => nodes.get(name)!;
    expect(at("one").x).toBeLessThan(at("two").x);
    expect(at("two").y).toBe(at("one").y);
    expect(at("side").y).not.toBe(at("two").y);
  });
  it("is walked by arrows along the branches", () => {
    const drawing = drawn(LINE, 1100);
    expect(neighbour(drawing, "one", "ArrowRight")).toBe("two");
    expect(neighbour(drawing, "three", "ArrowLeft")).toBe("two");
    expect(neighbour(drawing, "two", "ArrowDown")).toBe("side");
    expect(neighbour(drawing, "one", "ArrowLeft")).toBeNull();
  });
});

describe("the filter", () => {
  it("keeps what fits every field", () => {
    expect(fits(LINE[0], { ...ALL, words: "KEYS one" })).toBe(true);
    expect(fits(LINE[0], { ...ALL, words: "keys two" })).toBe(false);
    expect(fits(LINE[0], { ...ALL, organisation: "B" })).toBe(true);
    expect(fits(LINE[0], { ...ALL, from: 2019 })).toBe(false);
    expect(fits(LINE[0], { ...ALL, open: "closed" })).toBe(false);
  });
});

describe("texts", () => {
  it("are read as sizes and as addresses only where they are such", () => {
    expect(sizeOf("1.5B")).toBe(1.5e9);
    expect(sizeOf("large")).toBeNull();
    expect(paperAddress("arXiv 2302.13971")).toBe("https://arxiv.org/abs/2302.13971");
    expect(paperAddress("Radford et al. 2018")).toBeNull();
  });
});
