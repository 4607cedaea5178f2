"""The same parameters under other names, told by the names of the modules that hold them."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from glassworks.models.stack import Feedforward

# The library's names of activations, and ours; where it has two for one, the first is the one written.
ACTIVATIONS: dict[str, Feedforward] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
NAMES_OF_ACTIVATIONS: dict[Feedforward, str] = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}

Names = Iterable[tuple[str, str]]
"""Names of modules: the library's, ours."""


def to_our_names(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """The parameters of the named modules under our names; others, which are copies or masks, are left out."""
    return _renamed(state, dict(names))


def to_their_names(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """The parameters of the named modules under the library's names."""
    return _renamed(state, {ours: theirs for theirs, ours in names})


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        if module in names:
            found[f"{names[module]}.{parameter}"] = tensor
    return found
