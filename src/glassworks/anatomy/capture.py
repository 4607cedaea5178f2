"""Reading tensors at sites: one pass, only those asked for, the model's numbers untouched."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from glassworks.anatomy.calls import Hooks, hidden_of, stream_of
from glassworks.anatomy.desk import Deferred, Ear
from glassworks.anatomy.examined import Examined
from glassworks.anatomy.places import Anatomy, module_at
from glassworks.anatomy.showing import byte_words, html_table
from glassworks.anatomy.sites import Site, SiteName, parse_site
from glassworks.anatomy.taps import Taps
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.text import say

# How many sites a short description names.
_EXAMPLES = 3


class Kept:
    """Tensors by canonical site name; those left to be worked out are, once each, when they are looked at."""

    def __init__(self, found: Mapping[str, Tensor | Deferred]) -> None:
        self._found = dict(found)

    def __getitem__(self, name: str) -> Tensor:
        found = self._found[name]
        if isinstance(found, Deferred):
            found = self._found[name] = found.work_out()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Every name with its tensor."""
        return ((name, self[name]) for name in self._found)

    def shapes(self) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
        """Name, shape and number format of every tensor; nothing is worked out for it."""
        return [(name, tuple(found.shape), found.dtype) for name, found in self._found.items()]

    @property
    def bytes(self) -> int:
        """Bytes held; those that several tensors share are counted once."""
        held = [
            t for found in self._found.values() for t in (found.sources if isinstance(found, Deferred) else (found,))
        ]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}.values())


