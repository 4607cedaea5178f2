"""TransformerLens' side of captures: `run_with_cache` of its bridge over the same model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.workers.harness import Answer, Work, serve
from benchmarks.workers.sites import sites_of

RESIDUAL = {"in": "hook_resid_pre", "mid": "hook_resid_mid", "out": "hook_resid_post"}


def capture(folder: Path, options: Mapping[str, Any]) -> Work:
    """One forward pass that keeps the named hooks only."""
    # Its patterns are what the eager attention returns.
    kind = "eager" if options["attention"] else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=kind).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bridge: Any = TransformerBridge.boot_transformers(str(folder), hf_model=model, tokenizer=tokenizer)
    ids = torch.load(folder / "ids.pt", weights_only=True)
    hooks = {site: _hook(site) for site in sites_of(options)}
    wanted = set(hooks.values())

    def work() -> Answer:
        with torch.no_grad():
            _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name in wanted)
        return {site: _shaped(site, cache[hook]) for site, hook in hooks.items()}

    return work


def _hook(site: str) -> str:
    if site == "embed":
        return "hook_embed"
    _, layer, *rest = site.split(".")
    return f"blocks.{layer}.{RESIDUAL[rest[0]]}" if len(rest) == 1 else f"blocks.{layer}.attn.hook_{rest[1]}"


def _shaped(site: str, kept: torch.Tensor) -> torch.Tensor:
    return kept


if __name__ == "__main__":
    serve({"capture": capture})
