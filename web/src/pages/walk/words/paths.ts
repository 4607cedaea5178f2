// The words that were chosen, as token ids, and the other ways that were tried: short texts in the address.
export type Path = readonly number[];

const MOST = 8;

/** "3.17.2" as numbers; anything else in it is left out. */
export function pathOf(text: string): number[] {
  return text.split(".").filter((part) => /^\d{1,9}$/.test(part)).map(Number);
}

export const textOf = (path: Path): string => path.join(".");

export const pathsOf = (text: string): number[][] => text.split(";").map(pathOf).filter((path) => path.length > 0);

export const textOfAll = (paths: readonly Path[]): string => paths.map(textOf).join(";");

export const isBeginning = (short: Path, long: Path): boolean => short.length <= long.length && short.every((token, i) => token === long[i]);

/** How many words two paths share from their beginning. */
export function shared(first: Path, second: Path): number {
  let count = 0;
  while (count < first.length && count < second.length && first[count] === second[count]) count++;
  return count;
}

/** The other ways after a move from one path to another: what was left is kept, what is a beginning of another is not. */
export function moved(others: readonly Path[], from: Path, to: Path): Path[] {
  const all = [...others, from].filter((path) => path.length > 0 && !isBeginning(path, to));
  const kept = all.filter((path, i) => !all.some((other, j) => j !== i && isBeginning(path, other) && (path.length < other.length || j > i)));
  return kept.slice(-MOST);
}
