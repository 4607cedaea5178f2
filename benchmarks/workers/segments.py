"""infini-transformer-pytorch's side: its own model with our weights, read segment by segment as its readme does."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from infini_transformer_pytorch import InfiniTransformer
from torch import Tensor

from benchmarks.workers.harness import Answer, Work, serve


def infini(folder: Path, options: Mapping[str, Any]) -> Work:
    """The loss of a text, and all gradients where it trains."""
    heads, width = options["heads"], options["width"]
    model: Any = InfiniTransformer(
        num_tokens=256, dim=width, depth=options["depth"], dim_head=width // heads, heads=heads,
        use_mem_delta_rule=options["write"] == "delta",
    )  # fmt: skip
    _fill(model, torch.load(folder / "weights.pt", weights_only=True), heads)
    ids = torch.load(folder / "ids.pt", weights_only=True)
    targets, segment = ids.roll(-1, 1), options["segment"]

    def work() -> Answer:
        memories, total = None, torch.zeros(())
        with nullcontext() if options["trains"] else torch.no_grad():
            for piece, wanted in zip(ids.split(segment, 1), targets.split(segment, 1), strict=True):
                logits, _, memories = model(piece, past_memories=memories, return_new_memories=True)
                total = total + F.cross_entropy(logits[0].float(), wanted[0], reduction="sum")
        if not options["trains"]:
            return {"loss": total / ids.shape[1]}
        total.backward()
        gradient = model.token_emb.weight.grad.clone()
        model.zero_grad()
        return {"loss": total.detach() / ids.shape[1], "gradient of the embedding": gradient}

    return work


@torch.no_grad()
def _fill(model: Any, ours: Mapping[str, Tensor], heads: int) -> None:
    """Our weights in its places. It turns neighbouring numbers of a head together, we those half a head apart."""
    model.token_emb.weight.copy_(ours["model.embed_tokens.weight"])
    for number, (attention, feedforward) in enumerate(model.layers):
        at = f"model.layers.{number}"
        attention.norm.gamma.copy_(ours[f"{at}.input_layernorm.weight"])
        q, k, v = (ours[f"{at}.self_attn.{name}_proj.weight"] for name in "qkv")
        attention.to_qkv.weight.copy_(torch.cat([_neighbours(q, heads), _neighbours(k, heads), v]))
        attention.to_out.weight.copy_(ours[f"{at}.self_attn.o_proj.weight"])
        # Its gate weighs the segment, ours the memory.
        attention.fastweight_mem.head_gates.copy_(-ours[f"{at}.self_attn.mixer.gate"])
        feedforward.norm.gamma.copy_(ours[f"{at}.post_attention_layernorm.weight"])
        up, gate = ours[f"{at}.mlp.up_proj.weight"], ours[f"{at}.mlp.gate_proj.weight"]
        feedforward.proj_in.weight.copy_(torch.cat([up, gate]))
        feedforward.proj_out.weight.copy_(ours[f"{at}.mlp.down_proj.weight"])
        feedforward.proj_in.bias.zero_()
        feedforward.proj_out.bias.zero_()
    model.norm.gamma.copy_(ours["model.norm.weight"])
    model.to_logits.weight.copy_(ours["lm_head.weight"])
    model.to_logits.bias.zero_()


def _neighbours(weight: Tensor, heads: int) -> Tensor:
    first, second = weight.unflatten(0, (heads, 2, -1)).unbind(1)
    return torch.stack([first, second], 2).flatten(0, 2)


if __name__ == "__main__":
    serve({"infini": infini})
