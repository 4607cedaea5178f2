import math
from pathlib import Path

import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.core.events import EventLog, Progressed
from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.experiments.base import Bench
from glassworks.experiments.infini import measure_passkey as passkey
from glassworks.experiments.infini import workbench
from glassworks.experiments.infini.spec import InfiniAttention
from glassworks.experiments.infini.workbench import Cells, Workbench
from glassworks.mixers import Infini, Mesa
from glassworks.models import TransformerSpec, build_model
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.tasks import Passkey
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import Trained
from glassworks.training.store import History

SEGMENT = 16
TASK = Passkey(length=400, segment=SEGMENT, depth=0.5)
SEVEN = ord("7")


def model_with(mixer: Infini, kv_heads: int = 2) -> GlassworksForCausalLM:
    spec = TransformerSpec(
        vocabulary=256, width=8, depth=2, heads=2, kv_heads=kv_heads, context=64, positions="rotary", mixers=(mixer,)
    )
    return build_model(spec, Seed(1)).eval()


def always_seven(mixer: Infini) -> GlassworksForCausalLM:
    """A model whose first choice is one digit, whatever it reads."""
    model = model_with(mixer)
    assert model.model.norm is not None
    with torch.no_grad():
        for name, parameter in model.model.norm.named_parameters():
            parameter.fill_(1.0 if "bias" in name else 0.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[SEVEN] = 1.0
    return model


def test_a_digit_counts_where_it_is_the_first_choice() -> None:
    texts = TASK.texts(20, Seed(0))
    found = passkey.digits_found(always_seven(Infini(segment=SEGMENT)), texts, SEGMENT)
    assert torch.equal(found, texts.answers == SEVEN)
    assert 0 < int(found.sum()) < found.numel()


# 48 bytes are three segments; with 64 the five answering positions lie in two blocks.
@pytest.mark.parametrize(("write", "block"), [("linear", 48), ("linear", 1000), ("delta", 64)])
def test_a_streamed_text_ends_as_one_that_is_read_whole(write: str, block: int) -> None:
    model, texts = model_with(Infini.parse({"segment": SEGMENT, "write": write})), TASK.texts(2, Seed(0), 386)
    with torch.no_grad():
        whole = model.model(input_ids=texts.between(0, 386).long()).last_hidden_state
    streams = workbench.streams_of(model, texts.blocks(block))
    torch.testing.assert_close(passkey._tail(streams, 5), whole[:, -5:], rtol=1e-4, atol=1e-5)


def test_without_memory_gates_are_closed_and_only_the_last_segments_are_read() -> None:
    model = model_with(Infini(segment=SEGMENT))
    local, closed = passkey.without_memory(model), model_with(Infini(segment=SEGMENT))
    with torch.no_grad():
        for name, parameter in closed.named_parameters():
            if name.endswith("mixer.gate"):
                parameter.fill_(-1e4)
        text = TASK.texts(2, Seed(0)).between(0, 400).long()
        shut, off, on = (m.model(input_ids=text).last_hidden_state for m in (closed, local, model))
    torch.testing.assert_close(off, shut)
    assert (off - on).abs().max() > 0.01
    seen: list[int] = []
    local.model.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    texts = TASK.texts(2, Seed(0))
    found = passkey.digits_found(local, texts, SEGMENT)
    assert sum(seen) < 80
    answers = local.lm_head(off[:, -5:]).argmax(2) == texts.answers
    assert torch.equal(found, answers)


def test_the_share_of_the_needle_is_that_of_the_kernel_weights_in_earlier_segments() -> None:
    texts = TASK.texts(3, Seed(2))
    q, k = torch.zeros(3, 2, 400, 4), torch.zeros(3, 1, 400, 4)
    asking = torch.arange(395, 400)
    earlier = asking // SEGMENT * SEGMENT
    even = passkey._share([(q, k)], texts, SEGMENT)
    # Keys that are all alike are read alike: 59 bytes of all before the segment of each query.
    torch.testing.assert_close(even, (59 / earlier.double()).mean().float().expand(2))
    at = torch.arange(400)
    inside = (at >= texts.places) & (at < texts.places + 59)
    k[~inside[:, None]] = -20.0
    assert (passkey._share([(q[:2], k[:2]), (q[2:], k[2:])], texts, SEGMENT) > 0.999).all()
    # What lies in the segment of the question is not in memory yet.
    last = Passkey(length=400, depth=1.0).texts(3, Seed(2))
    place = int(last.places[0, 0])
    assert place < 330 < place + 59
    part = passkey._share([(q, torch.zeros_like(k))], last, 330)
    torch.testing.assert_close(part, torch.full((2,), (330 - place) / 330))


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_shares_are_those_of_the_queries_and_keys_that_the_mixers_are_given(kv_heads: int) -> None:
    model, texts = model_with(Infini(segment=SEGMENT), kv_heads), TASK.texts(2, Seed(3))
    found = passkey.reading_of_needles(model, texts)
    assert found.shape == (2, 2)
    block = model.model.block(0)
    assert block.input_layernorm is not None
    with torch.no_grad():
        stream = block.input_layernorm(model.model.embed_tokens(texts.between(0, 400).long()))
        q = block.self_attn.q_proj(stream).unflatten(2, (2, 4))
        k = block.self_attn.k_proj(stream).unflatten(2, (kv_heads, 4))
    shares = torch.zeros(2, 2, 5)
    for b in range(2):
        needle = range(int(texts.places[b, 0]), int(texts.places[b, 0]) + 59)
        for h in range(2):
            for i, asking in enumerate(range(395, 400)):
                sigma_q = torch.nn.functional.elu(q[b, asking, h]) + 1
                sigma_k = torch.nn.functional.elu(k[b, : asking // SEGMENT * SEGMENT, h * kv_heads // 2]) + 1
                weights = sigma_k @ sigma_q
                shares[b, h, i] = weights[list(needle)].sum() / weights.sum()
    torch.testing.assert_close(torch.from_numpy(found[0]), shares.mean((0, 2)), rtol=1e-4, atol=1e-6)
    assert not [m for m in model.modules() if m._forward_pre_hooks], "hooks are taken away again"


def test_cells_are_kept_and_made_anew_only_where_something_differs(tmp_path: Path) -> None:
    cells, made = Cells(tmp_path), list[int]()

    def make() -> dict[str, float]:
        made.append(1)
        return {"digits": 0.25}

    assert cells.known(training="a", length=4) is None
    for _ in range(2):
        assert cells.found(make, training="a", length=4) == {"digits": 0.25}
    assert len(made) == 1
    cells.found(make, training="a", length=8)
    assert len(made) == 2
    cells.path(training="a", length=4).write_text('{"found": {"digits"')
    assert cells.found(make, training="a", length=4) == {"digits": 0.25}
    assert len(made) == 3
    for _ in range(2):
        assert math.isnan(cells.found(lambda: {"digits": math.nan}, training="b")["digits"])


@pytest.fixture
def work(tmp_path: Path) -> Workbench:
    """One stage of the recipe, untrained."""
    study = InfiniAttention.at(Scale.SMOKE)
    spec = study.trainings("passkey")["linear/0"]
    assert isinstance(spec.model, TransformerSpec)
    build_model(spec.model, Seed(0)).save_pretrained(tmp_path / "model")
    trained = {"linear/0": Trained(spec, tmp_path / "model", History(), 0.0, reused=True)}
    return Workbench(study, Bench(trained, tmp_path, torch.device("cpu"), EventLog(), "passkey"))


def test_an_interrupted_measuring_goes_on_where_it_was(work: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [passkey.Cell("linear", 0, depth, 512, 2, is_off) for depth in passkey.DEPTHS for is_off in (False, True)]
    first = passkey.read_cells(work, cells[:2])
    read: list[passkey.Cell] = []
    honest = passkey._read_cell

    def noted(bench: Workbench, cell: passkey.Cell, progress: workbench.Progress) -> dict[str, float]:
        read.append(cell)
        return honest(bench, cell, progress)

    heard: list[Progressed] = []
    work.bench.events.listen(lambda event: heard.append(event) if isinstance(event, Progressed) else None)
    monkeypatch.setattr(passkey, "_read_cell", noted)
    found = passkey.read_cells(work, cells)
    assert set(read) == set(cells[2:])
    assert {cell: found[cell] for cell in cells[:2]} == first
    assert heard[-1].done == heard[-1].total == sum(cell.bytes for cell in cells)


def test_texts_of_a_cell_are_those_of_its_depth_and_length(work: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def look(_model: object, texts: passkey.Haystacks, _segment: int, _progress: object) -> torch.Tensor:
        seen.append((texts.length, int(texts.places[0, 0])))
        return torch.tensor([[True, True], [True, False]])

    monkeypatch.setattr(passkey, "digits_found", look)
    cells = [passkey.Cell("linear", 0, depth, 1000, 2) for depth in passkey.DEPTHS]
    found = passkey.read_cells(work, cells)
    room = 1000 - TASK.least
    assert sorted(seen) == [(1000, round(share * room)) for share in (0.02, 0.5, 1.0)]
    assert found[cells[0]] == {"digits": 0.75, "keys": 0.5}


def test_a_mesa_layer_that_refuses_a_text_leaves_its_cell_unmeasured(
    work: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InvalidInput(say("a layer refuses"))

    monkeypatch.setattr(passkey, "digits_found", refuse)
    cell = passkey.Cell("linear", 0, "start", 512, 2)
    with pytest.raises(InvalidInput, match="a layer refuses"):
        passkey.read_cells(work, [cell])
    solving = model_with(Infini(segment=SEGMENT)).config.token_spec.replaced_all({"mixers": [Mesa().to_json()]})
    monkeypatch.setattr(Workbench, "model", lambda *_: build_model(solving, Seed(0)))
    found = passkey.read_cells(work, [cell])[cell]
    assert all(math.isnan(score) for score in found.values())


def test_more_texts_are_read_where_they_cost_nothing() -> None:
    study = InfiniAttention()
    for length in passkey.LENGTHS:
        assert passkey.samples(study, length, "linear, memory off") >= 64
    assert passkey.samples(study, 1024, "linear") == study.passkey_samples
    assert passkey.samples(study, 1_048_576, "delta") == study.longest_samples
