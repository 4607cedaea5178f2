"""What `train` looks at while a model learns: its memories, what its heads look for, and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassworks.core.errors import UnknownName
from glassworks.core.events import EventLog, Sampled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from glassworks.anatomy import Subject
    from glassworks.anatomy.tokens import TokenBatch
    from glassworks.training.loop import Probe
    from glassworks.training.spec import TrainingSpec

LOOKS = ("none", "recall", "inside")
# Texts along the way, and tokens of each: together a few seconds of a training of minutes.
TEXTS, PROMPT, TOKENS = 20, 16, 64
# Random sequences said twice, on which heads are scored: enough that the mean over them moves little.
SEQUENCES, HALF = 4, 24
_SCORES = ("previous_token", "induction")


def look_of(spec: TrainingSpec, events: EventLog) -> Probe | None:
    """The look that `spec.probe` names, with texts told as events; UnknownName for a look that is none.

    `recall` are the memories of a model of the bigram world, `inside` adds how strongly the heads of each layer look at
    the token before and at what followed their token last time. Texts change no number of the training.
    """
    from glassworks.models.spec import TransformerSpec
    from glassworks.tasks import Bigram
    from glassworks.tasks.base import TokenTask

    if spec.probe not in LOOKS:
        raise UnknownName("probe", spec.probe, LOOKS)
    parts: list[Probe] = []
    if spec.probe != "none" and isinstance(spec.task, Bigram):
        from glassworks.experiments.birth.probes import RecallProbe

        parts.append(RecallProbe(spec))
    if spec.probe == "inside" and isinstance(spec.model, TransformerSpec):
        parts.append(HeadLook(spec))
    if isinstance(spec.task, TokenTask) and isinstance(spec.model, TransformerSpec) and spec.model.reads == "past":
        parts.append(Writing(spec, events))
    if not parts:
        return None

    def look(model: nn.Module) -> dict[str, float]:
        return {name: value for part in parts for name, value in part(model).items()}

    return look


class HeadLook:
    """The strongest previous-token and induction score of each layer.

    On random tokens said twice; in the bigram world on its own sequences, the induction score where a trigger comes back.
    """

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec
        self._subject: Subject | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores by name: `induction/layer_1` is the share of attention of the best head of that layer."""
        from glassworks.anatomy.capture import capture
        from glassworks.anatomy.subject import Subject
        from glassworks.instruments.head_scores import HeadScores, head_targets, scored

        if self._subject is None or self._subject.model is not model:
            self._subject = Subject.of(model)
        sites = HeadScores().sites(self._subject.anatomy)
        batch, asked = self._text(self._subject)
        seen = capture(self._subject, batch, sites)
        targets, found = head_targets(batch), dict[str, float]()
        if asked is not None:
            targets["induction"] = targets["induction"] * asked[:, :, None]
        for site in sites:
            pattern = seen[site.name].float().cpu()
            for name in _SCORES:
                heads = scored(pattern, targets[name]).nanmean((0, 2))
                found[f"{name}/layer_{site.layer}"] = float(heads.max())
        return found

    def _text(self, subject: Subject) -> tuple[TokenBatch, Tensor | None]:
        """Sequences, and the queries whose induction counts (all where None); the same at every look."""
        from glassworks.anatomy.tokens import TokenBatch
        from glassworks.instruments.head_scores import repeated_random_tokens
        from glassworks.tasks import Bigram
        from glassworks.tensors.seeds import Seed

        seed = Seed(self.spec.seed).child("look")
        if not isinstance(self.spec.task, Bigram):
            return repeated_random_tokens(subject, seed, sequences=SEQUENCES, half=HALF), None
        world = self.spec.task.sample(SEQUENCES, seed)
        batch = TokenBatch(world.inputs, None, subject.labels(world.inputs[0].tolist()))
        return batch, (world.occurrence > 1).float()


class Writing:
    """Tells, some twenty times in a training, how the model goes on from a beginning that it never learned from."""

    def __init__(self, spec: TrainingSpec, events: EventLog) -> None:
        from glassworks.tensors.seeds import Seed

        self.spec, self.events, self.seed = spec, events, Seed(spec.seed).child("texts")
        self.looks, self.digest = 0, spec.digest()
        rows = -(-spec.steps // spec.probe_every)
        self.every = max(1, rows // TEXTS)
        self._prompt: Any = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """No scores; tells a text where it is due."""
        if self.looks % self.every == 0:
            step = min(self.looks * self.spec.probe_every, self.spec.steps - 1)
            ids = self._written(model)
            start = self._start(model).shape[1]
            self.events.emit(
                Sampled(
                    digest=self.digest, step=step, prompt=self._spelled(ids[:start]), text=self._spelled(ids[start:])
                )
            )
        self.looks += 1
        return {}

    def _start(self, model: Any) -> Any:
        if self._prompt is None:
            task: Any = self.spec.task
            if "split" in type(task).model_fields:
                task = task.replaced("split", "held_out")
            batch = task.sample(1, self.seed.child("prompt"), str(model.device))
            self._prompt = batch.inputs[:, : min(PROMPT, task.longest // 2)]
        return self._prompt

    def _written(self, model: Any) -> list[int]:
        """Tokens drawn one by one from the whole distribution, always by the same chance."""
        import torch

        ids, generator = self._start(model), self.seed.generator()
        with torch.no_grad():
            for _ in range(min(TOKENS, self.spec.task.longest - ids.shape[1])):
                chances = model(ids).logits[:, -1].float().softmax(-1).cpu()
                drawn = torch.multinomial(chances, 1, generator=generator)
                ids = torch.cat([ids, drawn.to(ids.device)], 1)
        return [int(token) for token in ids[0]]

    def _spelled(self, ids: list[int]) -> str:
        task: Any = self.spec.task
        if task.spells_bytes:
            return bytes(ids).decode("utf-8", "replace")
        return "".join(task.alphabet[token] for token in ids)
