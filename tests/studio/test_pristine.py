"""A question that is called off midway leaves no trace in the model that it worked on."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.studio.pristine import Pristine
from glassworks.studio.questions.desk import Desk, Places, bundled_folder
from glassworks.surgery import operated
from tests import families


def test_a_plan_and_hooks_that_were_left_in_place_are_taken_out() -> None:
    subject = Subject.of(families.tiny("llama", layers=3))
    ids = torch.tensor([[1, 2, 3, 4]])
    as_opened = Pristine.of(subject.model)
    plain = subject.forward(subject.batch(ids))
    names = [name for name, _ in subject.model.named_modules()]
    subject.model.register_forward_hook(lambda module, args, output: None)
    # Entered and never left, in the middle of a pass: slots stand in the layers' places, a layer owns another's slot.
    operation = operated(subject, "0 (1 | 2)x2 1")
    operation.__enter__()
    subject.generate(ids, 2)
    as_opened.restore()
    assert [name for name, _ in subject.model.named_modules()] == names
    assert not subject.model._forward_hooks
    assert torch.equal(subject.forward(subject.batch(ids)), plain)
    with operated(subject, "2..0") as again:
        cached = again.generate(ids, 3)
        assert torch.equal(cached, again.generate(ids, 3, use_cache=False))


@pytest.mark.slow
def test_a_model_that_was_written_anew_is_opened_anew(tmp_path: Path) -> None:
    shutil.copytree(bundled_folder(), tmp_path / "mine")
    desk = Desk(Places(tmp_path / "out", (tmp_path,)))
    first = desk.subject("folder/mine")
    assert desk.subject("folder/mine") is first
    os.utime(tmp_path / "mine" / "model.safetensors", (2_000_000_000, 2_000_000_000))
    assert desk.subject("folder/mine") is not first
