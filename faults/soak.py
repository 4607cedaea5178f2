"""`make soak`: ten thousand examinations in one process; memory, file handles and threads must stand still.

A tiny model is examined whole, on texts of changing length, and every hundredth report is written to disk. What grows is
found by the slope over the second half, for the first fills caches that are meant to be kept.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import glassworks as gw

VOCABULARY, LONGEST = 61, 48
# Growth over the second half that is called none: a page table here, an arena there, but no report and no batch.
MEGABYTES_ALLOWED = 16.0


@dataclass(frozen=True)
class Reading:
    """The process after so many calls: memory in megabytes, open files, threads, seconds since the start."""

    calls: int
    megabytes: float
    handles: int
    threads: int
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """What grew over the second half of the readings: megabytes by a fitted line, files and threads by counting."""

    megabytes: float
    handles: int
    threads: int

    @property
    def is_steady(self) -> bool:
        """Whether nothing grew beyond what is allowed."""
        return self.megabytes <= MEGABYTES_ALLOWED and self.handles <= 0 and self.threads <= 0


def soak(calls: int, readings: int = 40, tell: Callable[[Reading], None] = lambda one: None) -> list[Reading]:
    """Examines a tiny model so many times; a reading of the process now and then, each told at once."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=LONGEST,
        )
    ).eval()  # fmt: skip
    subject = gw.load(model)
    chance = np.random.default_rng(0)
    found: list[Reading] = []
    started = time.perf_counter()
    every = max(1, calls // readings)
    with tempfile.TemporaryDirectory() as folder:
        for call in range(calls):
            length = int(chance.integers(4, LONGEST))
            seen = gw.examine(subject, chance.integers(1, VOCABULARY, length).tolist(), seed=call)
            if call % 100 == 0:
                seen.save(Path(folder) / "report.html")
            if (call + 1) % every == 0:
                found.append(_reading(call + 1, started))
                tell(found[-1])
    return found


def judged(readings: list[Reading]) -> Verdict:
    """What grew between the middle and the end."""
    late = readings[len(readings) // 2 :]
    calls = np.array([one.calls for one in late], np.float64)
    slope = np.polyfit(calls, [one.megabytes for one in late], 1)[0]
    return Verdict(
        megabytes=float(slope * (calls[-1] - calls[0])),
        handles=max(one.handles for one in late[len(late) // 2 :]) - max(one.handles for one in late[: len(late) // 2]),
        threads=max(one.threads for one in late[len(late) // 2 :]) - max(one.threads for one in late[: len(late) // 2]),
    )


def _reading(calls: int, started: float) -> Reading:
    gc.collect()
    process = psutil.Process()
    memory = process.memory_info().rss / 1e6
    return Reading(calls, memory, process.num_fds(), process.num_threads(), time.perf_counter() - started)


def _tell(one: Reading) -> None:
    words = f"{one.calls:6d} calls  {one.megabytes:8.1f} MB  {one.handles} files  {one.threads} threads  {one.seconds:6.0f} s"
    print(words, flush=True)


def main() -> int:
    """Runs the soak, prints the readings and the verdict; 1 where something grew."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=None, help="also write the readings to this file")
    given = parser.parse_args()
    readings = soak(given.calls, tell=_tell)
    verdict = judged(readings)
    if given.json is not None:
        found = {"readings": [asdict(one) for one in readings], "grew": asdict(verdict)}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"second half: {verdict.megabytes:+.1f} MB, {verdict.handles:+d} files, {verdict.threads:+d} threads")
    print("steady" if verdict.is_steady else "GROWS")
    return int(not verdict.is_steady)


if __name__ == "__main__":
    sys.exit(main())
