// The page's side of the engine: one socket, the last frame of each network, the curves; frames are acknowledged once drawn.
import { tick } from "svelte";
import { Refusal, socket } from "$lib/api";
import { changes, outputsOf, OWN_OF_B, type Difference } from "./settings";
import type { Answer, Frame, Heard, Made, Said, Settings, Side, Which } from "./protocol";

/** The loss curve so far: parallel lists that only grow until a reset. */
export interface Curve { epochs: number[]; train: number[]; test: number[] }

/** For measuring from outside: what was drawn since a moment, and the milliseconds that it took. */
interface Meter { epochs: number; redraws: number; drawing: number; since: number; restart: () => void }
declare global {
  interface Window { __playground?: Meter }
}

const AGAIN_AFTER = 1500;
/** What changes a network without starting it anew. */
const SOFT: readonly string[] = ["learning_rate", "dropout"];

export class Live {
  frame = $state.raw<Frame | null>(null);
  made = $state.raw<Made | null>(null);
  curves = $state.raw<{ a: Curve; b: Curve }>({ a: empty(), b: empty() });
  refusal = $state.raw<Refusal | null>(null);
  connection = $state<"opening" | "open" | "lost">("opening");
  /** The engine came back without what was trained. */
  isAnew = $state(false);
  /** Settings that came from outside the address: a file that was imported. */
  imported: ((made: Made) => void) | null = null;

  #socket: WebSocket | null = null;
  #known: Settings | null = null;
  #knownB: Difference | null = null;
  #waiting: Frame[] = [];
  #asked: { of: string; settle: (answer: Answer) => void; fail: (why: unknown) => void } | null = null;
  #opening: () => Said[] = () => [];
  #isOver = false;
  #isImporting = false;
  readonly #meter: Meter = { epochs: 0, redraws: 0, drawing: 0, since: performance.now(), restart: () => Object.assign(this.#meter, { epochs: 0, redraws: 0, drawing: 0, since: performance.now() }) };

  /** Connects; `opening` says what to send first, also when the connection comes back. */
  open(opening: () => { a: Settings; b: Difference | null; after: Said[] }): void {
    window.__playground = this.#meter;
    this.#opening = () => {
      const { a, b, after } = opening();
      [this.#known, this.#knownB] = [a, b];
      return [{ kind: "open", settings: a, other: b && { ...a, ...b } }, ...after];
    };
    this.#connect();
  }

  close(): void {
    this.#isOver = true;
    this.#socket?.close();
    delete window.__playground;
  }

  #connect(): void {
    if (this.#isOver) return;
    const made = socket("/api/playground", (heard) => this.#hear(heard as Heard), (reason) => this.#lost(reason));
    made.addEventListener("open", () => {
      this.refusal = null;
      for (const said of this.#opening()) this.say(said);
    });
    this.#socket = made;
  }

  #lost(reason: string): void {
    if (this.#isOver) return;
    this.connection = "lost";
    this.isAnew = this.frame !== null;
    this.#asked?.fail(new Refusal(0, reason));
    this.#asked = null;
    setTimeout(() => this.#connect(), AGAIN_AFTER);
  }

  say(said: Said): void {
    if (["run", "step", "reset", "set"].includes(said.kind)) this.isAnew = false;
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(said));
  }

  /** Makes the engine have these settings; says only what differs from what it has. */
  have(a: Settings, b: Difference | null): void {
    if (!this.#known || this.connection !== "open") return;
    const [known, knownB] = [this.#known, this.#knownB];
    [this.#known, this.#knownB] = [a, b];
    const ofA = changes(a, known);
    // Points painted into a training are learnt by the network as it is.
    const keep = Object.keys(ofA).join() === "points" && outputsOf(a) === outputsOf(known);
    if (Object.keys(ofA).length) this.say(keep ? { kind: "set", which: "a", settings: ofA, keep } : { kind: "set", which: "a", settings: ofA });
    if (!b || !knownB) {
      if (b || knownB) this.say({ kind: "compare", settings: b });
      return;
    }
    const changed = changes({ ...a, ...b }, { ...known, ...knownB });
    const ofB = Object.fromEntries(Object.entries(changed).filter(([name]) => OWN_OF_B.some((own) => own === name)));
    if (Object.keys(ofB).length) this.say({ kind: "set", which: "b", settings: ofB });
    // Two networks are compared from the same start.
    if ([ofA, ofB].some((part) => Object.keys(part).some((name) => !SOFT.includes(name) && !(keep && name === "points")))) this.say({ kind: "reset", same: true });
  }

  /** Tells that the engine has this already, because a message of its own says so. */
  knows(part: Partial<Settings>): void {
    if (this.#known) this.#known = { ...this.#known, ...part };
  }

  importing(saved: unknown): void {
    this.#isImporting = true;
    this.say({ kind: "import", saved });
  }

  /** The answer to `code` or `export`. */
  asks(said: Extract<Said, { kind: "code" | "export" }>): Promise<Answer> {
    return new Promise((settle, fail) => {
      this.#asked = { of: said.kind, settle, fail };
      this.say(said);
    });
  }

  edit(which: Which, layer: number, to: number, from: number | null, value: number): void {
    if (Number.isFinite(value)) this.say({ kind: "edit", which, layer, to, from, value });
  }

  #hear(heard: Heard): void {
    // The socket opens at once; the engine behind it may still be starting.
    this.connection = "open";
    if (heard.kind === "answer") {
      this.#asked?.settle(heard);
      this.#asked = null;
    } else if (heard.kind === "problem") {
      const refusal = new Refusal(400, heard.what, heard.given, heard.right, heard.next);
      this.#isImporting = false;
      // Nothing changed there: what it really has is what it said last.
      if (this.made && heard.of === "set") this.#known = this.made.a;
      if (this.#asked?.of === heard.of) this.#asked.fail(refusal);
      else this.refusal = refusal;
    } else if (heard.kind === "frame") {
      this.#waiting.push(heard);
      if (this.#waiting.length === 1) requestAnimationFrame(() => void this.#draw());
    }
  }

  async #draw(): Promise<void> {
    const begun = performance.now();
    const frames = this.#waiting.splice(0);
    const before = this.frame?.a.epoch ?? 0;
    let made = this.made;
    for (const frame of frames) {
      if (frame.made) made = frame.made;
      extend(this.curves.a, frame.a);
      if (frame.b) extend(this.curves.b, frame.b);
      else if (this.curves.b.epochs.length) this.curves.b = empty();
    }
    const last = frames[frames.length - 1];
    this.curves = { a: this.curves.a, b: this.curves.b };
    if (made !== this.made) {
      this.made = made;
      this.refusal = null;
      if (made && this.#isImporting) {
        this.#isImporting = false;
        [this.#known, this.#knownB] = [made.a, null];
        this.imported?.(made);
      }
    }
    this.frame = last;
    this.#meter.redraws += 1;
    this.#meter.epochs += Math.max(0, last.a.epoch - before);
    await tick();
    this.#meter.drawing += performance.now() - begun;
    for (const frame of frames) this.say({ kind: "ack", frame: frame.number });
  }
}

const empty = (): Curve => ({ epochs: [], train: [], test: [] });

function extend(curve: Curve, side: Side): void {
  const { from, rows } = side.curve;
  if (curve.epochs.length > from) for (const list of [curve.epochs, curve.train, curve.test]) list.length = from;
  for (let i = 0; i < rows.shape[0]; i++) {
    curve.epochs.push(rows.data[3 * i]);
    curve.train.push(rows.data[3 * i + 1]);
    curve.test.push(rows.data[3 * i + 2]);
  }
}

