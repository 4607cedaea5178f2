"""The walk through one pass: every number is made again from those that it names, in every family at hand."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, Literal

import pytest

from glassworks.studio.frames import decode, encode
from glassworks.studio.questions import QUESTIONS
from tests.assets import gallery_model


def test_every_question_of_the_walk_is_on_the_shelf() -> None:
    asked = {
        "walk": {},
        "walk_beginning": {},
        "walk_layer": {"layer": 1},
        "walk_head": {"layer": 1, "head": 2},
        "walk_end": {"position": 3},
        "walk_number": {"site": "layers.0.mixer.scores", "index": [0, 1, 1]},
    }
    for kind, given in asked.items():
        question = QUESTIONS.parse({"kind": kind, "model": "bundled/duet", "text": "a"} | given)
        assert QUESTIONS.parse(question.to_json()) == question


MODELS = {
    "stories260k": "Once upon a time there was a little girl. Once upon a time",
    "gpt-nano-sort": "0 2 1 0 1 2",
    "bert-tiny": "The cat sat on the mat.",
    "minilm": "The cat sat on the mat.",
    # Its decoder writes as many tokens as it reads here, so that neither is taken for the other.
    "t5-title": "The cat sat on the mat because it was tired.",
}


@cache
def subject_of(name: str) -> Any:
    from glassworks.models.load import load

    return load(gallery_model(name), device="cpu", dtype="float32")


def graph_for(name: str) -> Any:
    import torch

    from glassworks.studio.walk.graph import graph_of, prefix_of

    subject = subject_of(name)
    with torch.no_grad():
        graph = graph_of(subject, MODELS[name])
        stacks: tuple[Literal["", "encoder"], ...] = ("", "encoder") if subject.anatomy.encoder else ("",)
        for stack in stacks:
            for number in range(len(graph.made.layers(stack))):
                assert graph.has(f"{prefix_of(stack, number)}out")
    return graph


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_part_is_explained_and_each_number_agrees_with_the_models_own(name: str) -> None:
    from glassworks.studio.walk.card import card
    from glassworks.studio.walk.shown import unravelled

    graph = graph_for(name)
    chance = random.Random(7)
    for part in list(graph.parts.values()):
        index = unravelled(chance.randrange(part.tensor.numel()), part.tensor.shape)
        found = card(graph, part.name, index)
        assert found["known"], part.name
        assert found["agrees"], (part.name, index, found["value"], found["recomputed"])
        total = sum(term["value"] for term in found["terms"]) + found["rest"]
        if found["kind"] in ("linear", "dots", "mix", "sum", "turn") and found["terms"]:
            bias = sum(one["value"] for one in found["numbers"] if str(one["name"]) == "bias")
            assert total + bias == pytest.approx(found["recomputed"], rel=1e-9, abs=1e-9), part.name


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_lines_of_a_card_compute_its_number_when_they_are_run(name: str) -> None:
    import torch
    from torch.nn import functional as F

    from glassworks.studio.walk.card import card
    from glassworks.studio.walk.shown import unravelled

    graph = graph_for(name)
    subject = subject_of(name)
    chance = random.Random(3)
    parts = [part for part in graph.parts.values() if ".0." in part.name or "." not in part.name]
    for part in parts:
        index = unravelled(chance.randrange(part.tensor.numel()), part.tensor.shape)
        found = card(graph, part.name, index)
        assert found["code"], part.name
        names: dict[str, Any] = {
            "subject": subject,
            "model": subject.model,
            "text": graph.made.batch,
            "F": F,
            "torch": torch,
        }
        with torch.no_grad():
            exec("\n".join(found["code"]), names)
        if found["value"] is not None:
            assert float(torch.as_tensor(names["y"]).detach()) == pytest.approx(found["value"], rel=1e-3, abs=1e-4), (
                part.name,
                found["code"],
            )


@pytest.mark.slow
def test_sources_lead_from_a_probability_back_to_the_table_of_tokens() -> None:
    from glassworks.studio.walk.card import card

    graph = graph_for("stories260k")
    site, index = "probabilities", (3, 5)
    way = [site]
    for _ in range(60):
        sources = card(graph, site, index)["sources"]
        if not sources:
            break
        site, index = sources[-1]["site"], tuple(sources[-1]["index"])
        way.append(site)
    assert way[-1] == "embed"
    assert {"logits", "norm.out", "layers.4.out"} <= set(way)


@pytest.mark.slow
def test_a_grouped_head_reads_its_shared_key_value_head() -> None:
    import numpy as np

    from glassworks.studio.walk.answers import head

    graph = graph_for("stories260k")
    found = head(graph, "", 1, 5, "mixer", 0)
    assert found["kv_head"] == 2
    again = (found["q"] @ found["k"].T) * found["scale"]
    seen = np.isfinite(found["scores"])
    assert np.allclose(again[seen], found["scores"][seen], atol=1e-4)
    assert np.allclose(found["pattern"] @ found["v"], found["z"], atol=1e-5)
    assert not np.isfinite(found["scores"][0, 1:]).any()


@pytest.mark.slow
def test_chances_and_lens_of_the_last_block_agree() -> None:
    from glassworks.studio.walk.saying import end, lens

    graph = graph_for("stories260k")
    found = end(graph, "", 4, 10)
    assert sum(one["chance"] for one in found["candidates"]) <= 1
    assert found["candidates"][0]["rank"] == 1
    rows = lens(graph, 4)["rows"]
    assert len(rows) == 6
    assert rows[-1]["top"][0]["id"] == found["candidates"][0]["id"]
    assert rows[-1]["top"][0]["chance"] == pytest.approx(found["candidates"][0]["chance"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stack", "kind"),
    [
        ("stories260k", "", "rotary"),
        ("gpt-nano-sort", "", "learned"),
        ("bert-tiny", "", "learned"),
        ("t5-title", "encoder", "bias"),
    ],
)
def test_positions_are_told_as_what_they_are(name: str, stack: Literal["", "encoder"], kind: str) -> None:
    from glassworks.studio.walk.answers import beginning, overview

    graph = graph_for(name)
    assert overview(graph, stack)["positions"] == kind
    assert beginning(graph, stack, 0)["positions"]["kind"] == kind


@pytest.mark.slow
def test_a_long_text_is_shown_in_windows_and_read_up_to_the_context() -> None:
    from glassworks.studio.walk.answers import layer, overview
    from glassworks.studio.walk.graph import graph_of

    subject = subject_of("stories260k")
    graph = graph_of(subject, "There was a cat. " * 300)
    found = overview(graph, "")
    assert found["cut"]
    assert len(found["tokens"]) == subject.anatomy.context
    shown = layer(graph, "", 0, 130)
    assert shown["window"] == {"start": 128, "end": 192, "count": 512, "size": 64}
    assert shown["tensors"]["in"].shape == (64, 64)
    assert shown["maps"].shape == (8, 64, 64)


@pytest.mark.slow
def test_what_cannot_be_walked_is_refused_with_the_reason() -> None:
    from glassworks.core.errors import InvalidInput, UnknownName
    from glassworks.studio.walk.answers import head, layer
    from glassworks.studio.walk.card import card
    from glassworks.studio.walk.graph import graph_of

    graph = graph_for("gpt-nano-sort")
    for refused in (
        lambda: layer(graph, "", 9, 0),
        lambda: head(graph, "", 0, 7, "mixer", 0),
        lambda: card(graph, "embed", (0, 4000)),
        lambda: graph_of(subject_of("gpt-nano-sort"), "words"),
        lambda: graph_of(subject_of("stories260k"), ""),
    ):
        with pytest.raises(InvalidInput):
            refused()
    with pytest.raises(UnknownName):
        card(graph, "layers.0.mixer.nothing", (0, 0))


@pytest.mark.slow
def test_an_answer_travels_as_a_frame() -> None:
    from glassworks.studio.walk.answers import layer

    graph = graph_for("gpt-nano-sort")
    found = decode(encode(layer(graph, "", 1, 0), "zh"))
    assert found["tensors"]["mixer.in"].shape == (6, 48)
    assert found["norms"]["mixer.in"]["kind"] == "layer"
    assert found["curve"]["name"] == "GELU (tanh)"


def tiny(family: str) -> Any:
    """A model of a family with random weights and odd sizes."""
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    grouped: dict[str, Any] = sizes | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
    own: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = {
        "qwen3": lambda: transformers.Qwen3Config(**grouped, **own, head_dim=8),
        "gemma3": lambda: transformers.Gemma3TextConfig(**grouped, **own, head_dim=8),
        "neox": lambda: transformers.GPTNeoXConfig(**sizes, **own, intermediate_size=48),
        "phi3": lambda: transformers.Phi3Config(**grouped, **own),
        "falcon": lambda: transformers.FalconConfig(**sizes, **own, new_decoder_architecture=False, multi_query=True),
        "bloom": lambda: transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, **own),
    }[family]()
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3", "neox", "phi3", "falcon", "bloom"])
def test_families_that_nobody_named_are_explained_whole(family: str) -> None:
    import torch

    from glassworks.anatomy import Subject
    from glassworks.studio.walk.card import card
    from glassworks.studio.walk.graph import graph_of
    from glassworks.studio.walk.shown import unravelled

    with torch.no_grad():
        subject = Subject.of(tiny(family))
        graph = graph_of(subject, "5 9 5 30 7 9 5")
        assert graph.has("layers.0.out")
        assert graph.has("layers.1.out")
    chance = random.Random(1)
    for part in list(graph.parts.values()):
        found = card(graph, part.name, unravelled(chance.randrange(part.tensor.numel()), part.tensor.shape))
        assert found["known"], part.name
        assert found["agrees"], part.name


@pytest.mark.slow
def test_a_closed_model_takes_its_passes_along() -> None:
    import gc
    import weakref

    from glassworks.anatomy import Subject
    from glassworks.studio.walk.graph import graph_of

    subject = Subject.of(tiny("qwen3"))
    graph = graph_of(subject, "5 9 5 30")
    assert graph.has("layers.1.mixer.pattern")
    assert graph.bytes > 0
    gone = weakref.ref(subject.model), weakref.ref(graph)
    del subject, graph
    gc.collect()
    assert [one() for one in gone] == [None, None]


@pytest.mark.slow
def test_a_pass_that_is_large_is_read_group_by_group_and_lets_the_first_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from glassworks.anatomy import Subject
    from glassworks.studio.walk import passes
    from glassworks.studio.walk.card import card
    from glassworks.studio.walk.graph import graph_of
    from glassworks.studio.walk.saying import lens

    model = Subject.of(tiny("bloom"))
    whole = graph_of(model, "5 9 5 30 7 9")
    value = card(whole, "layers.1.mixer.q", (3, 1, 2))["value"]
    monkeypatch.setattr(passes, "GROUP_BYTES", 1)
    monkeypatch.setattr(passes, "KEPT_GROUPS", 1)
    graph = graph_of(model, "5 9 5 30 7 9 ")
    assert graph.has("layers.0.mixer.q")
    assert card(graph, "layers.1.mixer.q", (3, 1, 2))["value"] == value
    assert "layers.0.mixer.q" not in graph.parts
    assert len(lens(graph, 2)["rows"]) == 3
    assert card(graph, "layers.0.mixer.q", (3, 1, 2))["agrees"]
    assert card(graph, "logits", (3, 1))["agrees"]
