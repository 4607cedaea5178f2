"""Reading tensors at sites: one pass, only those asked for, the model's numbers untouched."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glassworks.anatomy.calls import Hooks, hidden_of, stream_of
from glassworks.anatomy.examined import Examined
from glassworks.anatomy.places import Anatomy, module_at
from glassworks.anatomy.showing import byte_words, html_table
from glassworks.anatomy.sites import Site, SiteName, parse_site
from glassworks.anatomy.taps import Ear, Taps
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.text import say

# How many sites a short description names.
_EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class Activations(Mapping[str, Tensor]):
    """Tensors by site, in any spelling of its name.

    `cache["layers.3.mixer.pattern"]`, `["blocks.3.attn.hook_pattern"]` and `["pattern", 3]` are the same.
    Iterating gives canonical names. `logits` is None after an early stop, `stream` the residual stream at
    which the pass stopped. Patterns are zero in rows and columns of padding; recomputed ones are float32.
    `attention_errors` holds, per layer whose map was recomputed, max |pattern @ v - z|. Shapes: `Site`.
    """

    anatomy: Anatomy
    batch: TokenBatch
    tensors: Mapping[str, Tensor]
    modules: frozenset[str]
    logits: Tensor | None
    stream: Tensor | None = None
    attention_errors: Mapping[int, float] = field(default_factory=dict[int, float])

    def __getitem__(self, key: SiteName) -> Tensor:
        """The tensor at a site; raises UnknownName, or InvalidInput where it was not captured."""
        if isinstance(key, str) and key in self.tensors:
            return self.tensors[key]
        site = parse_site(key, self.anatomy, self.modules)
        if site.name not in self.tensors:
            raise InvalidInput(
                say("{site} was not captured", site=site.name),
                given=", ".join(self.tensors) or "-",
                right=say("name it: run_with_cache(text, names={site})", site=repr(site.name)),
            )
        return self.tensors[site.name]

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # pyright: ignore[reportArgumentType] - any object may be asked for
        except (GlassworksError, KeyError, AttributeError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of the tensors kept; those that several sites share are counted once."""
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self.tensors.values()}
        return sum(storages.values())

    def __repr__(self) -> str:
        examples = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(self.tensors.items())[:_EXAMPLES]]
        more = [] if len(self) <= _EXAMPLES else ["…"]
        sites = "1 site" if len(self) == 1 else f"{len(self)} sites"
        return f"Activations({sites}, {byte_words(self.bytes)}: {', '.join([*examples, *more]) or '-'})"

    def _repr_html_(self) -> str:
        rows = (
            (name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in self.tensors.items()
        )
        return html_table((say("site"), say("shape"), say("number format")), rows)


class _Stop(BaseException):
    """Leaves a forward pass early; no library catches a BaseException by accident."""


@dataclass(eq=False)
class _Keeper:
    """What a pass left at each site, with the version of each tensor when it was seen."""

    copies: frozenset[Site]
    tensors: dict[Site, Tensor] = field(default_factory=dict[Site, Tensor])
    seen: dict[Site, tuple[Tensor, int]] = field(default_factory=dict[Site, tuple[Tensor, int]])

    def ear(self, site: Site) -> Ear:
        """A listener that keeps what it hears."""
        return Ear(site, partial(self._keep, site))

    def _keep(self, site: Site, tensor: Tensor) -> None:
        kept = tensor.detach()
        self.tensors[site] = kept.clone() if site in self.copies else kept
        self.seen[site] = (tensor, tensor._version)

    def overwritten(self) -> frozenset[Site]:
        """Sites whose tensor was changed in place later in the pass.

        Every in-place torch call raises the version.
        """
        return frozenset(site for site, (tensor, version) in self.seen.items() if tensor._version != version)


def capture(
    subject: Examined, batch: TokenBatch, sites: Sequence[Site], stop_at_layer: int | None = None
) -> Activations:
    """Runs the model once and keeps the tensors at the sites; the logits are the plain model's.

    No gradient is kept.

    Nothing is copied: a kept tensor is the model's own. Only where the model overwrites one in place later in
    the pass (seen by its version counter) is the pass repeated with copies of those. `stop_at_layer=n` leaves
    before layer n.
    """
    keeper, logits, stream = _pass(subject, batch, sites, stop_at_layer, frozenset())
    overwritten = keeper.overwritten()
    if overwritten:
        keeper, logits, stream = _pass(subject, batch, sites, stop_at_layer, overwritten)
    tensors = {
        site.name: _without_padding(site, keeper.tensors[site], batch) for site in sites if site in keeper.tensors
    }
    return Activations(
        subject.anatomy,
        batch,
        tensors,
        subject.modules,
        logits,
        stream,
        dict(subject.desk.errors) if any(s.is_attention for s in sites) else {},
    )


def _pass(
    subject: Examined, batch: TokenBatch, sites: Sequence[Site], stop: int | None, copies: frozenset[Site]
) -> tuple[_Keeper, Tensor | None, Tensor | None]:
    keeper = _Keeper(copies)
    ears = [keeper.ear(site) for site in sites]
    with torch.no_grad(), Taps(subject.model, subject.anatomy, subject.desk, ears), Hooks() as hooks:
        if stop is None:
            return keeper, subject.forward(batch), None
        reached: list[Tensor] = []
        _stop_before(subject, stop, hooks, reached)
        with suppress(_Stop):
            subject.forward(batch)
        return keeper, None, reached[0]


def _stop_before(subject: Examined, layer: int, hooks: Hooks, reached: list[Tensor]) -> None:
    depth = subject.anatomy.depth
    layer = layer + depth if layer < 0 else layer
    if not 0 <= layer <= depth:
        raise InvalidInput(
            say("the pass cannot stop at layer {layer}", layer=layer),
            right=say("0 to {last}: the pass leaves before that layer", last=depth),
        )

    def at_entry(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = hidden_of(args, kwargs)
        assert stream is not None
        reached.append(stream.detach())
        raise _Stop

    def at_end(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        stream = stream_of(output)
        assert stream is not None
        reached.append(stream.detach())
        raise _Stop

    if layer < depth:
        hooks.before(module_at(subject.model, subject.anatomy.layers[layer].path), at_entry)
    else:
        hooks.after(module_at(subject.model, subject.anatomy.layers[-1].path), at_end)


def _without_padding(site: Site, tensor: Tensor, batch: TokenBatch) -> Tensor:
    if site.part != "mixer.pattern" or batch.mask is None:
        return tensor
    real = batch.mask.to(tensor.device)
    return torch.where(real[:, None, :, None] & real[:, None, None, :], tensor, torch.zeros_like(tensor))
