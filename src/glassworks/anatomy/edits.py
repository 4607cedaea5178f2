"""Replacing tensors at sites for the length of a `with`."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from glassworks.anatomy.desk import Ear
from glassworks.anatomy.examined import Examined
from glassworks.anatomy.sites import NameFilter, Site, SiteName, choose_sites
from glassworks.anatomy.taps import Taps


@dataclass(frozen=True)
class HookPoint:
    """What a hook is told beside the tensor: the site; `name` is its canonical spelling."""

    site: Site

    @property
    def name(self) -> str:
        """The canonical name of the site."""
        return self.site.name

    def layer(self) -> int | None:
        """The layer, or None for a site outside the stack."""
        return self.site.layer


HookFunction = Callable[[Tensor, HookPoint], Tensor | None]
Edit = HookFunction | Tensor
E = TypeVar("E", bound=Examined)


@contextmanager
def edited(subject: E, edits: Mapping[SiteName, Edit]) -> Generator[E]:
    """The model with tensors replaced; everything is as before after the `with`.

    Each value is a tensor (of the site's shape, or one that expands to it) or a
    function of (tensor, hook) that returns one, or None to leave it.
    """
    with hooked(subject, list(edits.items())) as same:
        yield same


@contextmanager
def hooked(subject: E, hooks: Sequence[tuple[NameFilter, Edit]]) -> Generator[E]:
    """The same from a list of (name or filter, function) pairs.

    Several at one site act one after the other.
    """
    ears = [_ear(site, edit) for names, edit in hooks for site in choose_sites(names, subject.anatomy, subject.modules)]
    with Taps(subject.model, subject.anatomy, subject.desk, ears):
        yield subject


def _ear(site: Site, edit: Edit) -> Ear:
    if isinstance(edit, Tensor):
        replacement = edit
        return Ear(site, lambda tensor: replacement.to(tensor.device), edits=True)
    function, point = edit, HookPoint(site)
    return Ear(site, lambda tensor: function(tensor, point), edits=True)
