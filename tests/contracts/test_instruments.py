"""What every instrument owes: it works on any model, reads the same from shared activations, and draws what it stored."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch, capture
from glassworks.core.errors import InvalidInput
from glassworks.evidence.measurements import load_measurements, save_measurements
from glassworks.instruments import INSTRUMENTS, Instrument
from tests.assets import asset
from tests.families import FOUR
from tests.families import subject as examined
from tests.planted.models import induction_head

ASK_WEIGHTS = ("memory_recall", "memory_matrix")  # they ask a two-layer model, not a text
OPERATE = ("patching", "ablation")  # they run the model once for each thing they change
DOES_NOT_FIT = {("bert", "direct_attribution"): "norms come after the sums"}
SPLIT = ("tuned_lens", "linear_probe")  # they train on some documents and measure on others
LOOKS = [kind for kind in INSTRUMENTS.kinds if kind not in ASK_WEIGHTS]
BATCH = TokenBatch(torch.tensor([[5, 9, 5, 9, 17, 30, 5, 9, 17]]))
DOCUMENTS = TokenBatch((torch.arange(54).reshape(6, 9) * 7) % 31)


def batch_for(kind: str) -> TokenBatch:
    return DOCUMENTS if kind in SPLIT else BATCH


def check(instrument: Instrument, subject: Subject, folder: Path) -> None:
    batch = batch_for(instrument.kind)
    measured = instrument.read(subject, batch)
    shared = capture(subject, batch, instrument.sites(subject.anatomy))
    again = instrument.read(subject, batch, shared)
    np.testing.assert_array_equal(measured.values, again.values)
    assert np.isfinite(measured.values).any()
    assert measured.unit
    assert len(measured.to_pandas()) == measured.values.size
    save_measurements(folder, [measured])
    stored = load_measurements(folder)[measured.name]
    fresh = instrument.draw(stored).svg("light", "en")
    assert fresh == instrument.draw(measured).svg("light", "en")
    assert fresh.startswith("<svg")


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.parametrize(
    # One decoder at every turn; the others with the slow tests, a third decoder nightly.
    "family",
    [
        pytest.param(
            family, marks={"llama": (), "neox": (pytest.mark.slow, pytest.mark.nightly)}.get(family, pytest.mark.slow)
        )
        for family in FOUR
    ],
)
def test_it_works_on_public_families_untouched(family: str, kind: str, tmp_path: Path) -> None:
    reason = DOES_NOT_FIT.get((family, kind))
    with nullcontext() if reason is None else pytest.raises(InvalidInput, match=reason):
        check(INSTRUMENTS[kind](), examined(family), tmp_path)


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.slow
def test_it_works_on_a_plain_module(kind: str, tmp_path: Path) -> None:
    check(INSTRUMENTS[kind](), Subject.of(induction_head()), tmp_path)


def test_it_reads_a_matrix_from_a_plain_module(tmp_path: Path) -> None:
    check(INSTRUMENTS["memory_matrix"](), Subject.of(induction_head()), tmp_path)


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.slow
def test_it_works_on_a_real_pretrained_model(kind: str, tmp_path: Path) -> None:
    from glassworks.models.load import load

    subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
    story = "Once upon a time, there was a little girl named Lily."
    texts = [story, "She had a red ball. The dog wanted it.", "It was a sunny day."]
    reading = INSTRUMENTS[kind]().look(subject, texts if kind in SPLIT else story)
    assert reading.save(tmp_path / "figure.svg").stat().st_size > 1000
    assert reading.save(tmp_path / "table.csv").read_text().count("\n") > 5
    assert "<svg" in reading._repr_html_()


@pytest.mark.parametrize("kind", LOOKS)
def test_reading_runs_the_model_once_and_leaves_it_alone(kind: str) -> None:
    model = induction_head()
    subject = Subject.of(model)
    runs: list[int] = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    before = [p.clone() for p in model.parameters()]
    INSTRUMENTS[kind]().read(subject, batch_for(kind))
    handle.remove()
    assert len(runs) == 1 or kind in OPERATE
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_every_instrument_of_the_room_is_on_the_shelf() -> None:
    def children(kind: type[Instrument]) -> Iterable[type[Instrument]]:
        for child in kind.__subclasses__():
            yield child
            yield from children(child)

    assert {c.__name__ for c in children(Instrument)} == {c.__name__ for c in INSTRUMENTS}
