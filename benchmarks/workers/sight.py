"""nnsight's side of captures: saves inside one trace."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nnsight import NNsight
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.workers.harness import Answer, Work, serve


def capture(folder: Path, options: Mapping[str, Any]) -> Work:
    """One trace; where attention is asked for, what its modules give, cut into heads as the names want it."""
    attention = bool(options["attention"])
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager" if attention else "sdpa").eval()
    sighted: Any = NNsight(model)
    ids = torch.load(folder / "ids.pt", weights_only=True)
    heads = model.config.n_head

    def work() -> Answer:
        kept: dict[str, Any] = {}
        with torch.no_grad(), sighted.trace(ids):
            for layer, block in enumerate(sighted.transformer.h):
                at = f"layers.{layer}"
                kept[f"{at}.in"] = block.input.save()
                if attention:
                    kept[f"{at}.qkv"] = block.attn.c_attn.output.save()
                    kept[f"{at}.z"] = block.attn.c_proj.input.save()
                    kept[f"{at}.mixer.pattern"] = block.attn.output[1].save()
                kept[f"{at}.mid"] = block.ln_2.input.save()
                kept[f"{at}.out"] = block.output.save()
        return {name: found for key, tensor in kept.items() for name, found in _named(key, tensor, heads)}

    return work


def _named(key: str, tensor: Any, heads: int) -> list[tuple[str, Tensor]]:
    """What a module gave, by the names of the comparison."""
    layer, _, part = key.rpartition(".")
    tensor = tensor[0] if isinstance(tensor, tuple) else tensor
    if part == "qkv":
        return [
            (f"{layer}.mixer.{name}", some.unflatten(-1, (heads, -1)))
            for name, some in zip("qkv", tensor.chunk(3, -1), strict=True)
        ]
    return [(f"{layer}.mixer.z", tensor.unflatten(-1, (heads, -1)))] if part == "z" else [(key, tensor)]


if __name__ == "__main__":
    serve({"capture": capture})
