"""Plans of layers: shared beginnings against every plan alone, the order of work, generation under a plan."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.measure import Ratio, alternate, row
from glassworks.anatomy import Subject, TokenBatch
from glassworks.models.quiet import quiet_bars
from glassworks.surgery import Cost, Plan, execute, operated
from glassworks.surgery.checkpoint import export_checkpoint
from glassworks.surgery.families import parse_families, variants_of

# The shape of SmolLM2-135M with random weights: time does not depend on what the weights are.
SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
LOOPS = "looped:loops=[" + ",".join(map(str, range(1, 29))) + "]"


def subject_of(dtype: torch.dtype = torch.bfloat16) -> Subject:
    """A model of that shape."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Subject.of(LlamaForCausalLM(LlamaConfig(**SMOLLM2)).to(dtype).eval())


def shared_prefixes(runs: int, plans: str, target: tuple[str, float], tokens: int) -> Ratio:
    """The published plans, all starts and ten seeds, over one batch: the tree against one plan after the other.

    Both replay layers and read the head at the last position of each sequence, so only the sharing differs; the official
    code runs a whole forward pass for each plan, which costs a little more than "alone" here.
    """
    subject = subject_of()
    batch = _batch(tokens)
    chosen = [one.plan for one in variants_of(parse_families(plans), subject.anatomy.depth)]
    found: dict[str, float] = {}

    def together() -> None:
        found["ours"] = sum(_read(subject, stream) for _, stream in execute(subject, batch, chosen)) / len(set(chosen))

    def alone() -> None:
        total = {plan: _read(subject, stream) for one in chosen for plan, stream in execute(subject, batch, [one])}
        found["theirs"] = sum(total.values()) / len(total)

    times = alternate(together, alone, runs, warm=0)
    cost = Cost.of(chosen)
    facts = {
        "plans": cost.plans,
        "different": len(set(chosen)),
        "layer runs asked": cost.asked,
        "done": cost.done,
        "tokens": tokens,
        "same result": abs(found["ours"] - found["theirs"]) < 1e-6,
    }
    what = f"{plans.split(':')[0].replace(',looped', ' + loops 1..28')}, 30 layers, all starts, {tokens} tokens"
    return row(what, "every plan alone", target, times, facts)


def order_of_work(runs: int, tokens: int, dtype: torch.dtype) -> Ratio:
    """Depth first (few streams in memory) against layer by layer (each weight loaded for many streams at once)."""
    subject = subject_of(dtype)
    batch = _batch(tokens)
    chosen = [one.plan for one in variants_of(parse_families("painters"), subject.anatomy.depth)]

    def run(schedule: Any) -> Callable[[], None]:
        return lambda: [None for _ in execute(subject, batch, chosen, schedule=schedule)] and None

    times = alternate(run("layers"), run("depth"), runs)
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    weights = sum(p.numel() * p.element_size() for p in subject.model.parameters()) / 1e6
    name = str(dtype).removeprefix("torch.")
    return Ratio(
        f"layer by layer, published plans, {tokens} tokens, {name}",
        "depth first",
        "shown, not asked",
        *times,
        ratio,
        True,
        {"weights, MB": round(weights), "faster order": "layers" if ratio > 1 else "depth"},
    )


def generation_under_a_plan(runs: int, text: str = "0..9 20..29", new_tokens: int = 48) -> Ratio:
    """Greedy tokens of a model under a plan against `generate` of a plain model that has these layers only."""
    subject = subject_of(torch.float32)
    plan = Plan.parse(text, subject.anatomy.depth)
    with tempfile.TemporaryDirectory() as place, quiet_bars():
        plain: Any = AutoModelForCausalLM.from_pretrained(export_checkpoint(subject, plan, Path(place) / "plain"))
    ids = _batch(32).ids

    def generate(model: Any) -> Any:
        return model.generate(ids, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None)

    tokens: dict[str, Any] = {}

    def ours() -> None:
        with operated(subject, plan):
            tokens["ours"] = generate(subject.model)

    def theirs() -> None:
        tokens["theirs"] = generate(plain)

    times = alternate(ours, theirs, runs)
    facts = {
        "tokens per second": round(new_tokens / statistics.median(times[0]), 1),
        "same text": bool(torch.equal(tokens["ours"], tokens["theirs"])),
    }
    return row(f"generate under {text}", "plain transformers, 20 layers", (">= 0.95x tokens/s", 0.95), times, facts)


def _batch(tokens: int) -> TokenBatch:
    return TokenBatch(torch.randint(0, 49_000, (1, tokens), generator=torch.Generator().manual_seed(0)))


def _read(subject: Subject, stream: torch.Tensor) -> float:
    with torch.no_grad():
        return float(subject.read_stream(stream[:, -1:]).float().logsumexp(-1).mean())


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Every row of this page; the quick ones are those that take seconds."""
    few = max(1, min(runs, 3))
    found = [
        shared_prefixes(1 if quick else few, "painters", (">= 1.4x", 1.4), 16 if quick else 128),
        order_of_work(few, 1, torch.float32),
        generation_under_a_plan(runs if quick else max(runs, 5)),
    ]
    if not quick:
        found.append(shared_prefixes(1, f"painters,{LOOPS}", (">= 6x", 6.0), 16))
        found.append(order_of_work(few, 128, torch.bfloat16))
    return found
