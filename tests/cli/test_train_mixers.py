"""What `glassworks train` makes of the mixers that read in segments and windows."""

import pytest

from glassworks.training.recipes import read_settings, training_of
from glassworks.training.spec import TrainingSpec


def spec_of(task: str, *words: str) -> TrainingSpec:
    return training_of(task, read_settings(words))


@pytest.mark.parametrize("kind", ["infini", "local", "transformer_xl", "memorizing", "sliding_window"])
def test_mixers_that_turn_keys_themselves_get_rotary_positions(kind: str) -> None:
    model = spec_of("bigram", f"mixer={kind},softmax").model
    assert [mixer.kind for mixer in model.mixers] == [kind, "softmax"]
    # Softmax inside them divides by a sum of weights, so keys need no unit length.
    assert (model.positions, model.query_key_norm) == ("rotary", "none")
    assert model.sizes_of(0).rotary_base == model.rotary_base
    assert spec_of("bigram", f"mixer={kind}", "model.positions=none").model.positions == "none"


def test_settings_of_a_mixer_follow_its_name() -> None:
    model = spec_of("bigram", "mixer=infini", "model.mixers.1.segment=16", "depth=2").model
    assert [mixer.segment for mixer in model.mixers] == [128, 16]
    assert spec_of("bigram", "mixer=linear").model.positions == "learned"
