"""What is looked at while a model of the Infini study trains: the gate of every head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from glassworks.training.loop import Probe
    from glassworks.training.spec import TrainingSpec

GATES = "gates"


def probe_of(spec: TrainingSpec) -> Probe | None:
    """The gates where the spec asks for them."""
    return gates if spec.probe == GATES else None


def gates(model: nn.Module) -> dict[str, float]:
    """sigmoid(beta) of every head as `gate/<layer>/<head>`, both counted from 1: the weight of what memory says."""
    found: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if name.endswith(".mixer.gate"):
            layer = int(name.split(".layers.")[1].split(".")[0]) + 1
            found |= {
                f"gate/{layer}/{head}": float(value) for head, value in enumerate(parameter.detach().sigmoid(), 1)
            }
    return found
