import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.evidence.measurements import Measurement
from glassworks.instruments import DirectAttribution
from glassworks.instruments.direct_attribution import CROSS, GAP, MODEL, SUM, WHOLE
from glassworks.instruments.writers import HeldNorm
from tests.families import FAMILIES, shared
from tests.families import subject as examined
from tests.planted.models import copying_layer

BATCH = TokenBatch(torch.tensor([[5, 9, 5, 9, 17, 30, 5, 9, 17]]))
POST_NORM = ("bert", "roberta", "distilbert", "electra")
PRE_NORM = [family for family in FAMILIES if family not in POST_NORM]


def number(found: Measurement, place: str, part: str = WHOLE, quantity: str = "logit") -> float:
    return float(found.at(place=place, part=part, quantity=quantity).values)


@pytest.mark.parametrize("family", PRE_NORM)
def test_the_parts_sum_to_the_models_own_logit_and_heads_to_their_attention(family: str) -> None:
    subject = examined(family)
    with torch.no_grad():
        logits = subject.forward(BATCH)[0, 3].double()
    found = DirectAttribution(position=3, token=7, against=8).read(subject, BATCH)
    assert number(found, MODEL) == float(logits[7])
    assert number(found, SUM) == pytest.approx(float(logits[7]), abs=1e-5)
    assert number(found, MODEL, quantity="difference") == pytest.approx(float(logits[7] - logits[8]))
    assert number(found, MODEL, quantity="above mean") == pytest.approx(float(logits[7] - logits.mean()))
    # The gap is the largest of the sum and of every attention's heads against the attention itself.
    assert found.at(place=GAP, part=WHOLE).values.max() < 1e-5
    heads = [part for part in found.coords["part"] if str(part).startswith("H")]
    assert len(heads) == 4
    assert np.isfinite([number(found, "L1", str(head)) for head in heads]).all()


def test_a_cap_after_the_head_is_said_and_the_parts_sum_to_what_it_caps() -> None:
    found = DirectAttribution().read(examined("gemma2"), BATCH)
    assert found.at(place=GAP, part=WHOLE).values.max() < 1e-5
    assert any("outside all modules" in caveat.en for caveat in found.caveats)


@pytest.mark.parametrize("family", ["t5", "mbart"])
def test_a_decoders_attention_to_its_source_is_a_part_with_heads(family: str) -> None:
    batch = TokenBatch(BATCH.ids[:, :5], source=BATCH)
    found = DirectAttribution().read(examined(family), batch)
    assert found.at(place=GAP, part=WHOLE).values.max() < 1e-5
    pieces = [number(found, "L1", f"X{head}") for head in range(4)]
    bias = np.nan_to_num(number(found, "L1", f"{CROSS}, bias"))
    assert sum(pieces) + bias == pytest.approx(number(found, "L1", CROSS), abs=1e-5)


def test_a_head_under_grouped_queries_is_what_its_slice_of_the_projection_writes() -> None:
    model, subject = shared("llama"), examined("llama")
    _, cache = subject.run_with_cache(BATCH, ["layers.1.mixer.z", "layers.2.out"])
    with torch.no_grad():
        final = cache["layers.2.out"][0, -1]
        scale = final.square().mean().add(model.config.rms_norm_eps).rsqrt()
        slice_of_head = model.model.layers[1].self_attn.o_proj.weight[:, 3 * 8 : 4 * 8]
        written = slice_of_head @ cache["layers.1.mixer.z"][0, -1, 3]
        expected = float(model.lm_head.weight[7] @ (model.model.norm.weight * written * scale))
    found = DirectAttribution(token=7).read(subject, BATCH)
    assert number(found, "L1", "H3") == pytest.approx(expected, abs=1e-5)


def test_the_layer_that_copies_writes_the_answer_and_the_empty_one_nothing() -> None:
    found = DirectAttribution().read(Subject.of(copying_layer()), BATCH)
    assert "“17”" in found.says.en
    assert number(found, "L0", quantity="above mean") == 0.0
    assert number(found, "L1", "H0", "above mean") > 0.9 * number(found, MODEL, quantity="above mean")


@pytest.mark.parametrize("family", POST_NORM)
def test_a_model_with_norms_after_the_sums_is_refused_with_what_would_fit(family: str) -> None:
    with pytest.raises(InvalidInput, match="does not fit this model") as problem:
        DirectAttribution().read(examined(family), BATCH)
    assert "ablation" in str(problem.value)


class Halved(nn.Module):
    """Adds half of what its attention returns, which no module boundary shows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.attention = layer.attention

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.attention(x)


def test_a_part_that_was_not_seen_is_noticed_by_the_sum() -> None:
    model = copying_layer()
    model.blocks[1] = Halved(model.blocks[1])
    with pytest.raises(StrangeModel, match="do not add up"):
        DirectAttribution().read(Subject.of(model), BATCH)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"position": 9}, "no such position"), ({"sequence": 1}, "no such sequence"), ({"token": 99}, "outside the voc")],
)
def test_a_place_or_token_that_is_not_there_is_named(settings: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        DirectAttribution(**settings).read(examined("gpt2"), BATCH)


@pytest.mark.parametrize("norm", [nn.LayerNorm(7), nn.RMSNorm(7), nn.RMSNorm(8), nn.LayerNorm(8, bias=False)])
def test_a_held_norm_is_linear_and_right_at_its_own_vector(norm: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    width = next(norm.parameters()).shape[0]
    vector, other = torch.randn(2, width, generator=generator)
    held = HeldNorm.at(norm, vector)
    torch.testing.assert_close(
        held.linear(vector.double()) + held.bias, norm(vector).detach().double(), atol=1e-5, rtol=0
    )
    both = torch.stack([vector, other]).double()
    torch.testing.assert_close(held.linear(both.sum(0)), held.linear(both).sum(0))
    torch.testing.assert_close(held.linear(both)[0] @ both[1], both[0] @ held.transposed(both[1]))


def test_a_module_that_is_no_norm_cannot_be_held() -> None:
    class Squash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * torch.tanh(x)

    with pytest.raises(StrangeModel, match="neither a layer norm"):
        HeldNorm.at(Squash(), torch.linspace(-3, 3, 8))
