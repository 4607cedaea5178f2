"""The whole path of a text through a decoder, from tokens to probabilities, as one JSON file and its tensors beside it.

What stands in the files is described in docs/guide/16-word-by-word.md. Every tensor has its site, and each check in `check`
computes a part again from those it was made of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.sites import Site, all_sites, parse_site
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_json, writing
from glassworks.core.text import say
from glassworks.models.candidates import Beholder, Sampling
from glassworks.models.plain import PlainDecoder, plain_of, speeds_of
from glassworks.models.token_bytes import TokenBytes
from glassworks.tensors.files import save_tensors

FORMAT, VERSION = "glassworks.trace", 1
# What the tensors of one trace may take on disk.
MOST_BYTES = 256 << 20
# Largest difference, relative to the largest number of what is compared, that rounding leaves: float32 over some layers.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 5e-2}
LOGIT_ROWS = 64

_STREAM, _HEADS, _MAP = ("position", "width"), ("position", "head", "head_width"), ("head", "query", "key")
_SHARED, _HIDDEN = ("position", "kv_head", "head_width"), ("position", "hidden")
# The dimensions of each part, and the formula by which it comes from others.
PARTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "embed": (_STREAM, "embedding"),
    "positions": (_STREAM, "position_vector"),
    "in": (_STREAM, "stream"),
    "mixer.in": (_STREAM, "norm"),
    "mixer.q": (_HEADS, "query"),
    "mixer.k": (_SHARED, "key"),
    "mixer.v": (_SHARED, "value"),
    "mixer.scores": (_MAP, "scores"),
    "mixer.mask": (("query", "key"), "mask"),
    "mixer.pattern": (_MAP, "weights"),
    "mixer.z": (_HEADS, "head_output"),
    "mixer.out": (_STREAM, "output"),
    "mid": (_STREAM, "residual_mixing"),
    "feedforward.in": (_STREAM, "norm"),
    "feedforward.gate": (_HIDDEN, "gate"),
    "feedforward.up": (_HIDDEN, "up"),
    "feedforward.pre": (_HIDDEN, "hidden_before"),
    "feedforward.post": (_HIDDEN, "hidden"),
    "feedforward.out": (_STREAM, "feedforward"),
    "out": (_STREAM, "residual_feedforward"),
    "norm.out": (_STREAM, "final_norm"),
    "logits": (("position", "token"), "logits"),
    "probabilities": (("position", "token"), "probabilities"),
    "rotation.angles": (("position", "pair"), "angles"),
}
FORMULAS: Mapping[str, str] = {
    "embedding": "x_i = E[token_i]",
    "position_vector": "p_i = P[i]",
    "stream": "x: what the layers before have written, added up",
    "norm": "n = norm(x): (x - mean) / sqrt(variance + e) * g + b, or x / sqrt(mean(x^2) + e) * g",
    "angles": "a_ij = i * base^(-2j / d)",
    "query": "q = turn(W_q n, a), head by head",
    "key": "k = turn(W_k n, a), head by head",
    "value": "v = W_v n, head by head",
    "scores": "s_ij = scale * q_i . k_j + bias_ij for j <= i, else -infinity",
    "mask": "1 where query i may look at key j",
    "weights": "w_ij = exp(s_ij) / sum_j exp(s_ij)",
    "head_output": "z_i = sum_j w_ij v_j",
    "output": "o = W_o [z of head 1, ..., z of head H]",
    "residual_mixing": "m = x + o",
    "gate": "g = W_gate n",
    "up": "u = W_up n",
    "hidden_before": "before the nonlinearity",
    "hidden": "h = f(W_up n), or f(g) * u with a gate",
    "feedforward": "f = W_down h",
    "residual_feedforward": "x' = m + f",
    "final_norm": "n = norm(x of the last layer)",
    "logits": "l = U n",
    "probabilities": "p = softmax(l / temperature)",
}
# Where maps inside a feed-forward are found in models that name them so.
_INSIDE = {"feedforward.gate": "mlp.gate_proj", "feedforward.up": "mlp.up_proj"}


@dataclass(frozen=True)
class Extent:
    """How much of a text is traced."""

    layers: int | None = None
    """The first so many layers; all unless given. The stream and the logits are traced whichever."""
    tokens: int | None = None
    """The first so many tokens; all unless given."""
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True, eq=False)
class Trace:
    """A traced text: plain data and tensors by site, both as they are written."""

    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def holds(self) -> bool:
        """Whether the parts, put together again, give the model's logits."""
        return bool(self.data["check"]["passed"])

    def save(self, path: Path) -> tuple[Path, Path]:
        """Writes `path` and, beside it, the same name with .safetensors; returns both."""
        beside = path.with_suffix(".safetensors")
        if beside == path:
            raise InvalidInput(
                say("a trace is a JSON file with its tensors beside it"), given=str(path), right=say("a name in .json")
            )
        with writing(path):
            # An older trace of this name would otherwise describe tensors that are none of its own.
            path.unlink(missing_ok=True)
        save_tensors(beside, self.tensors, {"format": FORMAT})
        write_json(path, {**self.data, "file": beside.name})
        return path, beside


