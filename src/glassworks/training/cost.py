"""What a training costs: counted operations, and the share of a machine's measured rate that trainings reach."""

from glassworks.models.spec import VectorSpec
from glassworks.training.spec import TrainingSpec

# Small matrices, attention, batches and probes keep a training far below the machine's best matrix product.
SHARE_OF_RATE = {"bfloat16": 0.15, "float32": 0.4}


def operations_of(spec: TrainingSpec) -> float:
    """Floating-point operations of a training: 6 per weight and token, 12 per layer, channel and attended pair.

    The usual count for a transformer: 2 for a multiplication and addition, times 3 for forward and backward pass.
    Feed-forward layers count 8 width^2 (2 matrices of 4 times the width), a linear one width^2.
    """
    model = spec.model
    feedforward = [
        8
        if kind in ("relu", "gelu", "gelu_tanh")
        else 12
        if kind.endswith(("glu", "glu_tanh"))
        else int(kind == "linear")
        for kind in model.feedforward
    ]
    per_layer = sum(feedforward) / len(feedforward) + 4
    ends = model.inputs + model.outputs if isinstance(model, VectorSpec) else model.vocabulary
    weights = model.depth * per_layer * model.width**2 + model.width * ends
    tokens = float(spec.batch * spec.task.longest)
    pairs = 12.0 * model.depth * model.width * spec.task.longest * tokens
    return spec.steps * (6.0 * weights * tokens + pairs)
