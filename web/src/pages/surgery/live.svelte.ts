// One question of the page: asked anew when what it is about changes, the one before called off.
import type { Asking, Progress } from "$lib/api";

export class Live<Answer> {
  answer = $state.raw<Answer | undefined>(undefined);
  problem = $state.raw<unknown>(undefined);
  progress = $state.raw<Progress | undefined>(undefined);
  isAsking = $state(false);
  /** What the answer is about; it stays in sight, greyed, while the next one is on its way. */
  about = $state("");
  private control: AbortController | undefined;

  /** Asks; true where the answer came, false where it was called off or failed. */
  async ask(about: string, question: (asking: Asking) => Promise<Answer>): Promise<boolean> {
    this.cancel();
    const control = new AbortController();
    this.control = control;
    this.isAsking = true;
    this.progress = undefined;
    try {
      const found = await question({ signal: control.signal, progress: (how) => (this.control === control ? (this.progress = how) : undefined) });
      if (this.control !== control) return false;
      this.answer = found;
      this.about = about;
      this.problem = undefined;
      return true;
    } catch (problem) {
      if (this.control !== control || control.signal.aborted) return false;
      this.problem = problem;
      this.answer = undefined;
      return false;
    } finally {
      if (this.control === control) this.isAsking = false;
    }
  }

  cancel(): void {
    this.control?.abort();
    this.control = undefined;
    this.isAsking = false;
  }

  clear(): void {
    this.cancel();
    this.answer = undefined;
    this.problem = undefined;
    this.about = "";
  }
}
