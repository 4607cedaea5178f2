"""The report of the Infini study: sections as far as measured, the factor derived, both languages."""

from types import SimpleNamespace

import pytest

from glassworks.evidence.claims import Evidence, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini import drawings, story
from glassworks.experiments.infini.claims import CLAIMS
from glassworks.report.page import Page
from glassworks.report.render import render
from tests.experiments.infini.infini_numbers import capacity, drawn, everything, keys, repeats, sizes

STUDY = SimpleNamespace(
    passkey_segment=64,
    depth=3,
    width=128,
    text_steps=200,
    text_batch=4,
    text_length=2048,
    seeds=(0, 1, 2),
    passkey_samples=16,
    longest_samples=4,
)


def alone(*found: Measurement, scale: Scale = Scale.LAPTOP) -> Evidence:
    return Evidence({one.name: one for one in found}, scale)


def page_of(evidence: Evidence) -> Page:
    figures = {figure.name: figure for figure in drawings.draw(evidence)}
    return Page(
        title=story.PARTS[0].title,
        summary=tuple(story.summary(evidence)),
        verdicts=tuple(judge(CLAIMS, evidence)),
        sections=tuple(story.sections(evidence, figures)),
        limits=tuple(story.limits(STUDY)),
    )


def test_every_claim_is_told_in_one_section():
    told = [claim for part in story.PARTS for claim in part.claims]
    assert sorted(told) == sorted(claim.key for claim in CLAIMS)
    assert set(story.HEADLINES) <= set(told)


def test_a_section_stands_for_each_study_and_what_was_not_run_is_left_out():
    whole = page_of(everything(*drawn()))
    assert [section.key for section in whole.sections] == [
        "memory-table-study", "language-study", "gates-study", "passkey-study", "books-study", "capacity-study",
    ]  # fmt: skip
    assert [section.key for section in page_of(alone(capacity(), repeats())).sections] == ["capacity-study"]
    assert page_of(alone()).sections == ()


def test_the_factor_is_derived_from_what_was_measured():
    told = " ".join(text.en for text in page_of(alone(sizes())).sections[0].paragraphs)
    for number in (
        "1,585,152",
        "133,120,000",
        "183,451,648",
        "114.4",
        "115.7",
        "51,916,800",
        "3.5",
        "4.5",
        "15,504",
        "473",
    ):
        assert number in told
    doubled = page_of(alone(sizes({"Infini-Transformer": 3_170_304}))).sections[0].paragraphs
    other = " ".join(text.en for text in doubled)
    assert "57.9" in other


def test_the_summary_begins_with_what_it_is_and_names_what_failed():
    lines = [line.says.en for line in story.summary(everything(keys({"linear, memory off": (0.9, 0.9, 1.0)})))]
    assert lines[0].startswith("Infini-attention reads")
    assert "Of 27 claims, 26 hold" in lines[2]
    assert lines[-1].startswith("With the memory switched off the key is lost. Not found")


def test_undecided_claims_are_not_told_as_findings():
    laptop, smoke = (alone(capacity(), repeats(), scale=scale) for scale in (Scale.LAPTOP, Scale.SMOKE))
    told = [[text.en for text in page_of(found).sections[0].paragraphs] for found in (laptop, smoke)]
    assert [sum("Found" in line for line in lines) for lines in told] == [2, 0]
    assert len(story.summary(smoke)) == 3


def test_limits_say_the_sizes_of_this_study():
    told = " ".join(text.en for text in story.limits(STUDY))
    assert all(
        words in told for words in ("3 layers", "1,638,400 bytes", "3 training seeds", "16 texts", "for 4", "3.5")
    )


@pytest.mark.slow
def test_the_whole_page_is_drawn_in_both_languages():
    page = render(page_of(everything(*drawn())))
    for part in story.PARTS:
        assert f'id="{part.key}"' in page
        assert part.title.zh in page
        assert part.title.zh != part.title.en
    assert page.count("<svg") >= sum(len(part.figures) for part in story.PARTS)
