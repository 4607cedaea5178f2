import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import glassworks as gw
from glassworks.core.errors import BrokenFile, InvalidInput, NoSpace, NotFound
from glassworks.mixers import Infini, Linear, Local
from glassworks.mixers.infini import InfiniMemory
from glassworks.models import TransformerSpec, build_model, load_memory
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.memory_files import FORMAT, VERSION, is_bounded, weights_digest
from glassworks.models.streaming import Stream
from glassworks.models.text_pieces import Source
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.seeds import Seed

SPEC = TransformerSpec(
    vocabulary=256, width=16, depth=3, heads=2, kv_heads=1, positions="rotary",
    mixers=(Infini(segment=16), Linear(), Local(segment=8)),
)  # fmt: skip
TEXT = "one two three four five six seven eight nine ten né. "


@pytest.fixture(scope="module")
def model():
    return build_model(SPEC, Seed(0)).eval()


@pytest.fixture
def kept(model, tmp_path):
    """A memory and its file."""
    stream = Stream(model, byte_tokenizer(), piece=41)
    list(stream.read(Source.of_text(TEXT)))
    return stream.memory, stream.memory.save(tmp_path / "folder" / "memory.safetensors")


def test_a_memory_comes_back_from_its_file_as_it_was(model, kept) -> None:
    memory, path = kept
    found = gw.models.load_memory(path, model)
    assert (found.tokens, found.place, found.source) == (memory.tokens, memory.place, memory.source)
    assert (found.nats, found.bytes) == (memory.nats, memory.bytes)
    assert isinstance(found.layers[0], InfiniMemory)
    for one, other in zip(found.layers, memory.layers, strict=True):
        assert type(one) is type(other)
        for name, value in other.__dict__.items():
            assert (
                torch.equal(one.__dict__[name], value)
                if isinstance(value, torch.Tensor)
                else one.__dict__[name] == value
            )
    assert torch.equal(found.upcoming, memory.upcoming)
    assert (found.values, found.size) == (memory.values, memory.size)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        logits = [model(ids, past_key_values=each.cache(), use_cache=True).logits for each in (found, memory)]
    assert torch.equal(*logits)
    # The file is plain safetensors, which any reader opens.
    assert "layers.0.total" in load_file(path)


def test_a_memory_before_the_first_token_can_be_kept_too(model, tmp_path) -> None:
    path = Stream(model, byte_tokenizer()).memory.save(tmp_path / "m.safetensors")
    found = load_memory(path, model)
    assert (found.tokens, found.values, found.upcoming) == (0, 0, None)


def test_a_memory_of_other_weights_is_refused(model, kept) -> None:
    _, path = kept
    other = build_model(SPEC, Seed(1)).eval()
    with pytest.raises(InvalidInput, match="another model"):
        load_memory(path, other)
    # One number less alike is another model, and so is another number format.
    changed = build_model(SPEC, Seed(0)).eval()
    assert weights_digest(changed) == weights_digest(model)
    changed.lm_head.weight.data[0, 0] += 1e-3
    for stranger in (changed, build_model(SPEC, Seed(0), torch.bfloat16)):
        with pytest.raises(InvalidInput, match="another model"):
            load_memory(path, stranger)
    # The same weights with other settings of the mixer are another model too.
    segments = build_model(SPEC.replaced("mixers.0.segment", 32), Seed(0)).eval()
    with pytest.raises(InvalidInput, match="another model"):
        load_memory(path, segments)


def rewritten(path, change) -> None:
    """Writes the file anew with its facts or tensors changed, its checksum made right again."""
    from glassworks.models.memory_files import _checksum

    tensors, metadata = load_tensors(path)
    facts = json.loads(metadata["memory"])
    change(tensors, facts)
    facts["checksum"] = _checksum(tensors)
    save_tensors(path, tensors, metadata | {"memory": json.dumps(facts)})


def test_memories_of_other_shapes_or_kinds_are_refused(model, kept) -> None:
    _, path = kept
    whole = path.read_bytes()

    def wider(tensors, facts):
        tensors["layers.0.total"] = tensors["layers.0.total"].repeat(1, 1, 1, 2)

    def coarser(tensors, facts):
        tensors["layers.0.total"] = tensors["layers.0.total"].half()

    def shorter(tensors, facts):
        tensors["upcoming"] = tensors["upcoming"][:100]

    def exchanged(tensors, facts):
        facts["layers"] = facts["layers"][::-1]

    def fewer(tensors, facts):
        facts["layers"] = facts["layers"][:2]

    for change in (wider, coarser, shorter, fewer):
        rewritten(path, change)
        # The shape checks of the tests refuse some of them before our own check does.
        with pytest.raises((InvalidInput, BrokenFile), match=r"other layers|damaged"):
            load_memory(path, model)
        path.write_bytes(whole)
    for change in (
        exchanged,
        lambda _, facts: facts.pop("place"),
        lambda _, facts: facts["layers"][0].update(kind="X"),
    ):
        rewritten(path, change)
        with pytest.raises(BrokenFile, match="damaged"):
            load_memory(path, model)
        path.write_bytes(whole)


def test_files_that_are_damaged_foreign_or_newer_are_named(model, kept, tmp_path) -> None:
    _, path = kept
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenFile, match="truncated"):
        load_memory(path, model)
    # One byte of a number.
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(BrokenFile, match="damaged"):
        load_memory(path, model)
    path.write_bytes(b"")
    with pytest.raises(BrokenFile):
        load_memory(path, model)
    path.write_text("a text")
    with pytest.raises(BrokenFile):
        load_memory(path, model)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(BrokenFile, match="no memory of a stream"):
        load_memory(path, model)
    save_tensors(path, {"x": torch.zeros(2)}, {"format": FORMAT, "version": str(VERSION + 1)})
    with pytest.raises(BrokenFile, match="another version"):
        load_memory(path, model)
    save_tensors(path, {"x": torch.zeros(2)}, {"format": FORMAT, "version": str(VERSION), "memory": "{}"})
    with pytest.raises(BrokenFile, match="damaged"):
        load_memory(path, model)
    with pytest.raises(NotFound):
        load_memory(tmp_path / "nowhere", model)


def test_a_memory_that_cannot_be_written_leaves_the_former_one(model, kept, tmp_path) -> None:
    memory, path = kept
    with pytest.raises(NoSpace):
        memory.save(path / "below a file")
    assert load_memory(path, model).tokens == memory.tokens
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    shutil.rmtree(path.parent)


def test_which_models_keep_one_size() -> None:
    assert is_bounded(build_model(SPEC, Seed(0)))
    assert not is_bounded(build_model(TransformerSpec(vocabulary=9, width=8, depth=1, heads=2), Seed(0)))
