// What the worker says about forms: verbs, presets, and how a filled-in form was understood.
import type { Schema, Tree } from "$lib/form/schema";
import type { Facts } from "./jobs.svelte";

export interface About { id: string; title: string; studies?: { id: string; title: string }[] }
export interface Verb { verb: string; group: "learn" | "stages" | "papers" | "models"; title: string; says: string; about: About[] }
export interface Preset { id: string; verb: string; about: string; title: string; says: string; choices: Tree }
export interface Forms { verbs: Verb[]; presets: Preset[] }
export interface Form { schema: Schema; first: string[]; mixers: string[]; tokenizers: { path: string; name: string }[]; where: Tree | null }
export interface Problem { path: string | null; what: string; given: string | null; right: string | null; next: string | null; standard: Tree | null; where: Tree | null }
export type Understood = { problem: Problem } | { problem: null; spec: Tree; standard: Tree; where: Tree | null; command: string; title: string; facts: Facts };
