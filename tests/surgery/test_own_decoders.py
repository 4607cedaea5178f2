"""Our own decoders under a plan: every execution of a layer has a cache slot of its own, whatever mixes the tokens."""

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.mixers import Infini, Linear, Softmax
from glassworks.models import TransformerSpec, build_model
from glassworks.surgery import operated
from glassworks.tensors.seeds import Seed
from tests.models.decoders import LLAMA

PLANS = ("0 1x2 0", "0..1 0..1", "0 (0..1 | 1)", "1", "0", "1..0 0")
MIXERS = {"softmax": Softmax(), "linear": Linear(), "infini": Infini(segment=4)}


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.slow
def test_tokens_written_with_a_cache_are_those_of_uncached_passes(name: str) -> None:
    model = build_model(TransformerSpec(**LLAMA | {"mixers": (MIXERS[name],)}), Seed(3)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=Seed(parameter.numel()).generator()))
    subject = Subject.of(model)
    prompt = torch.randint(1, 30, (1, 7), generator=torch.Generator().manual_seed(0))
    for plan in PLANS:
        with operated(subject, plan):
            cached = subject.generate(prompt, 6)
            uncached = subject.generate(prompt, 6, use_cache=False)
        assert torch.equal(cached, uncached), plan
