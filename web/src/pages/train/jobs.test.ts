import { afterEach, describe, expect, it, vi } from "vitest";
import { Feed } from "./jobs.svelte";

const DIGESTS = ["a".repeat(16), "b".repeat(16)];
const started = (worker: number, attempt = 1) => ({ kind: "job_started", at: worker, job: `run-${DIGESTS[worker - 1]}`, label: `seed=${worker}`, attempt, worker, machine: "node" });

async function told(...events: object[]): Promise<Feed> {
  const piece = { events, next: 1, more: false, start: 0 };
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify(piece), { headers: { "content-type": "application/json" } })));
  const feed = new Feed("one");
  await feed.read();
  return feed;
}

describe("what workers tell", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("a worker is at its part until that is done, with the steps of its own training", async () => {
    const feed = await told(
      { kind: "run_started", at: 0 }, { kind: "planned", at: 0, trainings: { [DIGESTS[0]]: 10, [DIGESTS[1]]: 10 } },
      started(1), { kind: "training_started", at: 1, digest: DIGESTS[0], label: "seed=1", steps: 10, first_step: 0 },
      started(2), { kind: "training_started", at: 2, digest: DIGESTS[1], label: "seed=2", steps: 10, first_step: 0 },
      { kind: "step_done", at: 3, digest: DIGESTS[0], step: 4, loss: 1 }, { kind: "step_done", at: 4, digest: DIGESTS[1], step: 9, loss: 2 },
      { kind: "job_done", at: 5, job: `run-${DIGESTS[1]}`, label: "seed=2", found: false },
    );
    expect([...feed.workers.values()].map((one) => one.label)).toEqual(["seed=1"]);
    expect(feed.trainingOf([...feed.workers.values()][0])?.done).toBe(5);
    expect([feed.parts, feed.doneSteps, feed.totalSteps]).toEqual([{ done: 1, found: 0 }, 15, 20]);
  });

  it("a lost attempt is kept with its reason, and its worker is gone", async () => {
    const feed = await told(started(1), { kind: "job_failed", at: 2, job: `run-${DIGESTS[0]}`, label: "seed=1", attempt: 1, reason: "its worker died", log: "a.log", again: true });
    expect(feed.workers.size).toBe(0);
    expect(feed.failures).toEqual([{ label: "seed=1", attempt: 1, reason: "its worker died", log: "a.log", again: true }]);
  });

  it("workers of an earlier session are forgotten when the run begins again", async () => {
    const feed = await told(started(1), { kind: "run_started", at: 9 });
    expect(feed.workers.size).toBe(0);
  });
});
