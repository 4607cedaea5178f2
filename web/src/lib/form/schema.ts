// A JSON schema as pydantic writes it, read for a form: references followed, unions by kind told apart, values by dotted path.
export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  const?: unknown;
  enum?: string[];
  default?: unknown;
  title?: string;
  label?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  prefixItems?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  discriminator?: { propertyName: string; mapping: Record<string, string> };
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
}

export type Tree = Record<string, unknown>;
export type Defs = Record<string, Schema>;

/** What a field is drawn as. `optional` fields can be empty, which means null. */
export type Shape = { optional: boolean; schema: Schema } & (
  | { kind: "boolean" | "text" | "integer" | "number" | "json" }
  | { kind: "choice"; options: string[] }
  | { kind: "list"; of: "integer" | "number" | "text" }
  | { kind: "spec"; fields: Record<string, Schema> }
  | { kind: "union"; variants: Record<string, Schema> }
  | { kind: "specs"; variants: Record<string, Schema> }
);

export function followed(schema: Schema, defs: Defs): Schema {
  if (!schema.$ref) return schema;
  const { $ref, ...own } = schema;
  return { ...followed(defs[$ref.split("/").at(-1) ?? ""] ?? {}, defs), ...own };
}

/** What kind of field a schema asks for. */
export function shapeOf(given: Schema, defs: Defs): Shape {
  let schema = followed(given, defs);
  const parts = (schema.anyOf ?? []).map((part) => followed(part, defs));
  const optional = parts.some((part) => part.type === "null");
  if (optional) {
    const rest = parts.filter((part) => part.type !== "null");
    if (rest.length !== 1) return { kind: "json", optional, schema };
    const { anyOf: _, ...own } = schema;
    schema = { ...rest[0], ...own };
  } else if (parts.length) return { kind: "json", optional, schema };
  return { optional, schema, ...plain(schema, defs) } as Shape;
}

function plain(schema: Schema, defs: Defs): object {
  const variants = variantsOf(schema, defs);
  if (variants) return { kind: "union", variants };
  if (schema.enum) return { kind: "choice", options: schema.enum };
  if (schema.properties) return { kind: "spec", fields: schema.properties };
  switch (schema.type) {
    case "boolean": return { kind: "boolean" };
    case "integer": return { kind: "integer" };
    case "number": return { kind: "number" };
    case "string": return { kind: "text" };
    case "array": return listed(schema, defs);
    default: return { kind: "json" };
  }
}

function variantsOf(schema: Schema, defs: Defs): Record<string, Schema> | null {
  if (!schema.oneOf || !schema.discriminator) return null;
  const found: Record<string, Schema> = {};
  for (const [name, ref] of Object.entries(schema.discriminator.mapping)) found[name] = followed({ $ref: ref }, defs);
  return found;
}

function listed(schema: Schema, defs: Defs): object {
  const item = followed(schema.items ?? schema.prefixItems?.[0] ?? {}, defs);
  const variants = variantsOf(item, defs) ?? (item.properties?.kind ? { [String(item.properties.kind.const)]: item } : null);
  if (variants) return { kind: "specs", variants };
  if (item.type === "integer" || item.type === "number") return { kind: "list", of: item.type };
  if (item.type === "string" || item.enum) return { kind: "list", of: "text" };
  return { kind: "json" };
}

export function at(tree: unknown, path: string): unknown {
  let here = tree;
  for (const part of path.split(".")) {
    if (here === null || typeof here !== "object") return undefined;
    here = (here as Tree)[part];
  }
  return here;
}

export function same(one: unknown, other: unknown): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

/** The schema of the field at a dotted path, unions resolved by the kinds that `value` has there; null where there is none. */
export function schemaAt(root: Schema, path: string, value: unknown): Schema | null {
  const defs = root.$defs ?? {};
  let here: Schema = followed(root, defs);
  let known = value;
  for (const part of path.split(".")) {
    const shape = shapeOf(here, defs);
    const kind = String((known as Tree | null | undefined)?.kind ?? "");
    let next: Schema | undefined;
    if (shape.kind === "spec") next = shape.fields[part];
    else if (shape.kind === "union") next = (shape.variants[kind] ?? {}).properties?.[part];
    else if (shape.kind === "specs" && /^\d+$/.test(part)) next = shape.variants[String(at(known, `${part}.kind`))];
    if (!next) return null;
    known = at(known, part);
    here = next;
  }
  return here;
}

/** What is wrong with a typed value by the schema's own bounds; null where nothing is. The spec has the last word. */
export function outside(value: number, schema: Schema): { sign: string; bound: number } | null {
  if (schema.minimum !== undefined && value < schema.minimum) return { sign: "≥", bound: schema.minimum };
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) return { sign: ">", bound: schema.exclusiveMinimum };
  if (schema.maximum !== undefined && value > schema.maximum) return { sign: "≤", bound: schema.maximum };
  if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum) return { sign: "<", bound: schema.exclusiveMaximum };
  return null;
}

/** The bounds of a number in a few signs: "≥ 1", "0 … 1". */
export function bounds(schema: Schema): string {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low !== undefined && high !== undefined) return `${low} … ${high}`;
  if (low !== undefined) return `${schema.minimum === undefined ? ">" : "≥"} ${low}`;
  return high === undefined ? "" : `${schema.maximum === undefined ? "<" : "≤"} ${high}`;
}

export const labelOf = (name: string, schema: Schema): string => schema.label ?? name.replaceAll("_", " ");

export function shown(value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map(shown).join(", ") || "–";
  if (typeof value === "object") return String((value as Tree).kind ?? JSON.stringify(value));
  return String(value).replace(/^-(?=\d)/, "−");
}
