// The models that lie here; asked once, and again when something was trained or deleted.
import { get } from "./api";

export interface Model {
  id: string;
  group: "bundled" | "gallery" | "trained" | "folder";
  title: string;
  parameters: number;
  architecture: string;
  before: string[];
  licence: string;
  folder: string;
}

/** What opening a model adds (question "model"). */
export interface Passport extends Model {
  family: string;
  class: string;
  layers: number;
  encoder_layers: number;
  heads: number;
  kv_heads: number;
  causal: boolean;
  vocabulary: number;
  context: number | null;
  reads: "text" | "tokens";
}

/** Above it the weights alone take a gigabyte, and a model is opened only when a person says so. */
const LARGE = 250_000_000;
const wanted = $state<{ ids: Record<string, true> }>({ ids: {} });
export const isHeld = (model: Model | undefined): boolean => model !== undefined && model.parameters > LARGE && !wanted.ids[model.id];
export const release = (id: string): void => void (wanted.ids[id] = true);

export const BUNDLED = "bundled/duet";
let asked: Promise<Model[]> | undefined;

export function models(again = false): Promise<Model[]> {
  if (!asked || again) {
    asked = get<{ models: Model[] }>("/api/models").then((found) => found.models);
    asked.catch(() => (asked = undefined));
  }
  return asked;
}
