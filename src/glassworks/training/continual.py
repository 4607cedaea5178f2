"""Continual pre-training of a decoder with a memory: it learns to use on a text what it was given (infini.md 2, 4.1)."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from glassworks.core.errors import BrokenFile, Diverged, InvalidInput
from glassworks.core.events import CheckpointSaved, EventLog, StepDone, TrainingDone, TrainingStarted
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.models.infinify import gates_of
from glassworks.models.memory_files import weights_digest
from glassworks.models.text_pieces import Source, Speller, TextPieces, Tokens
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.seeds import Seed
from glassworks.training.schedules import ClipNorm, WarmupCosine

# Sequences of the held-out part by which a model is judged.
HELD_OUT = 32
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Continual(Spec):
    """A short further training on windows of a text: gates at a rate of their own and without weight decay."""

    kind: Literal["continual"] = "continual"
    sha256: str
    """Of the text's bytes."""
    steps: int = Field(default=200, ge=1)
    """Updates."""
    length: int = Field(default=512, ge=2)
    """Tokens of a sequence; gradients go back through all of its segments."""
    batch: int = Field(default=4, ge=1)
    """Sequences of an update."""
    rate: float = Field(default=1e-4, gt=0)
    """Learning rate of all weights but the gates; it rises for a tenth of the steps, then falls to a tenth."""
    gate_rate: float = Field(default=1e-2, ge=0)
    """Learning rate of the gates; 0 leaves them as they are."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of matrices; gates, norms and constants have none."""
    seed: int = 0
    """Which windows are drawn."""


@dataclass(frozen=True, eq=False)
class TextTokens:
    """A text in a model's own tokens: nine tenths to learn from, the last tenth to be judged by."""

    front: tuple[int, ...]
    """Tokens that the tokenizer puts before every text; each sequence begins with them."""
    fit: Tokens = field(repr=False)
    held_out: Tokens = field(repr=False)
    sha256: str

    @classmethod
    def of(cls, source: Source, tokenizer: object, length: int) -> "TextTokens":
        """The tokens of a file; InvalidInput where a tenth of it is shorter than one sequence."""
        speller = Speller(tokenizer)
        pieces = list(TextPieces(speller, source))
        ids = np.concatenate([piece.ids for piece in pieces])
        cut = len(ids) - len(ids) // 10
        if len(ids) - cut < length + 1:
            raise InvalidInput(
                say("the text is too short to learn from and be judged on"),
                given=say(
                    "{count} tokens, of which the last {held_out} are held out", count=len(ids), held_out=len(ids) - cut
                ),
                right=say("at least {count} tokens, or shorter sequences", count=10 * (length + 1)),
            )
        return cls(tuple(speller.beginning()), ids[:cut], ids[cut:], pieces[-1].end.sha256)

    def drawn(self, spec: Continual, step: int) -> Tensor:
        """The sequences of a step [batch, 1 + length], which depend on seed and step alone."""
        chance = Seed(spec.seed).child("windows", step).numpy()
        starts = chance.integers(0, len(self.fit) - spec.length, size=spec.batch)
        return self._windows(self.fit, starts, spec.length)

    def judged(self, length: int, count: int = HELD_OUT) -> Tensor:
        """Sequences spread evenly over the held-out part [sequence, 1 + length]."""
        room = len(self.held_out) - length - 1
        return self._windows(self.held_out, np.unique(np.linspace(0, room, count).astype(np.int64)), length)

    def _windows(self, ids: Tokens, starts: NDArray[np.int64], length: int) -> Tensor:
        front = np.asarray(self.front, dtype=np.int64)
        own = length + 1 - len(front)
        rows = [np.concatenate([front, ids[start : start + own]]) for start in starts.tolist()]
        return torch.from_numpy(np.stack(rows))


