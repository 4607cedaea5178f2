"""Decoding one text on the processor beside the library's `generate`, and what candidates cost.

SmolLM2-135M, one sequence, greedy, one thread. Times are of the processor (CPU seconds), so that other work on the machine
does not count; both sides read the same short prompt. The share of the memory's speed is that of the weights that every token
needs, against a plain sum over as many numbers in the same minute.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch

from benchmarks.measure import Ratio, alternate, row
from benchmarks.mesa import one_thread
from glassworks.anatomy import Subject
from glassworks.models.candidates import Sampling
from glassworks.models.fast_decoder import FastDecoder
from glassworks.models.generating import Manner, generate
from glassworks.models.load import load

MODEL, PROMPT, TOKENS = "smollm2-135m", "Once upon a time, in a land far away, there lived a king who", 48
LIBRARY = "transformers generate()"
# Numbers of the sum that tells how fast memory can be read: far more than any cache holds.
READ = 1 << 28


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Both number formats, and candidates."""
    with one_thread():
        return [decoding("float32", 1.7, runs), decoding("bfloat16", 1.8, runs), candidates(runs)]


def decoding(dtype: str, target: float, runs: int) -> Ratio:
    """New tokens beside the library's; in float32 they must be the same."""
    subject = load(MODEL, device="cpu", dtype=dtype)
    mine, theirs = ours_of(subject), library_of(subject)
    same = mine() == theirs()
    if dtype == "float32" and not same:
        raise AssertionError("the two sides wrote different tokens")
    times = alternate(mine, theirs, max(runs // 2, 3), warm=0, clock=time.process_time)
    seconds = statistics.median(times[0]) / TOKENS
    weights = FastDecoder(subject.model).weight_bytes
    speed = read_speed()
    facts = {
        "tokens/s": round(1 / seconds, 1),
        "library's tokens/s": round(TOKENS / statistics.median(times[1]), 1),
        "same tokens": same,
        "weights read, GB/s": round(weights / seconds / 1e9, 1),
        "memory, GB/s": round(speed / 1e9, 1),
        "share of memory": f"{weights / seconds / speed:.0%}",
    }
    return row(
        f"decoding {MODEL}, {dtype}, {TOKENS} tokens, 1 thread", LIBRARY, (f">= {target}x", target), times, facts
    )


def candidates(runs: int) -> Ratio:
    """The same text with ten candidates at each step and without."""
    subject = load(MODEL, device="cpu")
    times = alternate(
        lambda: ours_of(subject, 10)(), lambda: ours_of(subject)(), max(runs // 2, 3), clock=time.process_time
    )
    what = f"decoding {MODEL} with 10 candidates shown"
    return row(what, "without", ("<= 5 % slower", 1 / 1.05), times, {})


def ours_of(subject: Subject, shown: int = 0) -> Callable[[], list[int]]:
    """Our new tokens."""
    choice = Sampling(max_new_tokens=TOKENS)
    return lambda: list(generate(subject, PROMPT, choice, manner=Manner("fast", shown)).ids)


def library_of(subject: Subject) -> Callable[[], list[int]]:
    """The library's new tokens."""
    tokenizer, model = cast(Any, subject.tokenizer), cast(Any, subject.model)
    ids = torch.tensor([tokenizer.encode(PROMPT)])

    def work() -> list[int]:
        with torch.no_grad():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        return made[0, ids.shape[1] :].tolist()

    return work


def read_speed() -> float:
    """Bytes per CPU second of a sum over a gigabyte, best of three."""
    numbers = torch.ones(READ)
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        numbers.sum()
        best = min(best, time.process_time() - begun)
    return READ * 4 / best
