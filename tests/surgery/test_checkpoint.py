"""A plan written as a checkpoint is a plain model with the plan's logits."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.models.quiet import quiet_bars
from glassworks.surgery.checkpoint import export_checkpoint
from glassworks.surgery.operate import operated
from glassworks.surgery.plan_files import read_plan
from glassworks.surgery.plans import Plan
from tests.families import tiny

IDS = torch.randint(1, 61, (2, 9), generator=torch.Generator().manual_seed(3))
DEPTH = 6


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "gemma3", "bert"])
@pytest.mark.slow
def test_plain_transformers_load_it_with_the_same_logits(family: str, tmp_path: Path) -> None:
    subject = Subject.of(tiny(family, layers=DEPTH))
    kind = AutoModelForMaskedLM if family == "bert" else AutoModelForCausalLM
    for number, text in enumerate(("0..1 4..5", "0..3 2..5", "0 4 2x2 1 5")):
        plan = Plan.parse(text, DEPTH)
        with operated(subject, plan), torch.no_grad():
            wanted = subject.forward(TokenBatch(IDS))
        with quiet_bars():
            folder = export_checkpoint(subject, plan, tmp_path / str(number))
            plain = kind.from_pretrained(folder).eval()
        assert plain.config.num_hidden_layers == plan.layer_runs
        with torch.no_grad():
            # A cache of its own, as plain code would have it: every execution is a layer now.
            got = plain(IDS).logits
        assert torch.allclose(got, wanted, atol=1e-5), text
        assert read_plan(str(folder / "plan.json")).plan == plan


def test_what_no_checkpoint_can_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    subject = Subject.of(tiny("llama", layers=DEPTH))
    with pytest.raises(InvalidInput, match="parallel stages"):
        export_checkpoint(subject, Plan.parse("0 (1 | 2) 3..5", DEPTH), tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not empty"):
        export_checkpoint(subject, Plan.parse("0..4", DEPTH), tmp_path / "full")
    with pytest.raises(InvalidInput, match="no layer 6"):
        export_checkpoint(subject, Plan.of([0, 6]), tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
