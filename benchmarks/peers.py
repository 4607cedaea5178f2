"""run_with_cache beside TransformerLens (its bridge) and nnsight, in one process: `python -m benchmarks.peers`.

Needs an environment with both (`pip install transformer-lens==4.3.0 nnsight==0.8.1`), which the project itself does not:
they are compared with, not used. GPT-2-small shape, random weights, 4 sequences of 256 tokens, float32.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from glassworks.anatomy import Subject, TokenBatch

DEPTH = 12
RESIDUAL = ["embed", *(f"layers.{i}.{part}" for i in range(DEPTH) for part in ("in", "mid", "out"))]
ATTENTION = [f"layers.{i}.mixer.{part}" for i in range(DEPTH) for part in ("q", "k", "v", "pattern", "z")]
BATCH, LENGTH = 4, 256


def main() -> None:
    """Times all in turns and prints medians and ratios; writes peers.json beside this file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    ids = torch.randint(0, 50_000, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    rows: dict[str, dict[str, Any]] = {}
    for sites in ("residual", "residual and attention"):
        work = _work(folder, ids, attention="attention" in sites)
        kept = {name: one() for name, one in work.items()}
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(runs):
            for name, one in work.items():
                started = time.perf_counter()
                one()
                seconds[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        rows[sites] = {
            name: {
                "seconds": seconds[name],
                "tensors": kept[name],
                "ours is faster by": medians[name] / medians["glassworks"],
            }
            for name in work
        }
        for name, median in medians.items():
            print(
                f"{sites:24} {name:16} {median:.3f} s  {median / medians['bare sdpa']:.2f}x bare  {kept[name]} tensors"
            )
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    target = Path(__file__).with_name("peers.json")
    target.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _work(folder: Path, ids: torch.Tensor, *, attention: bool) -> dict[str, Callable[[], int]]:
    """One pass of each side that keeps the same tensors; each returns how many it kept."""
    from nnsight import NNsight
    from transformer_lens.model_bridge import TransformerBridge

    def loaded(kind: str = "sdpa") -> Any:
        return GPT2LMHeadModel.from_pretrained(folder, attn_implementation=kind).eval()

    subject = Subject.of(loaded())
    batch = TokenBatch(ids)
    bare_models = {"bare sdpa": loaded(), "bare eager": loaded("eager")}
    bridge: Any = TransformerBridge.boot_transformers(str(folder), hf_model=loaded("eager"), tokenizer=_tokenizer())
    sighted: Any = NNsight(loaded("eager" if attention else "sdpa"))
    names = [
        "hook_embed",
        *(f"blocks.{i}.hook_{p}" for i in range(DEPTH) for p in ("resid_pre", "resid_mid", "resid_post")),
    ]
    if attention:
        names += [f"blocks.{i}.attn.hook_{p}" for i in range(DEPTH) for p in ("q", "k", "v", "pattern", "z")]

    def ours() -> int:
        return len(subject.run_with_cache(batch, RESIDUAL + (ATTENTION if attention else []))[1])

    def lens() -> int:
        with torch.no_grad():
            return len(bridge.run_with_cache(ids, names_filter=lambda name: name in names)[1])

    def sight() -> int:
        kept: list[Any] = []
        with torch.no_grad(), sighted.trace(ids):
            for block in sighted.transformer.h:
                kept.append(block.input.save())
                if attention:
                    kept.append(block.attn.c_attn.output.save())
                    kept.append(block.attn.c_proj.input.save())
                    kept.append(block.attn.output[1].save())
                kept.append(block.ln_2.input.save())
                kept.append(block.output.save())
        return len(kept)

    def bare(name: str) -> Callable[[], int]:
        def run() -> int:
            with torch.no_grad():
                bare_models[name](ids)
            return 0

        return run

    return {
        "glassworks": ours,
        "transformer-lens": lens,
        "nnsight": sight,
        **{name: bare(name) for name in bare_models},
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    vocabulary = {f"t{number}": number for number in range(50_257)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")), eos_token="t0"
    )


if __name__ == "__main__":
    main()
