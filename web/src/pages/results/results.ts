// What /api/results and /api/runs say.
export interface Claim {
  claim: string;
  says: string;
  where: string;
  verdict: "HOLDS" | "HOLDS_IN_PART" | "FAILS" | "UNDECIDED";
  value: number | null;
  interval: [number | null, number | null];
  count: number;
  unit: string;
  because: string;
  seeds: number[];
  scale: string;
  run: string | null;
  command: string;
}

export interface Experiment {
  kind: string;
  title: string;
  authors: string;
  year: number;
  reference: string;
  studies: { name: string; says: string }[];
  claims: Claim[];
  command: string;
}

export interface Results {
  experiments: Experiment[];
  unread: string[];
}

/** How many claims have each verdict; those that were never run count for none. */
export function counts(claims: readonly Claim[]): Record<string, number> {
  const sums: Record<string, number> = { HOLDS: 0, HOLDS_IN_PART: 0, FAILS: 0, UNDECIDED: 0 };
  for (const claim of claims) if (claim.run !== null) sums[claim.verdict] += 1;
  return sums;
}
