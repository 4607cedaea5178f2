// Reads a person's table: comma, semicolon, tab or spaces between cells, a title row or none, labels as numbers or words.
import { t } from "$lib/i18n.svelte";
import type { Settings } from "./protocol";
import { MOST_POINTS } from "./settings";

export interface Table { points: Settings["points"]; notes: string[]; problem: string | null }
const MOST_CLASSES = 5;
const REACH = 6;

function cellsOf(line: string): string[] {
  const found = line.includes("\t") ? line.split("\t") : line.includes(";") ? line.split(";") : line.includes(",") ? line.split(",") : line.trim().split(/\s+/);
  return found.map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
}

const numberOf = (cell: string | undefined): number => (cell === undefined || cell === "" ? NaN : Number(cell.replace("−", "-")));

/** The points of a table; numbers are scaled into the square if they reach beyond it. */
export function readTable(text: string, isRegression: boolean): Table {
  const notes: string[] = [];
  const rows = text.split(/\r?\n/).filter((line) => line.trim()).map(cellsOf);
  const isTitle = rows.length > 0 && !Number.isFinite(numberOf(rows[0][0]));
  const body = isTitle ? rows.slice(1) : rows;
  const good = body.filter((row) => row.length >= 3 && Number.isFinite(numberOf(row[0])) && Number.isFinite(numberOf(row[1])) && row[2] !== "");
  if (!good.length) return { points: [], notes, problem: t("No row has three cells: two numbers and a label.") };
  if (good.length < body.length) notes.push(t("{count} rows without two numbers and a label were left out.", { count: body.length - good.length }));
  if (good.length > MOST_POINTS) notes.push(t("Only the first {count} rows were taken.", { count: MOST_POINTS }));
  const kept = good.slice(0, MOST_POINTS);
  const labels = labelsOf(kept.map((row) => row[2]), isRegression, notes);
  if (typeof labels === "string") return { points: [], notes, problem: labels };
  const scaled = ([0, 1] as const).map((column) => fitted(kept.map((row) => numberOf(row[column])), column, notes));
  return { points: labels.map((label, i) => [scaled[0][i], scaled[1][i], label]), notes, problem: null };
}

function labelsOf(cells: string[], isRegression: boolean, notes: string[]): number[] | string {
  const numbers = cells.map(numberOf);
  const areNumbers = numbers.every(Number.isFinite);
  if (isRegression) return areNumbers ? numbers : t("In a regression every label is a number.");
  const kinds = [...new Set(cells)].sort((a, b) => (areNumbers ? Number(a) - Number(b) : a.localeCompare(b)));
  if (kinds.length > MOST_CLASSES) return t("{count} different labels; at most {most} classes can be told apart. For numbers, choose the problem Regression.", { count: kinds.length, most: MOST_CLASSES });
  if (areNumbers && kinds.every((kind) => kind === "-1" || kind === "1")) return numbers;
  if (kinds.length <= 2) {
    notes.push(t("Label {low} is −1, label {high} is +1.", { low: kinds[0], high: kinds[1] ?? "–" }));
    return cells.map((cell) => (cell === kinds[0] ? -1 : 1));
  }
  if (!areNumbers || kinds.some((kind, i) => Number(kind) !== i)) notes.push(t("Classes: {list}.", { list: kinds.map((kind, i) => `${kind} = ${i}`).join(", ") }));
  return cells.map((cell) => kinds.indexOf(cell));
}

function fitted(values: number[], column: 0 | 1, notes: string[]): number[] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (Math.max(Math.abs(low), Math.abs(high)) <= REACH) return values;
  const [middle, half] = [(low + high) / 2, (high - low) / 2 || 1];
  notes.push(t("{name} was scaled from {low} … {high} to −5 … 5.", { name: column === 0 ? "x₁" : "x₂", low, high }));
  return values.map((value) => (5 * (value - middle)) / half);
}