def trace(
    subject: Subject,
    ids: Sequence[int],
    prompt_tokens: int,
    choice: Sampling | None = None,
    extent: Extent | None = None,
    candidates: int = 10,
) -> Trace:
    """All that happens to these tokens in one pass. Raises InvalidInput where there is nothing to trace or too much of it."""
    choice, extent = choice or Sampling(), extent or Extent()
    ids = list(ids[: extent.tokens])
    for name, given in (("--trace-layers", extent.layers), ("--trace-tokens", extent.tokens)):
        if given is not None and given < 1:
            raise InvalidInput(say("{name} is at least 1", name=name), given=given, right=say("1 or more"))
    shown = min(extent.layers or subject.anatomy.depth, subject.anatomy.depth)
    _check_size(subject, len(ids), shown, extent.most_bytes)
    batch = TokenBatch(torch.tensor([ids]))
    plain = _plain(subject)
    found = capture(subject, batch.to(subject.device), _sites(subject, shown))
    assert found.logits is not None, "the pass went to its end"
    check = _checked(subject, batch, found)
    tensors = _tensors(subject, found, shown, choice, plain)
    data = {
        "format": FORMAT,
        "version": VERSION,
        "model": _model(subject, plain),
        "sampling": choice.to_json(),
        "tokens": _tokens(subject, ids, prompt_tokens),
        "layers": {"shown": shown, "of": subject.anatomy.depth},
        "positions": _positions(subject, plain),
        "tensors": [_entry(name, tensor) for name, tensor in tensors.items()],
        "next": _next(subject, ids, found.logits[0], choice, candidates),
        "formulas": dict(FORMULAS),
        "check": check,
    }
    return Trace(data, tensors)


def _check_size(subject: Subject, tokens: int, layers: int, most: int) -> None:
    """Refuses before anything is computed what would not fit; what a layer takes is known from its sizes."""
    found = subject.anatomy
    width, hidden = found.width, found.feedforward_width or 4 * found.width
    layer = sum(
        tokens * (7 * width + 4 * hidden + (2 * one.heads + 2 * one.kv_heads) * one.head_width)
        + 2 * one.heads * tokens**2
        for one in found.layers[:layers]
    )
    total = 4 * (layer + 3 * tokens * width + 2 * min(tokens, LOGIT_ROWS) * found.vocabulary)
    if total > most:
        raise InvalidInput(
            say("the trace would take {size} MB, more than {most}", size=total >> 20, most=most >> 20),
            given=say("{tokens} tokens, {layers} layers", tokens=tokens, layers=layers),
            right=say("fewer of them: --trace-tokens, --trace-layers"),
        )


def _plain(subject: Subject) -> PlainDecoder | None:
    try:
        return plain_of(subject.model)
    except InvalidInput:
        return None


def _sites(subject: Subject, shown: int) -> list[Site]:
    """All sites of the layers that are shown, and of the others what they write."""
    anatomy = subject.anatomy
    sites = [
        site
        for site in all_sites(anatomy)
        if site.layer is None or site.layer < shown or site.part in ("mixer.out", "feedforward.out", "out")
    ]
    for number in range(shown):
        paths = [f"{anatomy.layers[number].path}.{path}" for path in _INSIDE.values()]
        sites += [parse_site(path, anatomy, subject.modules) for path in paths if path in subject.modules]
    return sites


def _tensors(
    subject: Subject, found: Activations, shown: int, choice: Sampling, plain: PlainDecoder | None
) -> dict[str, Tensor]:
    """What is written, by site: of the shown layers everything, without the dimension of the batch."""
    tensors: dict[str, Tensor] = {}
    inside = {
        f"{subject.anatomy.layers[number].path}.{path}": f"layers.{number}.{part}"
        for number in range(shown)
        for part, path in _INSIDE.items()
    }
    if plain is not None and plain.spec.positions == "rotary":
        places = torch.arange(found.batch.ids.shape[1], dtype=torch.float32)
        tensors["rotation.angles"] = places[:, None] * speeds_of(plain.spec)
    for site in found:
        part = site.split(".")
        if part[0] == "layers" and site not in inside and int(part[1]) >= shown:
            continue
        name = inside.get(site, site)
        if name == "logits":
            continue
        tensors[name] = _one(found[site])
        if name.endswith("mixer.scores"):
            tensors[name.replace("scores", "mask")] = torch.isfinite(tensors[name][0]).to(torch.uint8)
    assert found.logits is not None
    logits = found.logits[0, -LOGIT_ROWS:].float()
    tensors["logits"] = logits
    tensors["probabilities"] = torch.softmax(logits / (choice.temperature or 1.0), -1)
    # The end of one layer is the beginning of the next; a file holds each on its own.
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _one(tensor: Tensor) -> Tensor:
    """The only text of a batch; tables of positions have no batch."""
    return (tensor[0] if tensor.shape[0] == 1 else tensor).float().contiguous()


def _entry(name: str, tensor: Tensor) -> dict[str, Any]:
    parts = name.split(".")
    is_inside = parts[0] == "layers"
    part = ".".join(parts[2:]) if is_inside else name
    dims, formula = PARTS[part]
    return {
        "site": name,
        "layer": int(parts[1]) if is_inside else None,
        "part": part,
        "shape": list(tensor.shape),
        "dims": list(dims),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "formula": formula,
    }


def _model(subject: Subject, plain: PlainDecoder | None) -> dict[str, Any]:
    anatomy, first = subject.anatomy, subject.anatomy.layers[0]
    return {
        "name": subject.origin.name,
        "class": type(subject.model).__name__,
        "parameters": subject.parameter_count,
        "layers": anatomy.depth,
        "width": anatomy.width,
        "heads": first.heads,
        "kv_heads": first.kv_heads,
        "head_width": first.head_width,
        "hidden": anatomy.feedforward_width,
        "vocabulary": anatomy.vocabulary,
        "context": anatomy.context,
        "dtype": str(next(subject.model.parameters()).dtype).removeprefix("torch."),
        "spec": None if plain is None else plain.spec.to_json(),
    }


def _positions(subject: Subject, plain: PlainDecoder | None) -> dict[str, Any]:
    """How a token knows its place; of models that are not known part by part only whether vectors are added."""
    if plain is None:
        return {"kind": "vectors" if subject.anatomy.positions else "inside the layers"}
    found: dict[str, Any] = {"kind": plain.spec.positions}
    if plain.spec.positions == "rotary":
        found |= {"base": plain.spec.rotary_base, "pairs": "(j, j + half)", "speeds": speeds_of(plain.spec).tolist()}
    return found


def _tokens(subject: Subject, ids: Sequence[int], prompt_tokens: int) -> list[dict[str, Any]]:
    spelled, labels = TokenBytes(subject.tokenizer), subject.labels(ids)
    return [
        {
            "position": place,
            "id": token,
            "text": label,
            "bytes": spelled.of(token).hex(),
            "special": token in spelled.special,
            "prompt": place < prompt_tokens,
        }
        for place, (token, label) in enumerate(zip(ids, labels, strict=True))
    ]


def _next(subject: Subject, ids: Sequence[int], logits: Tensor, choice: Sampling, count: int) -> list[dict[str, Any]]:
    """After each token the likeliest next ones; `taken` is the one that follows in the text."""
    beholder = Beholder(choice, TokenBytes(subject.tokenizer), count)
    found: list[dict[str, Any]] = []
    for place in range(len(ids)):
        follows = ids[place + 1] if place + 1 < len(ids) else None
        step = beholder.see(logits[place], int(logits[place].argmax()) if follows is None else follows)
        candidates = [one.to_json() for one in step.candidates]
        for one in candidates:
            one["taken"] = one.pop("chosen") and follows is not None
        found.append({"after": place, "entropy_bits": step.entropy_bits, "candidates": candidates})
    return found


def _checked(subject: Subject, batch: TokenBatch, found: Activations) -> dict[str, Any]:
    """Each part computed again from those before it, and the logits from all that the layers wrote."""
    assert found.logits is not None
    kind = next(subject.model.parameters()).dtype
    with torch.no_grad():
        plain = subject.forward(batch)
    errors = {"logits_of_the_untouched_model": _apart(found.logits, plain)}
    for number, layer in enumerate(subject.anatomy.layers):
        here = f"layers.{number}.mixer."
        if f"{here}pattern" not in found or f"{here}scores" not in found:
            continue
        pattern = found[f"{here}pattern"].float()
        again = torch.softmax(found[f"{here}scores"].float(), -1)
        errors["weights"] = max(errors.get("weights", 0.0), _apart(pattern, again))
        if f"{here}v" in found and f"{here}z" in found:
            values = found[f"{here}v"].float().transpose(1, 2).repeat_interleave(layer.heads // layer.kv_heads, 1)
            z = (pattern @ values).transpose(1, 2)
            errors["head_outputs"] = max(errors.get("head_outputs", 0.0), _apart(found[f"{here}z"].float(), z))
    written = [one for name, one in found.items() if name.endswith(("mixer.out", "feedforward.out"))]
    last = found[f"layers.{subject.anatomy.depth - 1}.out"]
    first = found["layers.0.in"]
    total = first.float() + sum((one.float() for one in written), torch.zeros(()))
    is_sum = _apart(last.float(), total) <= _tolerance(kind)
    # Where norms stand after the sums the stream is no sum of what was written; its last state is read then.
    stream = total.to(last.dtype) if is_sum else last
    with torch.no_grad():
        errors["logits"] = _apart(subject.read_stream(stream), plain)
    return {
        "recomputed": "first stream + all that layers wrote -> final norm -> logits"
        if is_sum
        else "last stream -> final norm -> logits",
        "relative_errors": errors,
        "tolerance": _tolerance(kind),
        "passed": all(error <= _tolerance(kind) for error in errors.values()),
    }


def _tolerance(kind: torch.dtype) -> float:
    return TOLERANCE.get(kind, max(TOLERANCE.values()))


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number; infinity where something is not a number."""
    apart = float((one.float() - other.float()).abs().max() / other.float().abs().max().clamp(min=1e-12))
    return 1e30 if math.isnan(apart) else apart
