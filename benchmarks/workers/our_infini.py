"""Our side of Infini-attention: a small decoder that reads a text in segments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.workers.harness import Answer, Work, serve
from glassworks.mixers import Infini
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.pieces import Reading, pieces_loss, read_in_pieces
from glassworks.tensors.seeds import Seed

# Segments that pass through all layers together: few enough for the cache, many enough for the products.
PIECE, SMALL_PIECE = 4096, 1024


def prepare(folder: Path, options: Mapping[str, Any]) -> Work:
    """Writes weights and text. The peer's biases are set to zero, so that both sides are the same function."""
    model = _model(options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mixer.gate"):
                # Neither half silent, so that a wrong memory would show.
                parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()))
    chance = torch.Generator().manual_seed(0)
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(torch.randint(0, 256, (1, options["tokens"]), generator=chance), folder / "ids.pt")
    return dict


def infini(folder: Path, options: Mapping[str, Any]) -> Work:
    """The loss of a text, and all gradients where it trains; nothing is detached between segments."""
    model = _model(options)
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    ids = torch.load(folder / "ids.pt", weights_only=True)
    targets = ids.roll(-1, 1)
    reading = Reading(SMALL_PIECE if options["recompute"] else PIECE, bool(options["recompute"]))

    def loss(logits: Tensor, positions: slice) -> Tensor:
        return F.cross_entropy(logits[0].float(), targets[0, positions], reduction="sum")

    def work() -> Answer:
        if options["trains"]:
            total = pieces_loss(model, ids, reading, loss)
            gradient = _gradient(model)
            model.zero_grad()
            return {"loss": total.detach() / ids.shape[1], "gradient of the embedding": gradient}
        total = torch.zeros(())
        with torch.no_grad():
            for read in read_in_pieces(model, ids, reading.piece):
                total = total + loss(read.logits, read.positions)
        return {"loss": total / ids.shape[1]}

    return work


def _gradient(model: GlassworksForCausalLM) -> Tensor:
    gradient = model.model.embed_tokens.weight.grad
    assert gradient is not None, "the loss went backward"
    return gradient.clone()


def _model(options: Mapping[str, Any]) -> GlassworksForCausalLM:
    spec = TransformerSpec(
        vocabulary=256,
        width=options["width"],
        depth=options["depth"],
        heads=options["heads"],
        mixers=(Infini(segment=options["segment"], write=options["write"]),),
        positions="rotary",
        norm="rms",
        norm_epsilon=1e-12,
        feedforward=("geglu",),
        # The peer's: 4 x 2/3 of the width.
        feedforward_width=int(4 * options["width"] * 2 / 3),
    )
    return build_model(spec, Seed(0))


if __name__ == "__main__":
    serve({"prepare": prepare, "infini": infini})
