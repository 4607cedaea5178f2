"""What sources give, read into save_pretrained folders: planted weights come back, bit for bit."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from glassworks.core.errors import BrokenFile
from glassworks.models.gallery import GALLERY
from glassworks.models.gallery.onnx import read_onnx
from glassworks.models.gallery.readings import read, read_t5_onnx
from glassworks.models.gallery.tokenizing import begin_texts_with
from glassworks.models.load import load
from tests.assets import gallery_model

IDS = torch.tensor([[0, 5, 6, 7, 8]])
# The names of GGUF and of transformers.
GGUF_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def random_weights(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)


def gguf_file(path: Path) -> LlamaForCausalLM:
    """Writes a tiny Llama in Q4_1 and gives the float model that its integers stand for."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(
        vocab_size=256, num_hidden_layers=2, max_position_embeddings=32, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, **sizes,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    random_weights(model)
    state = dict(model.state_dict())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("toy")
    for add, value in (
        (writer.add_context_length, 32), (writer.add_embedding_length, 64), (writer.add_block_count, 2),
        (writer.add_feed_forward_length, 64), (writer.add_head_count, 2), (writer.add_head_count_kv, 1),
        (writer.add_rope_dimension_count, 32), (writer.add_vocab_size, 256),
    ):  # fmt: skip
        add(value)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|text|>", "<|start|>", "<|end|>", *letters[: 256 - 4], "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3] + [1] * (len(words) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    names |= {f"blk.{n}.{a}": f"model.layers.{n}.{b}" for n in range(2) for a, b in GGUF_NAMES.items()}
    for theirs, ours in names.items():
        weight = state[f"{ours}.weight"]
        if weight.ndim == 1:
            writer.add_tensor(f"{theirs}.weight", weight.numpy())
            continue
        packed = quantize(weight.numpy(), gguf.GGMLQuantizationType.Q4_1)
        state[f"{ours}.weight"] = torch.from_numpy(dequantize(packed, gguf.GGMLQuantizationType.Q4_1))
        if theirs.endswith(("attn_q", "attn_k")):
            packed = quantize(_pairs(state[f"{ours}.weight"]).numpy(), gguf.GGMLQuantizationType.Q4_1)
            state[f"{ours}.weight"] = _halves(torch.from_numpy(dequantize(packed, gguf.GGMLQuantizationType.Q4_1)))
        writer.add_tensor(f"{theirs}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def _pairs(matrix: Tensor) -> Tensor:
    """From rows whose halves are rotated against each other to GGUF's neighbouring pairs."""
    return matrix.unflatten(0, (-1, 2, 16)).transpose(1, 2).flatten(0, 2).contiguous()


def _halves(matrix: Tensor) -> Tensor:
    return matrix.unflatten(0, (-1, 16, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def test_a_gguf_file_becomes_a_folder_with_the_floats_that_its_integers_stand_for(tmp_path: Path) -> None:
    for folder in ("raw", "new"):
        (tmp_path / folder).mkdir()
    expected = gguf_file(tmp_path / "raw" / "toy.gguf")
    read("gguf", tmp_path / "raw", tmp_path / "new")
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert kept.dtype == torch.float32
    assert "quantization_config" not in kept.config.to_dict()
    with torch.no_grad():
        assert torch.equal(kept(IDS).logits, expected(IDS).logits)
        assert torch.equal(load(tmp_path / "raw" / "toy.gguf").model(IDS).logits, expected(IDS).logits)
    begin_texts_with("<|text|>", tmp_path / "new")
    subject = load(tmp_path / "new")
    assert subject.to_str_tokens("ab") == ["<|text|>", "ab"]
    assert subject.to_tokens("ab", prepend_bos=True).tolist() == subject.to_tokens("ab").tolist()


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(BrokenFile, match=r"bad\.gguf"):
        load(tmp_path / "bad.gguf")


def test_what_a_text_begins_with_is_put_there_once_and_not_into_chats(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"<s>": 0, "<t>": 1, "hi": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue] - absent from its stubs
    words.add_special_tokens(["<s>", "<t>"])
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="?")
    made.chat_template = "<s> {% for m in messages %}{{ m.content }}{% endfor %}"
    made.save_pretrained(tmp_path)
    begin_texts_with("<t>", tmp_path)
    begin_texts_with("<t>", tmp_path)
    kept = AutoTokenizer.from_pretrained(tmp_path)
    assert (kept.encode("hi"), kept.encode("hi", add_special_tokens=False)) == ([1, 2], [2])
    assert kept.bos_token_id == 1
    chat = kept.apply_chat_template([{"role": "user", "content": "hi"}], return_dict=False)
    assert chat == [0, 2]
    with pytest.raises(BrokenFile, match="no token <u>"):
        begin_texts_with("<u>", tmp_path)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: NDArray[np.generic], *, is_raw: bool = True) -> bytes:
    kind = {"float32": 1, "uint8": 2, "int8": 3}[str(array.dtype)]
    shape = b"".join(field(1, size) for size in array.shape)
    if is_raw:
        data = field(9, array.tobytes())
    elif kind == 1:
        data = field(4, array.tobytes())
    else:
        data = field(5, b"".join(varint(int(value)) for value in array.ravel()))
    return field(5, shape + field(2, kind) + data + field(8, name))


def node(name: str, *inputs: str) -> bytes:
    return field(1, b"".join(field(1, one) for one in inputs) + field(3, name) + field(4, "MatMulInteger"))


def onnx_file(path: Path, graph: list[bytes]) -> None:
    path.write_bytes(field(1, 8) + field(7, b"".join(graph)) + field(14, b"metadata"))


def test_stored_numbers_of_an_onnx_file_are_read_in_every_form_they_have(tmp_path: Path) -> None:
    numbers = np.array([[-7, 0, 127], [1, -128, 5]], np.int8)
    graph = [
        tensor("w_quantized", numbers),
        tensor("w_scale", np.array(0.5, np.float32), is_raw=False),
        tensor("w_zero_point", np.array(-3, np.int8), is_raw=False),
        tensor("plain", np.array([1.5, -2.0], np.float32)),
        node("/enc/q/MatMul_quant", "x", "w_quantized"),
    ]
    onnx_file(tmp_path / "file.onnx", graph)
    found = read_onnx(tmp_path / "file.onnx")
    assert np.array_equal(found.weight("w"), (numbers.astype(np.float32) + 3) * np.float32(0.5))
    assert found.weight("plain").tolist() == [1.5, -2.0]
    assert found.nodes[0].inputs == ("x", "w_quantized")

    whole = (tmp_path / "file.onnx").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04" + whole, struct.pack("<q", -1)):
        (tmp_path / "file.onnx").write_bytes(damaged)
        with pytest.raises(BrokenFile, match=r"file\.onnx"):
            read_onnx(tmp_path / "file.onnx")


def exported(path: Path, state: dict[str, Tensor], roots: dict[str, str]) -> dict[str, Tensor]:
    """Writes the part of a T5 below each root as an int8 exporter does; gives the floats that it stands for."""
    graph: list[bytes] = []
    kept: dict[str, Tensor] = {}
    count = 0
    for name, weight in state.items():
        root = next((root for root in roots if name.startswith(root)), None)
        if root is None:
            continue
        theirs = roots[root] + name.removeprefix(root)
        if "layer_norm" in name:
            graph.append(tensor(theirs, weight.numpy()))
            kept[name] = weight
            continue
        scale = float(weight.abs().max()) / 127
        numbers = (weight / scale).round().to(torch.int8)
        kept[name] = numbers.float() * np.float32(scale)
        is_product = "embed" not in name and "relative" not in name
        stem = f"onnx::MatMul_{count}" if is_product else theirs
        stored = numbers.t().contiguous() if is_product else numbers
        graph += [
            tensor(f"{stem}_quantized", stored.numpy()),
            tensor(f"{stem}_scale", np.array(scale, np.float32)),
            tensor(f"{stem}_zero_point", np.array(0, np.int8)),
        ]
        if is_product:
            count += 1
            path_of = theirs.removesuffix(".weight").replace(".", "/")
            path_of = path_of.replace("block/", "block.").replace("layer/", "layer.")
            graph.append(node(f"/{path_of}/MatMul_quant", "x", f"{stem}_quantized", "z", f"{stem}_zero_point"))
    onnx_file(path, graph)
    return kept


def test_an_exported_t5_becomes_the_model_that_its_integers_stand_for(tmp_path: Path) -> None:
    config = T5Config(
        vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=3,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
    config.scale_decoder_outputs, config.tie_word_embeddings = False, False
    model = T5ForConditionalGeneration(config).eval()
    random_weights(model)
    state = dict(model.state_dict())
    kept = exported(tmp_path / "encoder.onnx", state, {"encoder.": "enc."})
    kept |= exported(tmp_path / "decoder.onnx", state, {"decoder.": "m.decoder.", "lm_head.": "m.lm_head."})
    shared = kept["encoder.embed_tokens.weight"]
    kept |= {"shared.weight": shared, "decoder.embed_tokens.weight": shared}
    model.load_state_dict(kept)

    read_t5_onnx(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx").save_pretrained(tmp_path / "kept")
    back = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "kept").eval()
    with torch.no_grad():
        for one in (back, read_t5_onnx(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")):
            logits = one(input_ids=IDS, decoder_input_ids=IDS[:, :3]).logits
            assert torch.equal(logits, model(input_ids=IDS, decoder_input_ids=IDS[:, :3]).logits)

    onnx_file(tmp_path / "decoder.onnx", [])
    with pytest.raises(BrokenFile, match="no exported T5"):
        read_t5_onnx(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")


@pytest.mark.slow
def test_smollm2_is_what_the_gallery_says_and_knows_the_capital_of_france() -> None:
    gallery_model("smollm2-135m")
    subject, entry = load("SmolLM2-135M"), GALLERY["smollm2-135m"]
    assert (subject.anatomy.depth, subject.anatomy.width) == (entry.layers[0], entry.width)
    assert subject.parameter_count == entry.parameters
    assert subject.batch("The capital of France is").ids[0, :2].tolist() == [0, 504]
    with torch.no_grad():
        last = subject.forward(subject.batch("The capital of France is"))[0, -1]
    assert subject.to_string([int(last.argmax())]) == " Paris"
    assert any("<|endoftext|>" in str(note) for note in subject.origin.notes)


def test_minilm_puts_like_sentences_together() -> None:
    gallery_model("minilm")
    subject, entry = load("minilm"), GALLERY["minilm"]
    assert subject.parameter_count == entry.parameters
    batch = subject.batch(["A man is eating food.", "Someone is having a meal.", "A stock market crash."])
    with torch.no_grad():
        states = subject.model(batch.ids, attention_mask=batch.real.long()).last_hidden_state
    real = batch.real[..., None].float()
    means = torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)
    assert float(means[0] @ means[1]) == pytest.approx(0.689, abs=0.001)
    assert float((means[:2] @ means[2]).max()) < 0.07


@pytest.mark.slow
def test_the_title_model_writes_a_title() -> None:
    folder = gallery_model("t5-title")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Ran pytest; 3 tests failed in test_auth.py because the token expiry was wrong. Edited auth.py to fix it."
    words = tokenizer(text, return_tensors="pt")
    made = model.generate(**words, max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(made[0], skip_special_tokens=True) == "Fix token expiry bug"
    assert sum(parameter.numel() for parameter in model.parameters()) == GALLERY["t5-title"].parameters
