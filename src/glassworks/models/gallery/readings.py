"""From what a source gives (a GGUF file, an ONNX pair, a llama2.c file, a folder) to a folder by save_pretrained."""

import io
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from glassworks.core.errors import BrokenFile, InvalidInput, NoSpace
from glassworks.core.files import writing
from glassworks.core.text import say
from glassworks.models.folders import check_folder
from glassworks.models.gallery.bert_onnx import read_bert_onnx
from glassworks.models.gallery.gguf_header import check_gguf
from glassworks.models.gallery.kinds import Reading
from glassworks.models.gallery.onnx import Graph, read_onnx
from glassworks.models.llama2c import read_llama2c, tokenizer_beside
from glassworks.models.min_gpt import read_min_gpt
from glassworks.models.quiet import no_report, no_word_about_ties, quiet_bars
from glassworks.models.taming import tamed

# Of a folder, these are taken along: no pickles, no program code.
KEPT_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def read(reading: Reading, raw: Path, folder: Path) -> None:
    """Fills an empty folder with config, safetensors and tokenizer. Raises BrokenFile, InvalidInput or NoSpace."""
    try:
        with quiet_bars():
            READINGS[reading](raw, folder)
    except SafetensorError as problem:
        # Only writing can fail here, and the library hides the number of the system's error in words.
        raise NoSpace(
            say("cannot write {path}: {reason}", path=str(folder), reason=str(problem)),
            right=say("a folder with free space that you may write to"),
            next_command="glassworks doctor",
        ) from None
    check_folder(folder)