def losses_by_position(model: PreTrainedModel, sequences: Tensor, batch: int = 4) -> Float[Tensor, "sequence position"]:
    """The loss of every prediction of some sequences, in nats."""
    was_training = model.training
    model.eval()
    found: list[Tensor] = []
    with torch.no_grad(), _arithmetic(model):
        for part in sequences.split(batch):
            ids = part.to(model.device)
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            found.append(F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").cpu())
    model.train(was_training)
    return torch.cat(found)


@contextmanager
def closed(model: nn.Module) -> Generator[None]:
    """The memory without any weight inside the `with`: what attention inside the segments does alone."""
    gates = list(gates_of(model).values())
    former = [gate.detach().clone() for gate in gates]
    with torch.no_grad():
        for gate in gates:
            gate.fill_(float("-inf"))
    try:
        yield
    finally:
        with torch.no_grad():
            for gate, value in zip(gates, former, strict=True):
                gate.copy_(value)


def continue_training(
    model: PreTrainedModel, text: TextTokens, spec: Continual, folder: Path, events: EventLog, every: int = 20
) -> list[float]:
    """Trains a model in place; returns the loss of each step, taken before its update.

    Every so many steps the state is kept in `folder`; called again with equal arguments after an interruption, however
    hard, it goes on from there as if nothing had happened. Raises Diverged at NaN.
    """
    return _Training(model, text, spec, folder, events).go(every)


class _Training:
    def __init__(
        self, model: PreTrainedModel, text: TextTokens, spec: Continual, folder: Path, events: EventLog
    ) -> None:
        self.model, self.text, self.spec, self.events = model, text, spec, events
        self.path = folder / f"training-{spec.digest()}.safetensors"
        self.origin = weights_digest(model)
        gates = gates_of(model)
        # Some models hand a tensor out under two names: each is trained once.
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": list(gates.values()), "weight_decay": 0.0, "peak": spec.gate_rate},
                {"params": [p for n, p in self.weights.items() if n not in gates and p.ndim > 1], "peak": spec.rate},
                {
                    "params": [p for n, p in self.weights.items() if n not in gates and p.ndim < 2],
                    "weight_decay": 0.0,
                    "peak": spec.rate,
                },
            ],
            lr=spec.rate, betas=(0.9, 0.95), weight_decay=spec.weight_decay,
        )  # fmt: skip
        self.schedule = WarmupCosine(warmup=spec.steps // 10, until=spec.steps, final=0.1)

    def go(self, every: int) -> list[float]:
        """All steps that are left."""
        spec, digest, started = self.spec, self.spec.digest(), time.perf_counter()
        losses = self._taken_up()
        self.events.emit(
            TrainingStarted(label="infinify", digest=digest, seed=spec.seed, first_step=len(losses), steps=spec.steps)
        )
        was_training = self.model.training
        self.model.train()
        for step in range(len(losses), spec.steps):
            begun = time.perf_counter()
            losses.append(self._step(step))
            self.events.emit(StepDone(digest=digest, step=step, loss=losses[-1], seconds=time.perf_counter() - begun))
            if (step + 1) % every == 0 or step + 1 == spec.steps:
                self._keep(losses)
                self.events.emit(CheckpointSaved(digest=digest, step=step + 1))
        self.model.train(was_training)
        self.events.emit(TrainingDone(label="infinify", digest=digest, seconds=time.perf_counter() - started))
        return losses

    def _step(self, step: int) -> float:
        ids = self.text.drawn(self.spec, step).to(self.model.device)
        own = [ids.device] if ids.device.type == "cuda" else []
        # Dropout draws from the global generator, which is put back afterwards.
        with torch.random.fork_rng(own), _arithmetic(self.model):
            torch.manual_seed(Seed(self.spec.seed).child("dropout", step).value)
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        if not bool(torch.isfinite(loss)):
            raise Diverged(
                say("training met NaN or infinity in {what} at step {step}", what="loss", step=step),
                given=f"--rate {self.spec.rate} --gate-rate {self.spec.gate_rate}",
                right=say("a smaller learning rate"),
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ClipNorm().apply([p for p in self.weights.values() if p.grad is not None])
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.schedule.rate(step, 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def _keep(self, losses: list[float]) -> None:
        tensors: dict[str, Tensor] = {"losses": torch.tensor(losses, dtype=torch.float64)}
        for name, weight in self.weights.items():
            tensors[f"weight/{name}"] = weight.detach().clone()
            tensors |= {
                f"{key}/{name}": value.clone() for key, value in self.optimiser.state[weight].items() if key in _MOMENTS
            }
        save_tensors(self.path, tensors, {"origin": self.origin, "text": self.text.sha256})

    def _taken_up(self) -> list[float]:
        """Goes back to the state that was kept, if there is one; returns the losses of the steps done."""
        if not self.path.is_file():
            return []
        tensors, metadata = load_tensors(self.path)
        if metadata.get("origin") != self.origin or metadata.get("text") != self.text.sha256:
            raise _foreign(self.path)
        try:
            losses: list[float] = tensors["losses"].tolist()
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(tensors[f"weight/{name}"])
                    self.optimiser.state[weight] = _moments(tensors, name, weight)
        except (KeyError, RuntimeError):
            raise _foreign(self.path) from None
        return losses


def _moments(tensors: Mapping[str, Tensor], name: str, weight: Tensor) -> dict[str, Tensor]:
    # AdamW counts its steps on the CPU whatever the device.
    found = {key: tensors[f"{key}/{name}"] for key in _MOMENTS if f"{key}/{name}" in tensors}
    return {key: value if key == "step" else value.to(weight.device) for key, value in found.items()}


def _foreign(path: Path) -> BrokenFile:
    return BrokenFile(
        say("{path} is the state of another training", path=str(path)),
        right=say("another folder, or none of this file"),
    )


def _arithmetic(model: PreTrainedModel) -> torch.autocast:
    """Products in bfloat16 where the device is fast at it; weights, memories and their sums stay as they are."""
    is_short = model.dtype == torch.float32 and has_fast_bfloat16(model.device)
    return torch.autocast(model.device.type, torch.bfloat16, enabled=is_short)
