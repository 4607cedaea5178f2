"""The gradients of a batch, micro-batch by micro-batch and piece by piece, added up over all processes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.pieces import Reading, pieces_loss
from glassworks.tasks.base import Batch
from glassworks.training.objectives import AnyBatch, Forward, Objective
from glassworks.training.parallel import Layout, MicroBatch
from glassworks.training.spec import TrainingSpec

# Tokens that one forward and backward pass takes on a CPU: 64 sequences of 256.
CPU_TOKENS = 64 * 256

# Masks of a batch with the weights of their mean losses.
Masks = Sequence[tuple[Tensor, float]]


class Gradients:
    """How a model learns from a batch that every process draws alike, each reading its own part of it."""

    def __init__(
        self,
        spec: TrainingSpec,
        model: PreTrainedModel,
        layout: Layout,
        objective: Objective,
        precision: str,
        compile: bool,
    ) -> None:
        self.spec, self.model, self.layout = spec, model, layout
        self.objective, self.precision = objective, precision
        # Pieces pass through the model many times before a gradient is whole, which no wrapper follows.
        self.forward: Forward = model if spec.piece is not None else layout.forward_of(model, compile=compile)

    def of(self, batch: AnyBatch, masks: Masks, *, keep_logits: bool) -> tuple[Tensor, Tensor]:
        """Gradients of the mean loss over the batch, piece by piece; the loss, and all logits where they are asked for."""
        loss = torch.zeros((), device=batch.targets.device)
        kept: list[Tensor] = []
        for micro in self._micro_batches(batch):
            part = micro.rows
            # A process that reads only to take part learns nothing from it.
            counted = masks if micro.counts else [(torch.zeros_like(mask), weight) for mask, weight in masks]
            with self.layout.accumulating(micro):
                with torch.autocast(self.layout.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                    if self.spec.piece is None:
                        logits = self.objective.read(self.forward, batch, part)
                    else:
                        share, logits = self._read_in_pieces(batch, part, counted, self.spec.piece)
                        loss += share
                if self.spec.piece is None:
                    share = self._share(logits, batch, counted, (part,))
                    if share.requires_grad:
                        share.backward()
                    loss += share.detach()
            if keep_logits:
                kept.append(logits.detach() if micro.counts else logits.detach()[:0])
        if self.spec.piece is not None:
            self.layout.sum_gradients(self.model)
        return loss, torch.cat(kept) if kept else loss

    def _share(self, output: Tensor, batch: AnyBatch, masks: Masks, part: tuple[slice, ...]) -> Tensor:
        """What these positions add to the loss of the whole batch."""
        share = torch.zeros((), device=output.device)
        if not self.layout.here.is_alone:
            # Nothing, but by way of the model: the others wait for the gradients of every process.
            share = share + output[:0].sum()
        for mask, weight in masks:
            here = mask[part]
            if bool(here.any()):
                mean = self.objective.mean_loss(output, batch.targets[part], here)
                share = share + mean * (here.sum() / mask.sum()) * weight
        return share

    def _read_in_pieces(self, batch: AnyBatch, part: slice, masks: Masks, piece: int) -> tuple[Tensor, Tensor]:
        """Loss and logits with sequences read piece by piece; the gradients through the memories are taken on the way."""
        assert isinstance(batch, Batch), "the spec checks that tokens are read"
        assert isinstance(self.model, GlassworksForCausalLM), "a model that reads tokens"
        kept: dict[int, Tensor] = {}

        def share(logits: Tensor, positions: slice) -> Tensor:
            # Pieces that are read again on the way back come last first.
            kept[positions.start] = logits.detach()
            return self._share(logits.float(), batch, masks, (part, positions))

        reading = Reading(piece, self.spec.recompute, self.spec.truncate_after)
        written = None if batch.written is None else batch.written[part]
        total = pieces_loss(self.model, batch.inputs[part], reading, share, written)
        return total, torch.cat([kept[start] for start in sorted(kept)], 1)

    def _micro_batches(self, batch: AnyBatch) -> list[MicroBatch]:
        size, length = batch.inputs.shape[:2]
        # On a CPU a large batch is memory traffic: score tensors that leave the cache are allocated and paged in anew
        # every step. Other devices take the batch whole.
        largest = max(1, CPU_TOKENS // length) if self.layout.device.type == "cpu" else size
        return self.layout.micro_batches(size, largest)