def _gguf(raw: Path, folder: Path) -> None:
    model, tokenizer = read_gguf(_only(raw, "*.gguf"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_gguf(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its weights as the float32 numbers that the quantised ones stand for.

    The library marks such a model as quantised and refuses to save it, though its weights are plain floats
    by then; they move into a fresh model of the same class.
    """
    check_gguf(path)
    address = {"gguf_file": path.name, "local_files_only": True}
    try:
        # The bar of the conversion asks nobody whether it may be drawn.
        with redirect_stderr(io.StringIO()), no_report(), no_word_about_ties():
            found: Any = AutoModelForCausalLM.from_pretrained(
                path.parent, dtype=torch.float32, output_loading_info=True, **address
            )
            loaded, report = found
            tokenizer = tamed(AutoTokenizer.from_pretrained(path.parent, **address))
    except MemoryError:
        raise
    except Exception as problem:  # a GGUF file is anyone's: the library fails wherever it first meets what it lacks
        raise InvalidInput(
            say(
                "transformers cannot read {path}: {reason}",
                path=str(path),
                reason=f"{type(problem).__name__}: {problem}",
            ),
            right=say("a GGUF file of an architecture that transformers can read"),
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise BrokenFile(
            say(
                "{source} lacks {count} weights of its model, such as {name}",
                source=str(path),
                count=len(missing),
                name=missing[0],
            ),
            right=say("a complete checkpoint; nothing was filled in at random"),
        )
    settings = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(name, None)
    config = type(loaded.config).from_dict(settings)
    config.architectures = [type(loaded).__name__]
    config.dtype = torch.float32
    with torch.device("meta"):
        model = type(loaded)(config)
    model = model.to_empty(device="cpu")
    for module in model.modules():
        # Tables outside the checkpoint (rotary frequencies) are computed again.
        model._init_weights(module)
    model.load_state_dict(loaded.state_dict(), strict=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model.eval(), tokenizer


def _gguf_parts(raw: Path, folder: Path) -> None:
    """Parts of one file, put together in the order of their names."""
    parts = sorted(raw.glob("*.gguf.part*"))
    if not parts:
        raise BrokenFile(say("{folder} should hold one {pattern}", folder=str(raw), pattern="*.gguf.part*"), given="-")
    whole = raw / parts[0].name.partition(".part")[0]
    with writing(whole), whole.open("wb") as file:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, file)
            part.unlink()
    _gguf(raw, folder)


def _folder(raw: Path, folder: Path) -> None:
    _copied(KEPT_FILES, raw, folder)


def _copied(patterns: tuple[str, ...], raw: Path, folder: Path) -> None:
    for pattern in patterns:
        for path in sorted(raw.glob(pattern)):
            shutil.copyfile(path, folder / path.name)


def _bert_onnx(raw: Path, folder: Path) -> None:
    read_bert_onnx(_only(raw, "*.onnx")).save_pretrained(folder)
    _copied(_TOKENIZER_FILES, raw, folder)


def _llama2c(raw: Path, folder: Path) -> None:
    path = _only(raw, "stories*.bin")
    model = read_llama2c(path)
    model.save_pretrained(folder)
    tokenizer = tokenizer_beside(path, model.config.vocab_size)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _min_gpt(raw: Path, folder: Path) -> None:
    read_min_gpt(_only(raw, "*model.json")).save_pretrained(folder)


def _title_onnx(raw: Path, folder: Path) -> None:
    read_t5_onnx(raw / "encoder.onnx", raw / "decoder.onnx").save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_file=str(raw / "tokenizer.json"), eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


def read_t5_onnx(encoder: Path, decoder: Path) -> T5ForConditionalGeneration:
    """The T5 of an exported pair (int8 or float); its weights in float32, named by the operations that use them.

    The inputs of each product stay floats here, where the ONNX runtime rounds them to eight bits.
    """
    first, second = read_onnx(encoder), read_onnx(decoder)
    try:
        state = _renamed(first, "enc", "encoder") | _renamed(second, "m.decoder", "decoder")
        state |= {
            "lm_head.weight": _products(second)["m.lm_head"],
            "shared.weight": torch.from_numpy(first.weight(_EMBEDDING)),
        }
        model = T5ForConditionalGeneration(_t5_config(state))
        for stack in (model.encoder, model.decoder):
            stack.set_input_embeddings(model.shared)
        state |= {f"{stack}.embed_tokens.weight": state["shared.weight"] for stack in ("encoder", "decoder")}
        model.load_state_dict(state, strict=True)
    except (KeyError, IndexError, RuntimeError) as problem:
        raise BrokenFile(
            say("{path} holds no exported T5: {reason}", path=str(encoder.parent), reason=f"{problem!r}"[:300]),
        ) from None
    return model.eval()


_EMBEDDING = "enc.embed_tokens.weight"


def _renamed(graph: Graph, theirs: str, ours: str) -> dict[str, torch.Tensor]:
    """Everything below one module of the export, under the name that transformers gives that module."""
    names = {name.removesuffix("_quantized") for name in graph.tensors if name.startswith(f"{theirs}.")}
    wanted = {n for n in names if n.endswith(("layer_norm.weight", "relative_attention_bias.weight"))}
    found = {name: torch.from_numpy(graph.weight(name)) for name in wanted}
    found |= {f"{name}.weight": matrix for name, matrix in _products(graph).items() if name.startswith(f"{theirs}.")}
    return {f"{ours}{name.removeprefix(theirs)}": tensor for name, tensor in found.items()}


def _products(graph: Graph) -> dict[str, torch.Tensor]:
    """Module path -> weight (output x input) of every product with a stored matrix.

    The exporter names a product after its module: `/enc/block.0/layer.0/SelfAttention/q/MatMul`.
    """
    found: dict[str, torch.Tensor] = {}
    for node in graph.nodes:
        path, _, operation = node.name.rpartition("/")
        stored = [name for name in node.inputs if name.startswith("onnx::MatMul_") and name in graph.tensors]
        matrices = [name for name in stored if graph.tensors[name].ndim == 2]
        if operation in ("MatMul", "MatMul_quant") and matrices:
            weight = torch.from_numpy(graph.weight(matrices[0])).t().contiguous()
            found[path.strip("/").replace("/", ".")] = weight
    return found


def _t5_config(state: Mapping[str, torch.Tensor]) -> T5Config:
    def depth(stack: str) -> int:
        return len([n for n in state if n.startswith(f"{stack}.") and n.endswith("SelfAttention.q.weight")])

    first = "encoder.block.0.layer"
    vocabulary, width = state["shared.weight"].shape
    heads = state[f"{first}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    config = T5Config.from_dict(
        {
            "vocab_size": vocabulary,
            "d_model": width,
            "d_kv": state[f"{first}.0.SelfAttention.q.weight"].shape[0] // heads,
            "d_ff": state[f"{first}.1.DenseReluDense.wi_0.weight"].shape[0],
            "num_layers": depth("encoder"),
            "num_decoder_layers": depth("decoder"),
            "num_heads": heads,
            "feed_forward_proj": "gated-gelu",
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "tie_word_embeddings": False,
        }
    )
    # The constructor hears from this only that outputs are not scaled; the head it would tie all the same.
    config.tie_word_embeddings = False
    config.architectures = ["T5ForConditionalGeneration"]
    return config


def _only(raw: Path, pattern: str) -> Path:
    found = sorted(raw.rglob(pattern))
    if len(found) != 1:
        raise BrokenFile(
            say("{folder} should hold one {pattern}", folder=str(raw), pattern=pattern),
            given=", ".join(path.name for path in found) or "-",
        )
    return found[0]


READINGS: Mapping[Reading, Callable[[Path, Path], None]] = {
    "gguf": _gguf,
    "gguf_parts": _gguf_parts,
    "folder": _folder,
    "title_onnx": _title_onnx,
    "bert_onnx": _bert_onnx,
    "llama2c": _llama2c,
    "min_gpt": _min_gpt,
}
