"""One visit of many instruments to one model: every text passes through it once, whoever looks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.kept import KeptActivations
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput, StrangeModel
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Figure
from glassworks.instruments import base
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Fold, Instrument, Reading, pieces, stacked_name
from glassworks.instruments.lens_depth import LensDepth, by_depth
from glassworks.instruments.memory_recall import MemoryMatrix


class Visit:
    """Reads instruments from a shared pass over the pieces of a batch.

    Those that gather see every piece; those that show one sequence the first piece, where it holds that
    sequence; the others read the batch themselves if it has more than one. What `kept` holds is read from the disk, and
    the model runs over later pieces only for what is not there.
    """

    def __init__(
        self,
        subject: Subject,
        batch: TokenBatch,
        instruments: Mapping[str, Instrument],
        kept: KeptActivations | None = None,
    ) -> None:
        self._subject, self._batch, self._instruments, self._kept = subject, batch, instruments, kept
        self.measurements: dict[str, Measurement] = {}
        self.skipped: dict[str, GlassworksError] = {}
        self._folds: dict[str, Fold] = {}
        self._sites: dict[str, tuple[Site, ...]] = {}
        for name, one in instruments.items():
            self._try(name, lambda name=name, one=one: self._prepare(name, one))
        self._first = self._batch
        self._seen: Activations | None = None

    def read(self, tell: Callable[[Text], None]) -> None:
        """Fills `measurements` and `skipped`, in the order of the instruments."""
        self._gather(tell)
        usable = list(self._sites)
        for place, name in enumerate(usable, 1):
            tell(say("reading {instrument} ({done} of {all})", instrument=name, done=place, all=len(usable)))
            self._try(name, lambda name=name: self._measure(name))

    def first_look(self, look: AttentionMaps) -> Reading:
        """Attention maps of the first piece, from what was kept of it."""
        measurement = look.read(self._subject, self._first, self._seen)
        return Reading(measurement, look.draw(measurement))

    def _prepare(self, name: str, one: Instrument) -> None:
        sites = one.sites(self._subject.anatomy)
        fold = one.fold(self._subject)
        if fold is not None:
            self._folds[name] = fold
        self._sites[name] = sites

    def _gather(self, tell: Callable[[Text], None]) -> None:
        """The shared pass: all sites of the first piece, of later ones only what is gathered."""
        count = len(self._batch.ids)
        done = 0
        stored = self._stored()
        for number, piece in enumerate(pieces(self._batch, base.PIECE_TOKENS)):
            tell(say("reading texts ({done} of {all})", done=done, all=count))
            done += len(piece.ids)
            wanted = self._sites if number == 0 else [name for name in self._folds if name not in stored]
            if not wanted:
                break
            seen = capture(self._subject, piece, _union([self._sites[name] for name in wanted]))
            if number == 0:
                self._first, self._seen = piece, seen
            for name, fold in self._folds.items():
                if name not in stored:
                    fold.add(piece, seen)
        if self._kept is not None and stored:
            tell(say("reading what was kept in {folder}", folder=str(self._kept.folder)))
            names = tuple(site.name for site in _union([self._sites[name] for name in stored]))
            for seen in self._kept.pieces(self._subject, base.PIECE_TOKENS, names):
                for name in stored:
                    self._folds[name].add(seen.batch, seen)

    def _stored(self) -> list[str]:
        """The gathering instruments whose sites are all on the disk."""
        kept = self._kept
        if kept is None:
            return []
        return [name for name in self._folds if all(site.name in kept.sites for site in self._sites[name])]

    def _measure(self, name: str) -> None:
        one = self._instruments[name]
        if name in self._folds:
            self.measurements[name] = self._folds[name].measurement()
        elif isinstance(one, LensDepth) and "logit_lens" in self.measurements and one == LensDepth():
            self.measurements[name] = by_depth(self.measurements["logit_lens"])
        else:
            self.measurements[name] = one.read(self._subject, *self._given(one))

    def _given(self, one: Instrument) -> tuple[TokenBatch, Activations | None]:
        """The batch for an instrument that reads it as a whole, with what the shared pass kept of it."""
        sequence = one.to_json().get("sequence")
        is_whole = len(self._first.ids) == len(self._batch.ids)
        if is_whole or (sequence is not None and 0 <= sequence < len(self._first.ids)):
            return self._first, self._seen
        return self._batch, None

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (InvalidInput, StrangeModel) as problem:
            self.skipped[name] = problem


def named_apart(instruments: Sequence[Instrument]) -> dict[str, Instrument]:
    """Instruments by name: their kind and what tells them from others of it."""
    found: dict[str, Instrument] = {}
    for one in instruments:
        plain = name = _name_of(one)
        number = 2
        while name in found:
            name, number = f"{plain}_{number}", number + 1
        found[name] = one
    return found


def drawn(name: str, one: Instrument, measurement: Measurement) -> Figure:
    """The figure under a name that no other instrument of the visit has."""
    figure = one.draw(measurement)
    _, _, number = name.rpartition("_")
    return replace(figure, name=f"{figure.name}-{number}") if name != _name_of(one) else figure


def _name_of(instrument: Instrument) -> str:
    settings = instrument.to_json()
    match instrument:
        case MemoryMatrix(memory=memory):
            return f"{instrument.kind}_{memory}"
        case AttentionMaps(layer=int(layer), head=int(head)):
            name = f"attention_L{layer}H{head}"
        case _:
            name = instrument.kind
    return stacked_name(name, "cross" if settings.get("cross") is True else str(settings.get("stack", "")))


def _union(sites: Sequence[tuple[Site, ...]]) -> list[Site]:
    return list(dict.fromkeys(site for some in sites for site in some))
