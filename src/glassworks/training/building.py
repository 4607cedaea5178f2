"""The model that a training begins with: a language model, or a body with a head for labels."""

import torch
from transformers import PreTrainedModel

from glassworks.models import GlassworksConfig, GlassworksForSequenceClassification
from glassworks.models.initialise import initialise
from glassworks.models.transformer import build_model, language_model_class
from glassworks.tasks import Sentences
from glassworks.tensors.seeds import Seed
from glassworks.training.spec import TrainingSpec


def model_class(spec: TrainingSpec) -> type[PreTrainedModel]:
    """The class of a training's model, as it is loaded again from its folder."""
    return GlassworksForSequenceClassification if isinstance(spec.task, Sentences) else language_model_class(spec.model)


def build_untrained(spec: TrainingSpec) -> PreTrainedModel:
    """The model of a training before its first step, on the CPU in float32; the seed alone decides its numbers.

    As in `build_model`, each part draws from a stream named after it: a classifier's body begins like the language model's.
    """
    seed = Seed(spec.seed).child("model")
    if not isinstance(spec.task, Sentences):
        return build_model(spec.model, seed)
    model = build_hollow(spec)
    for name, module in model.named_modules():
        initialise(module, spec.model, seed.child("model", name).generator())
    return model


def build_hollow(spec: TrainingSpec) -> PreTrainedModel:
    """The model of a training on the CPU with room for its numbers, but none in it; the room is taken as it is filled."""
    labels = {"num_labels": spec.task.labels} if isinstance(spec.task, Sentences) else {}
    with torch.device("meta"):
        model = model_class(spec)(GlassworksConfig.from_spec(spec.model, **labels))
    model.to_empty(device="cpu")
    model.tie_weights()
    model.config.dtype = torch.float32
    return model
