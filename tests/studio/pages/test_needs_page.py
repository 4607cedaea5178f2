"""What an examination or an operation will need, said before it begins; a large model is opened only when asked to."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from glassworks.studio.questions.desk import bundled_folder
from tests.studio.conftest import Running, running_studio

pytestmark = pytest.mark.slow
LONG = 180_000
ESTIMATE = {
    "parameters": 1_475_520, "weight_bytes": 5_902_080, "library_bytes": 446_000_000, "working_bytes": 1_000_000,
    "peak_bytes": 452_902_080, "processor_seconds": 5.4, "seconds": 17.6,
}  # fmt: skip


def _answering(page: Any, free: int, status: int = 200) -> list[dict[str, Any]]:
    """Answers in the studio's place, so that only the page is tried; the questions that were asked."""
    asked: list[dict[str, Any]] = []
    answer = {"estimate": ESTIMATE, "free_bytes": free, "command": "glassworks surgery duet --estimate"}
    refusal = {"what": "this model cannot be foretold", "given": None, "right": "another", "next": None}

    def handle(route: Any) -> None:
        asked.append(json.loads(route.request.post_data))
        route.fulfill(status=status, json=answer if status == 200 else refusal)

    page.route("**/api/needs", handle)
    return asked


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_surgery_page_says_what_its_plan_will_need_when_asked_by_a_key(
    browser_page: Callable[..., Any], lang: str
) -> None:
    page = browser_page("/surgery#model=bundled/duet&plan=1..0", width=390, height=844, lang=lang)
    asked = _answering(page, free=100_000_000)
    button = page.get_by_role("button", name={"en": "What will it need?", "zh": "需要多少资源？"}[lang])
    expect(button).to_be_visible(timeout=LONG)
    assert asked == [], "nothing is measured before somebody asks"
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("453 MB").first).to_be_visible(timeout=LONG)
    expect(page.get_by_role("alert")).to_be_visible()
    assert (asked[0]["verb"], asked[0]["model"], asked[0]["plan"]) == ("surgery", "bundled/duet", "1..0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_before_a_report_its_need_is_said_at_once_and_a_failure_in_words(chromium: Any, studio: Running) -> None:
    # A page of its own: a browser writes every refusal to its console.
    page = chromium.new_page()
    _answering(page, free=10**10, status=503)
    page.goto(studio.address("/examine#view=report&model=bundled/duet"))
    expect(page.get_by_text("this model cannot be foretold")).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Write the whole report")).to_be_enabled()
    page.close()


@pytest.mark.nightly
def test_a_large_model_is_foretold_and_not_opened_before_one_says_so(chromium: Any, tmp_path: Path) -> None:
    model = _large(tmp_path / "models" / "large")
    (tmp_path / "out").mkdir()
    with running_studio(tmp_path / "out", "--models", str(model.parent)) as studio:
        page = chromium.new_page()
        page.goto(studio.address("/examine#model=folder/large"))
        expect(page.get_by_text("large has 311 M parameters and is not opened yet.")).to_be_visible(timeout=LONG)
        expect(page.get_by_text("needs about").first).to_be_visible(timeout=LONG)
        expect(page.get_by_role("tablist")).to_have_count(0)
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_text("Passport").first).to_be_visible(timeout=LONG)
        page.close()


def _large(folder: Path) -> Path:
    """A model of 311 million zeros, which take no room on the disk."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    for path in bundled_folder().glob("*token*"):
        shutil.copy(path, folder)
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16, vocab_size=3072,
        max_position_embeddings=512, tie_word_embeddings=True, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    header: dict[str, Any] = {}
    end = 0
    for name, parameter in model.named_parameters():
        begin, end = end, end + 4 * parameter.numel()
        header[name] = {"dtype": "F32", "shape": list(parameter.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder
