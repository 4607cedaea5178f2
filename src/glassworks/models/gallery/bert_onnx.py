"""An exported BERT (float, or integers with a scale per column) as the BERT of transformers, each number as the export has it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from glassworks.core.errors import BrokenFile
from glassworks.core.text import say
from glassworks.models.gallery.onnx import Graph, Node, read_onnx

_EMBEDDINGS = "embeddings.word_embeddings.weight"
# All MiniLM encoders, of whatever depth, have heads of 32 numbers; a graph of operations does not name them.
HEAD_WIDTH = 32

Floats = NDArray[np.float32]


def read_bert_onnx(path: Path) -> BertModel:
    """The encoder of an `.onnx` file, in float32 and without a pooler; raises BrokenFile where it holds none.

    A matrix is found by the addition of its bias, which keeps its name. What the runtime rounds on the way stays float here.
    """
    graph = read_onnx(path)
    try:
        state = _state(graph)
        model = BertModel(_config(state), add_pooling_layer=False)
        model.load_state_dict({name: torch.from_numpy(numbers.copy()) for name, numbers in state.items()}, strict=True)
    except (KeyError, ValueError, RuntimeError, StopIteration) as problem:
        raise BrokenFile(
            say("{path} holds no exported BERT: {reason}", path=str(path), reason=f"{problem!r}"[:300])
        ) from None
    return model.eval()


def _state(graph: Graph) -> dict[str, Floats]:
    prefix = next(name for name in graph.tensors if _EMBEDDINGS in name).partition(_EMBEDDINGS)[0]
    makers = {output: node for node in graph.nodes for output in node.outputs}
    state: dict[str, Floats] = {}
    for stored in graph.tensors:
        name = stored.removeprefix(prefix).removesuffix("_q")
        if not stored.startswith(prefix) or name.endswith(("_scale", "position_ids")):
            continue
        state[name] = _whole(graph, stored)
        if name.endswith(".bias") and ".LayerNorm." not in name:
            state[name.replace(".bias", ".weight")] = _matrix_beside(stored, graph, makers).T
    return state


def _whole(graph: Graph, stored: str) -> Floats:
    numbers = graph.tensors[stored].astype(np.float32)
    scale = graph.tensors.get(f"{stored.removesuffix('_q')}_scale") if stored.endswith("_q") else None
    return numbers if scale is None else numbers * scale.astype(np.float32)


def _matrix_beside(bias: str, graph: Graph, makers: dict[str, Node]) -> Floats:
    """The stored matrix (input x output) of the product that this bias is added to."""
    added = next(node for node in graph.nodes if bias in node.inputs)
    product = next(makers[name] for name in added.inputs if name != bias)
    known = [_constant(name, graph, makers) for name in product.inputs]
    return next(numbers for numbers in known if numbers is not None)


def _constant(name: str, graph: Graph, makers: dict[str, Node]) -> Floats | None:
    """The value of what depends on stored tensors alone: a tensor, its conversion, its product with a scale; else None."""
    if name in graph.tensors:
        return graph.tensors[name].astype(np.float32)
    node = makers.get(name)
    if node is None or node.operation not in ("Cast", "Mul"):
        return None
    parts = [_constant(part, graph, makers) for part in node.inputs]
    value: Floats = np.ones((), np.float32)
    for part in parts:
        if part is None:
            return None
        value = value * part
    return value


def _config(state: dict[str, Floats]) -> BertConfig:
    vocabulary, width = state[_EMBEDDINGS].shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=sum(name.endswith("intermediate.dense.weight") for name in state),
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=state["embeddings.token_type_embeddings.weight"].shape[0],
    )
    config.architectures = ["BertModel"]
    return config
