import pytest

from glassworks.core.errors import InvalidSpec
from glassworks.core.text import choose_language
from glassworks.mixers import Linear, Softmax
from glassworks.models import TransformerSpec
from tests.models.tiny import SPECS


def small(**fields: object) -> TransformerSpec:
    return TransformerSpec.parse({"vocabulary": 5, "width": 12, "depth": 2, "heads": 4} | fields)


@pytest.mark.parametrize(
    ("fields", "says", "cure"),
    [
        ({"heads": 5}, "5 heads do not divide width 12", "1, 2, 3, 4, 6, 12"),
        ({"kv_heads": 3}, "3 key-value heads do not divide 4 heads", "1, 2, 4"),
        ({"head_width": 5, "query": "identity"}, "query cannot be the identity", "query=learned"),
        ({"kv_heads": 2, "value": "identity"}, "value cannot be the identity", "value=learned"),
        ({"mixers": [{"kind": "softmax"}] * 3}, "3 mixers for 2 layers", "one for all layers, or 2"),
        ({"feedforward": ["relu"] * 3}, "3 feedforward for 2 layers", "one for all layers, or 2"),
        ({"positions": "rotary", "rotary_layers": [2]}, "no layer 2", "from 0 to 1"),
        ({"rotary_layers": [0]}, "positions are learned", "positions=rotary"),
        ({"positions": "rotary"}, "width 3 cannot be rotated", "even"),
    ],
)
def test_an_impossible_combination_names_itself_and_its_cure(fields: dict[str, object], says: str, cure: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        small(**fields)
    assert says in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize("fields", [{"width": 0}, {"vocabulary": 0}, {"depth": -1}, {"embedding_scale": 0.0}])
def test_sizes_below_one_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        small(**fields)


def test_a_misspelt_field_gets_the_nearest_one() -> None:
    with pytest.raises(InvalidSpec, match="hedas") as caught:
        small(hedas=4)
    assert "heads (nearest)" in str(caught.value)


def test_errors_speak_chinese() -> None:
    choose_language("zh")
    try:
        with pytest.raises(InvalidSpec) as caught:
            small(heads=5)
        assert "5 个头无法整除宽度 12" in str(caught.value)
    finally:
        choose_language("en")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_spec_survives_plain_data(spec: TransformerSpec) -> None:
    assert TransformerSpec.parse(spec.to_json()) == spec
    assert TransformerSpec.parse(spec.to_json()).digest() == spec.digest()


def test_what_is_not_given_is_derived() -> None:
    spec = small()
    assert (spec.width_of_head, spec.width_of_feedforward, spec.sizes.kv_heads) == (3, 48, 4)
    assert spec.sizes.scale == pytest.approx(3**-0.5)
    assert small(score_scale="none").sizes.scale == 1.0
    assert not small(norm="none").has_final_norm


def test_layers_may_differ() -> None:
    spec = small(mixers=(Softmax(), Linear()), feedforward=("none", "relu"))
    assert [spec.mixer(layer).kind for layer in (0, 1)] == ["softmax", "linear"]
    assert [spec.feedforward_of(layer) for layer in (0, 1)] == ["none", "relu"]
    half = small(width=16, positions="rotary", rotary_layers=(1,))
    assert [half.rotates(layer) for layer in (0, 1)] == [False, True]
