"""minGPT weights as JSON (the sorting model of llm-viz), read into transformers' GPT-2."""

import base64
import binascii
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from glassworks.core.errors import BrokenFile
from glassworks.core.files import read_json
from glassworks.core.text import say

# Bytes of the largest file: weights in base 64.
LARGEST = 1 << 31
# minGPT keeps these as Linear (output x input), GPT-2 as Conv1D (input x output).
TURNED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def read_min_gpt(path: Path) -> GPT2LMHeadModel:
    """The model of a JSON file with a `config` and base64 float32 arrays; raises NotFound or BrokenFile."""
    found = read_json(path, LARGEST)
    try:
        table = cast(dict[str, Any], found)
        arrays = {
            name: _tensor(cast(dict[str, Any], entry))
            for name, entry in table.items()
            if name.startswith(("transformer.", "lm_head."))
        }
        model = GPT2LMHeadModel(_config(table["config"], arrays)).eval()
        state = {
            name: (array.t() if name.endswith(TURNED) else array).contiguous()
            for name, array in arrays.items()
            # The causal mask, which GPT-2 makes itself.
            if not name.endswith((".attn.bias", ".attn.masked_bias"))
        }
        model.load_state_dict(state, strict=True)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, binascii.Error) as problem:
        raise BrokenFile(
            say(
                "{path} holds no minGPT model: {reason}",
                path=str(path),
                reason=f"{type(problem).__name__}: {problem}",
            ),
            right=say("JSON with a config and the arrays of a minGPT model"),
        ) from None
    return model


def _config(found: dict[str, Any], arrays: dict[str, Tensor]) -> GPT2Config:
    """The sizes, once the arrays agree: a model is made at once, whatever its sizes claim."""
    for name in ("vocab_size", "block_size", "n_embd", "n_layer", "n_head"):
        if type(found[name]) is not int or found[name] < 1:
            raise ValueError(f"{name} = {found[name]!r}")
    width, tables = found["n_embd"], (("wte", "vocab_size"), ("wpe", "block_size"))
    for table, rows in tables:
        if arrays[f"transformer.{table}.weight"].shape != (found[rows], width):
            raise ValueError(f"{table} of {tuple(arrays[f'transformer.{table}.weight'].shape)}")
    if found["n_layer"] > len(arrays) or width % found["n_head"]:
        raise ValueError(f"n_layer = {found['n_layer']}, n_head = {found['n_head']}")
    return GPT2Config(
        vocab_size=found["vocab_size"],
        n_positions=found["block_size"],
        n_embd=found["n_embd"],
        n_layer=found["n_layer"],
        n_head=found["n_head"],
        activation_function="gelu_new",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )


def _tensor(entry: dict[str, Any]) -> Tensor:
    if entry["dtype"] != "torch.float32":
        raise ValueError(entry["dtype"])
    numbers = np.frombuffer(base64.b64decode(entry["data"]), "<f4").copy()
    return torch.from_numpy(numbers).view(entry["shape"])
