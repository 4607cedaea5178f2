import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput
from glassworks.instruments import Patching, replacing
from tests.families import subject as examined
from tests.planted.models import induction_head

CLEAN, CORRUPTED = (5, 9, 4, 8, 17, 30, 5, 9, 17), (5, 9, 4, 8, 17, 29, 5, 9, 17)
PAIR = TokenBatch(torch.tensor([CLEAN, CORRUPTED]))


def test_patching_finds_the_path_of_a_hand_set_induction_head() -> None:
    """The token after the first 17 is told apart at its own place, until layer 1 carries it to the end."""
    found = Patching().read(Subject.of(induction_head()), PAIR)
    assert found.coords["layer"] == ("embed", 0, 1)
    expected = np.zeros((3, 9))
    expected[0, 5] = expected[1, 5] = expected[2, 8] = 1.0
    np.testing.assert_allclose(found.at(quantity="recovery").values, expected, atol=0.02)
    assert "“30” minus logit of “29”" in found.says.en
    heads = Patching(where="heads").read(Subject.of(induction_head()), PAIR)
    np.testing.assert_allclose(heads.at(quantity="recovery").values, [[0.0], [1.0]], atol=0.02)


@pytest.mark.parametrize("metric", ["logit_difference", "probability", "kl"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_last_layers_stream_at_the_place_read_brings_back_everything_and_elsewhere_nothing(
    family: str, metric: str
) -> None:
    found = Patching(corrupted=CORRUPTED, metric=metric).read(examined(family), TokenBatch(PAIR.ids[:1]))
    last = found.at(layer=2, quantity="recovery").values
    np.testing.assert_allclose(last, [0] * 8 + [1], atol=1e-4)


def test_noise_has_its_seed_and_an_interval_over_its_draws() -> None:
    def recovery(**settings: object) -> np.ndarray:
        return Patching(**settings).read(examined("gpt2"), TokenBatch(PAIR.ids[:1])).values

    np.testing.assert_array_equal(recovery(seed=1), recovery(seed=1))
    assert (recovery(seed=1)[..., 0] != recovery(seed=2)[..., 0]).any()
    values = recovery(samples=4)
    assert (values[..., 4] == 4).all()
    assert (values[..., 1] <= values[..., 0]).all()
    # Noise on one position leaves the others' embeddings alone, so only that one brings anything back.
    alone = recovery(noise=(5,))[0, :, 0]
    np.testing.assert_allclose(alone, [0, 0, 0, 0, 0, 1, 0, 0, 0], atol=1e-4)


def test_how_many_copies_share_a_pass_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Patching(where="attention").read(examined("neox"), PAIR).values
    monkeypatch.setattr(replacing, "MOST_ROWS", 4)
    np.testing.assert_allclose(Patching(where="attention").read(examined("neox"), PAIR).values, together, atol=1e-4)


def test_several_pairs_give_an_interval() -> None:
    four = TokenBatch(torch.tensor([CLEAN, CLEAN[::-1], CORRUPTED, CORRUPTED[::-1]]))
    found = Patching().read(examined("llama"), four)
    assert (found.at(quantity="count").values == 2).all()
    assert not found.caveats[1:]


def test_the_encoder_of_an_encoder_decoder_is_patched_at_the_places_of_its_source() -> None:
    batch = TokenBatch(torch.tensor([[0, 7, 3]]), source=TokenBatch(PAIR.ids[:1]))
    found = Patching(stack="encoder", corrupted=CORRUPTED).read(examined("t5"), batch)
    grid = found.at(quantity="recovery").values
    assert grid.shape == (5, 9)
    # Only the one source token that differs brings anything back before attention has moved it on.
    np.testing.assert_allclose(grid[0], [0, 0, 0, 0, 0, 1, 0, 0, 0], atol=1e-3)
    cross = Patching(where="cross").read(examined("t5"), batch)
    assert np.isfinite(cross.at(quantity="recovery").values).all()


@pytest.mark.parametrize(
    ("settings", "batch", "says"),
    [
        ({"corrupted": CORRUPTED[:-1]}, PAIR, "equally many tokens"),
        ({"corrupted": CLEAN}, PAIR, "nothing to recover"),
        ({}, TokenBatch(PAIR.ids[[0, 1, 0]]), "even number"),
        ({}, padded([CLEAN, CORRUPTED[:-1]]), "equally many tokens"),
        ({"noise": (12,)}, PAIR, "no such position"),
        ({"where": "cross"}, PAIR, "is not in this model"),
        ({"stack": "encoder"}, PAIR, "one stack of layers"),
    ],
)
def test_what_cannot_be_patched_is_said(settings: dict[str, object], batch: TokenBatch, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Patching(**settings).read(examined("llama"), batch)
