"""The look inside that Birth takes while a simplified model trains: recall of its three memories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from glassworks.anatomy.subject import Subject
from glassworks.instruments.memory_recall import BigramWorld, recall
from glassworks.tasks import Bigram

if TYPE_CHECKING:
    from glassworks.training.loop import Probe
    from glassworks.training.spec import TrainingSpec

# Names of the history, in the words of the claims: what each memory answers.
NAMES = {
    "w_o2": "recall/output",
    "w_k2": "recall/match",
    "w_k2_weighted": "recall/match_weighted",
    "w_k1": "recall/position",
    "w_k1_causal": "recall/position_causal",
    "w_k1_first_64": "recall/position_64",
    "w_f_kl": "recall/feedforward_kl",
}


class RecallProbe:
    """Recalls of one model that is being trained; its anatomy is found once."""

    def __init__(self, spec: TrainingSpec) -> None:
        assert isinstance(spec.task, Bigram), "recall is measured in the bigram world"
        self.world = BigramWorld.from_task(spec.task)
        self.positions = spec.task.longest
        self._subject: Subject | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The recalls by their names in the history; those that this model has no matrix for are left out."""
        if self._subject is None or self._subject.model is not model:
            self._subject = Subject.of(model)
        found = recall(self._subject, self.world, self.positions)
        return {name: found[key] for key, name in NAMES.items() if found[key] == found[key]}


def probe_for(spec: TrainingSpec) -> Probe | None:
    """The probe that a spec names: "recall" or "none"."""
    return RecallProbe(spec) if spec.probe == "recall" else None
