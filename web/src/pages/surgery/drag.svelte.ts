// Dragging cards with mouse, pen or finger: where they would land is shown while they move; Escape leaves everything as it was.
import type { Side } from "./operations";

const STILL = 5; // pixels that a click may move
const EDGE = 56; // pixels from an edge within which dragging scrolls
const STEP = 14;

export interface Target { id: number; side: Side; box: { left: number; top: number; width: number; height: number } }

export class Drag {
  isActive = $state(false);
  x = $state(0);
  y = $state(0);
  count = $state(0);
  target = $state.raw<Target | undefined>(undefined);
  /** The click that follows a drag chooses nothing. */
  get wasJustDragged(): boolean {
    return performance.now() - this.endedAt < 80;
  }
  private endedAt = -Infinity;
  private start: { x: number; y: number; id: number } | undefined;
  private stop: (() => void) | undefined;

  constructor(
    private readonly meant: (id: number) => ReadonlySet<number>,
    private readonly dropped: (ids: ReadonlySet<number>, target: number, side: Side) => void,
  ) {}

  begin(event: PointerEvent, id: number): void {
    if (event.button !== 0 || (event.target as Element).closest("button, input, summary")) return;
    if (event.pointerType === "touch" && !(event.target as Element).closest(".grip")) return;
    this.start = { x: event.clientX, y: event.clientY, id };
    const control = new AbortController();
    const on = { signal: control.signal };
    this.stop = () => control.abort();
    window.addEventListener("pointermove", (moved) => this.move(moved), on);
    window.addEventListener("pointerup", () => this.drop(), on);
    window.addEventListener("pointercancel", () => this.end(), on);
    window.addEventListener("keydown", (pressed) => pressed.key === "Escape" && this.end(), on);
  }

  private move(event: PointerEvent): void {
    if (!this.start) return;
    if (!this.isActive) {
      if (Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y) < STILL) return;
      this.isActive = true;
      this.count = this.meant(this.start.id).size;
      window.getSelection()?.removeAllRanges();
    }
    event.preventDefault();
    [this.x, this.y] = [event.clientX, event.clientY];
    this.scroll(event.clientX, event.clientY);
    this.target = this.under(event.clientX, event.clientY);
  }

  /** Near an edge, of a list that scrolls by itself or of the window, what is beyond it comes in sight. */
  private scroll(x: number, y: number): void {
    const list = document.elementFromPoint(x, y)?.closest<HTMLElement>(".tree.long");
    const box = list && list.scrollHeight > list.clientHeight ? list.getBoundingClientRect() : undefined;
    const [top, bottom] = [Math.max(0, box?.top ?? 0) + EDGE, Math.min(innerHeight, box?.bottom ?? innerHeight) - EDGE];
    const by = y < top ? -STEP : y > bottom ? STEP : 0;
    if (by) (box ? list : window)?.scrollBy(0, by);
  }

  private under(x: number, y: number): Target | undefined {
    const element = document.elementFromPoint(x, y)?.closest<HTMLElement>("[data-card]");
    if (!element || !this.start) return undefined;
    const id = Number(element.dataset.card);
    const ids = this.meant(this.start.id);
    for (let up: HTMLElement | null = element; up; up = up.parentElement) if (ids.has(Number(up.dataset.card))) return undefined;
    const box = element.getBoundingClientRect();
    const [right, down] = [(x - box.left) / box.width, (y - box.top) / box.height];
    const isBranch = element.dataset.branch !== undefined;
    const side: Side = isBranch ? (down < 0.25 ? "before" : down > 0.75 ? "after" : "beside") : right > 0.7 ? "beside" : down < 0.5 ? "before" : "after";
    return { id, side, box: { left: box.left, top: box.top, width: box.width, height: box.height } };
  }

  private drop(): void {
    const { target, start, isActive } = this;
    const ids = start ? this.meant(start.id) : new Set<number>();
    this.end();
    if (isActive && target) this.dropped(ids, target.id, target.side);
    if (isActive) this.endedAt = performance.now();
  }

  private end(): void {
    this.stop?.();
    this.start = undefined;
    this.isActive = false;
    this.target = undefined;
  }
}
