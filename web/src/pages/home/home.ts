// What the home page reads of the studio; a part that is not there yet stays empty, and the page does not wait for any.
import { get } from "$lib/api";
import { duration } from "$lib/format";

export interface Machine {
  system: string;
  python: string;
  cores: number;
  usable: number;
  memory: { total: number; free: number };
  disk: { free: number };
  device: string;
  out: string;
}
export interface Run {
  experiment: string;
  digest: string;
  scale: string | null;
  verdicts: Record<string, number>;
  age_seconds: number;
  finished: boolean;
}
export interface Job {
  id: string;
  verb: string;
  title: string;
  state: string;
  progress: { step: number | null; steps?: number | null; done: number | null; total: number | null };
}

/** The answer of an address, or null where there is none. */
export async function quietly<Answer>(path: string, signal: AbortSignal): Promise<Answer | null> {
  try {
    return await get<Answer>(path, signal);
  } catch {
    return null;
  }
}

/** A pass through a larger model, from a measured one: as many more operations as parameters; at least the measured time. */
export function passEstimate(milliseconds: number, measured: number, wanted: number): string {
  return duration(Math.max(milliseconds, (milliseconds * wanted) / Math.max(1, measured)) / 1000);
}