@dataclass(frozen=True, eq=False)
class Activations(Mapping[str, Tensor]):
    """Tensors by site, in any spelling of its name.

    `cache["layers.3.mixer.pattern"]`, `["blocks.3.attn.hook_pattern"]` and `["pattern", 3]` are the same.
    Iterating gives canonical names. `logits` is None after an early stop, `stream` the residual stream at
    which the pass stopped. Patterns are zero in rows and columns of padding. A map that a fused kernel hides is
    recomputed, in float32, when it is first looked at (StrangeModel where it does not give the model's output);
    `attention_errors` holds max |pattern @ v - z| for each map recomputed so far ("layers.3.mixer"). Shapes:
    `Site`.
    """

    anatomy: Anatomy
    batch: TokenBatch
    tensors: Kept | Mapping[str, Tensor]
    modules: frozenset[str]
    logits: Tensor | None
    stream: Tensor | None = None
    attention_errors: Mapping[str, float] = field(default_factory=dict[str, float])

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
            name = key if key in self.tensors else parse_site(cast(SiteName, key), self.anatomy, self.modules).name
        except (GlassworksError, KeyError, AttributeError, TypeError):
            return False
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def _kept(self) -> Kept:
        return self.tensors if isinstance(self.tensors, Kept) else Kept(self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of the tensors kept; those that several sites share are counted once."""
        return self._kept.bytes

    def __repr__(self) -> str:
        examples = [f"{name} {shape}" for name, shape, _ in self._kept.shapes()[:_EXAMPLES]]
        more = [] if len(self) <= _EXAMPLES else ["…"]
        sites = "1 site" if len(self) == 1 else f"{len(self)} sites"
        return f"Activations({sites}, {byte_words(self.bytes)}: {', '.join([*examples, *more]) or '-'})"

    def _repr_html_(self) -> str:
        rows = ((name, shape, str(dtype).removeprefix("torch.")) for name, shape, dtype in self._kept.shapes())
        return html_table((say("site"), say("shape"), say("number format")), rows)


class _Stop(BaseException):
    """Leaves a forward pass early; no library catches a BaseException by accident."""


@dataclass(eq=False)
class _Keeper:
    """What a pass left at each site, with the version of each tensor when it was seen."""

    copies: frozenset[Site]
    device: torch.device | None = None
    """Where all of them shall be, of a model whose layers compute on several."""
    tensors: dict[Site, Tensor | Deferred] = field(default_factory=dict[Site, Tensor | Deferred])
    seen: list[tuple[Site, Tensor, int]] = field(default_factory=list[tuple[Site, Tensor, int]])

    def ear(self, site: Site) -> Ear:
        """A listener that keeps what it hears."""
        return Ear(site, partial(self._keep, site), later=partial(self._keep_for_later, site))

    def _keep(self, site: Site, tensor: Tensor) -> None:
        kept = tensor.detach()
        self.tensors[site] = self.brought(kept.clone() if site in self.copies else kept)
        self.seen.append((site, tensor, tensor._version))

    def _keep_for_later(self, site: Site, deferred: Deferred) -> None:
        work_out = deferred.work_out
        if self.device is not None:
            deferred = replace(deferred, work_out=lambda: self.brought(work_out()))
        self.tensors[site] = deferred.work_out() if site in self.copies else deferred
        self.seen.extend((site, tensor, tensor._version) for tensor in deferred.sources)

    def brought(self, tensor: Tensor) -> Tensor:
        """A tensor where all shall be."""
        return tensor if self.device is None else tensor.to(self.device)

    def overwritten(self) -> frozenset[Site]:
        """Sites whose tensor was changed in place later in the pass.

        Every in-place torch call raises the version.
        """
        return frozenset(site for site, tensor, version in self.seen if tensor._version != version)


def capture(
    subject: Examined, batch: TokenBatch, sites: Sequence[Site], stop_at_layer: int | None = None
) -> Activations:
    """Runs the model once and keeps the tensors at the sites; the logits are the plain model's.

    No gradient is kept.

    Nothing is copied: a kept tensor is the model's own. Only where the model overwrites one in place later in
    the pass (seen by its version counter) is the pass repeated with copies of those. `stop_at_layer=n` leaves
    before layer n.
    """
    passed = _pass(subject, batch, sites, stop_at_layer, frozenset())
    overwritten = passed.keeper.overwritten()
    if overwritten:
        passed = _pass(subject, batch, sites, stop_at_layer, overwritten)
    found = passed.keeper.tensors
    kept = Kept({site.name: _without_padding(site, found[site], batch) for site in sites if site in found})
    return Activations(subject.anatomy, batch, kept, subject.modules, passed.logits, passed.stream, passed.errors)


@dataclass(frozen=True, eq=False)
class _Passed:
    """What one pass left behind; `errors` grows while maps are worked out."""

    keeper: _Keeper
    errors: Mapping[str, float]
    logits: Tensor | None = None
    stream: Tensor | None = None


def _pass(
    subject: Examined, batch: TokenBatch, sites: Sequence[Site], stop: int | None, copies: frozenset[Site]
) -> _Passed:
    keeper = _Keeper(copies, subject.gathered_on)
    ears = [keeper.ear(site) for site in sites]
    with torch.no_grad(), Taps(subject.model, subject.anatomy, subject.desk, ears), Hooks() as hooks:
        errors = subject.desk.errors
        if stop is None:
            return _Passed(keeper, errors, logits=keeper.brought(subject.forward(batch)))
        reached: list[Tensor] = []
        _stop_before(subject, stop, hooks, reached)
        with suppress(_Stop):
            subject.forward(batch)
        return _Passed(keeper, errors, stream=keeper.brought(reached[0]))


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


def _without_padding(site: Site, found: Tensor | Deferred, batch: TokenBatch) -> Tensor | Deferred:
    """A map with zeros where the query or the key is padding."""
    source = batch.read_by_encoder
    queries = source if site.stack else batch
    keys = source if site.stack or site.part == "cross.pattern" else batch
    if not site.is_pattern or (queries.mask is None and keys.mask is None):
        return found
    if isinstance(found, Deferred):
        work_out = found.work_out
        return replace(found, work_out=lambda: _zeroed(work_out(), queries.real, keys.real))
    return _zeroed(found, queries.real, keys.real)


def _zeroed(pattern: Tensor, asked: Tensor, answered: Tensor) -> Tensor:
    both = asked[:, None, :, None] & answered[:, None, None, :]
    return torch.where(both.to(pattern.device), pattern, torch.zeros_like(pattern))
