"""Writes a model as two files: parameters.safetensors with settings and tokenizer inside, and run.py, which needs numpy alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_bytes
from glassworks.core.text import say
from glassworks.models.plain import PlainDecoder, plain_of
from glassworks.models.positions import alibi_slopes
from glassworks.models.streaming import end_tokens
from glassworks.models.text_pieces import Speller
from glassworks.models.two_files.tokens import tokenizer_data
from glassworks.tensors.files import save_tensors

PROGRAM = Path(__file__).with_name("run.py.txt")
PARAMETERS, RUN = "parameters.safetensors", "run.py"


@dataclass(frozen=True)
class TwoFiles:
    """What was written."""

    parameters: Path
    program: Path
    bytes: int
    """Of the parameters."""


def write_two_files(subject: Subject, folder: Path) -> TwoFiles:
    """Writes both files into a folder, each atomically.

    Raises InvalidInput where the program does not run this model, and says which part of it is out of the ordinary; and
    where something else than two such files stands in the folder.
    """
    _check_folder(folder)
    try:
        plain = plain_of(subject.model)
    except InvalidInput as problem:
        raise InvalidInput(
            say("the program of two files does not run this model: {reason}", reason=problem.what),
            given=type(subject.model).__name__,
            right=problem.right,
        ) from None
    settings = _settings(subject, plain)
    notes = {
        "format": "glassworks.two_files",
        "settings": json.dumps(settings),
        "tokenizer": json.dumps(tokenizer_data(subject.tokenizer, plain.spec.vocabulary)),
    }
    save_tensors(folder / PARAMETERS, _tensors(plain), notes)
    write_bytes(folder / RUN, PROGRAM.read_bytes())
    return TwoFiles(folder / PARAMETERS, folder / RUN, (folder / PARAMETERS).stat().st_size)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise InvalidInput(say("{path} is a file", path=str(folder)), right=say("a folder to write into"))
    # What a killed process left of these two begins with a dot, and is removed when they are written.
    here = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    others = [name for name in here if name not in (PARAMETERS, RUN)]
    if others:
        raise InvalidInput(
            say("{path} holds other files already", path=str(folder)),
            given=", ".join(sorted(others)[:5]),
            right=say("a new folder: a model is two files"),
        )


def _tensors(plain: PlainDecoder) -> dict[str, torch.Tensor]:
    """What the program reads by name; numbers that it does not know are widened to float32."""
    left_out = ("model.embed_positions.weight", *(("lm_head.weight",) if plain.spec.tie_output else ()))
    tensors = {name: tensor for name, tensor in plain.state.items() if name not in left_out}
    if plain.table is not None:
        tensors["positions"] = plain.table[plain.spec.position_offset :]
    known = (torch.float32, torch.bfloat16, torch.float16)
    # Each on its own: several may be views of one, which a file cannot be.
    return {name: (t if t.dtype in known else t.float()).detach().clone() for name, t in tensors.items()}


def _settings(subject: Subject, plain: PlainDecoder) -> dict[str, Any]:
    spec, layers = plain.spec, range(plain.spec.depth)
    return {
        "depth": spec.depth,
        "heads": spec.heads,
        "kv_heads": spec.sizes.kv_heads,
        "head_width": spec.width_of_head,
        "norm": spec.norm,
        "norm_placement": spec.norm_placement,
        "epsilon": spec.norm_epsilon,
        "feedforward": [spec.feedforward_of(layer) for layer in layers],
        "reads_block_input": spec.feedforward_reads == "block_input",
        "positions": spec.positions,
        "longest": plain.longest,
        "turned": spec.width_turned,
        "turned_layers": [spec.rotates(layer) for layer in layers],
        "rotary_base": spec.rotary_base,
        "rotary_scaling": None if spec.rotary_scaling is None else spec.rotary_scaling.to_json(),
        "slopes": alibi_slopes(spec.heads) if spec.positions == "alibi" else None,
        "scales": [spec.sizes_of(layer).scale for layer in layers],
        "head_norms": [spec.query_key_norm if spec.normalises(layer) else "none" for layer in layers],
        "embedding_factor": spec.embedding_factor,
        "residual_factor": spec.residual_factor,
        "limit": spec.stream_limit,
        "beginning": Speller(subject.tokenizer).beginning(),
        "ends": sorted(end_tokens(subject.model)) if isinstance(subject.model, PreTrainedModel) else [],
    }
