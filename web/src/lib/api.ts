// Speaks with the studio: questions to the worker, plain routes, sockets; every failure is a Refusal that says what to do.
import { decode } from "./frame";
import { language, t } from "./i18n.svelte";

const FRAME = "application/x-glassworks-frame";

/** What the studio says when it cannot answer. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly what: string,
    readonly given: string | null = null,
    readonly right: string | null = null,
    readonly next: string | null = null,
  ) {
    super(what);
  }
}

export interface Progress {
  state: string;
  label: string;
  done: number;
  total: number;
}

export interface Asking {
  /** Aborting calls the question off, also in the worker. */
  signal?: AbortSignal;
  /** Hears how far it is, once it takes longer than a second. */
  progress?: (how: Progress) => void;
}

/** Asks the worker; arrays of the answer are NdArrays. */
export async function ask<Answer>(kind: string, question: object = {}, asking: Asking = {}): Promise<Answer> {
  const name = unique();
  const watching = asking.progress ? watch(name, asking.progress) : undefined;
  try {
    const answer = await sent(`/api/ask/${kind}`, {
      method: "POST",
      body: JSON.stringify({ kind, ...question }),
      headers: { "content-type": "application/json", accept: FRAME, "x-glassworks-ask": name },
      signal: asking.signal,
    });
    return (await read(answer)) as Answer;
  } finally {
    clearInterval(watching);
  }
}

/** A name that no other question has. Browsers keep randomUUID from pages that come from another machine (--host). */
const unique = (): string => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

function watch(name: string, progress: (how: Progress) => void): ReturnType<typeof setInterval> {
  return setInterval(() => {
    void get<Progress>(`/api/asked/${name}`).then(progress, () => undefined);
  }, 700);
}

export async function get<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
  return (await read(await sent(path, { signal }))) as Answer;
}

export async function post<Answer>(path: string, body: unknown, method: "POST" | "PUT" | "DELETE" = "POST", signal?: AbortSignal): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  return (await read(await sent(path, { method, headers, body: JSON.stringify(body), signal }))) as Answer;
}

async function sent(path: string, options: RequestInit): Promise<Response> {
  const headers = new Headers(options.headers);
  headers.set("x-glassworks-language", language());
  let answer: Response;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new Refusal(0, t("The studio does not answer."), null, t("Is it still running? Its terminal shows."), "glassworks studio");
  }
  if (answer.ok) return answer;
  throw await refusalOf(answer);
}

async function refusalOf(answer: Response): Promise<Refusal> {
  try {
    const found = (await answer.json()) as Record<string, string | null>;
    return new Refusal(answer.status, found.what ?? answer.statusText, found.given, found.right, found.next);
  } catch {
    return new Refusal(answer.status, answer.statusText || String(answer.status));
  }
}

async function read(answer: Response): Promise<unknown> {
  if (answer.headers.get("content-type")?.startsWith(FRAME)) return decode(await answer.arrayBuffer());
  return answer.json();
}

/** A WebSocket below /api, frames decoded; the token travels in the cookie. */
export function socket(path: string, heard: (frame: unknown) => void, closed: (reason: string) => void): WebSocket {
  const made = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}${path.includes("?") ? "&" : "?"}lang=${language()}`);
  made.binaryType = "arraybuffer";
  made.addEventListener("message", (event: MessageEvent<ArrayBuffer | string>) => {
    heard(typeof event.data === "string" ? JSON.parse(event.data) : decode(event.data));
  });
  made.addEventListener("close", (event) => closed(event.reason));
  return made;
}
