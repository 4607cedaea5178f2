"""Direct logit attribution: what each part of the model adds to the logit of a token (Elhage et al. 2021).

The stream before the final norm is a sum: embedding, what each attention (head by head) and each feed-forward adds.
With the scale of the final norm held at what it is at that place, norm and head are one affine map, so a logit is
a sum over the same parts. Norms that follow an attention or a feed-forward (Gemma, OLMo 2) belong to the part; for
its heads their scale is held too. The sum must be the model's own logit: its distance is part of the measurement.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy.calls import Hooks, stream_of
from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy, module_at
from glassworks.anatomy.sites import Site, why_missing
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, Matrix, heatmap
from glassworks.instruments.base import Instrument
from glassworks.instruments.replacing import MOST_NUMBERS
from glassworks.instruments.writers import TOLERANCE, HeldNorm, check_head, column_of, head_writes, token_id

WHOLE, ATTENTION, CROSS, FEEDFORWARD = "whole", "attention", "attention to the source", "feed-forward"
SUM, MODEL, GAP = "sum of parts", "model", "largest gap"
HEAD_BIAS, EMBEDDING, TOKENS, POSITIONS = "bias of norm and head", "embedding", "token embedding", "position embedding"


class DirectAttribution(Instrument):
    """What each head, attention and feed-forward adds to one token's logit, directly (not through later layers)."""

    kind: Literal["direct_attribution"] = "direct_attribution"
    position: int = -1
    """Where the logit is read: a token's number in the sequence, from the end where negative."""
    token: int | str | None = None
    """The token, by id or text; the one that the model puts first when empty."""
    against: int | str | None = None
    """A second token: the figure then shows the difference of the two logits."""
    sequence: int = 0
    """Which sequence of the batch."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """What enters layer 0, what each half layer adds, the mixed values of the heads, and what leaves."""
        _check_sums(anatomy)
        early = [Site(part) for part in ("embed", "positions") if why_missing(Site(part), anatomy) is None]
        parts = ("mixer.z", "mixer.out", "cross.z", "cross.out", "feedforward.out")
        inner = [Site(part, i) for i in range(anatomy.depth) for part in parts]
        has = [site for site in inner if why_missing(site, anatomy) is None]
        return (*early, Site("in", 0), *has, Site("out", anatomy.depth - 1))

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Contributions by place, part and quantity, the sum, the model's own logit, and the largest gap.

        Raises InvalidInput where the model's layers are no sums of their parts (norms after the residual).
        """
        check_head(subject)
        column = column_of(batch, self.sequence, self.position)
        found = self._captured(subject, batch, activations)
        assert found.logits is not None, "the pass went to its end"
        here = _Here(subject, found, self.sequence, column)
        logits = found.logits[self.sequence, column].double().cpu()
        token = int(logits.argmax()) if self.token is None else token_id(subject, self.token)
        against = None if self.against is None else token_id(subject, self.against)
        asked = Asked(token, against)
        readout = HeldReadout.at(subject, here.at(Site("out", subject.anatomy.depth - 1)), asked, logits)
        return _measured(here, readout, list(_parts(here)), asked)

    def draw(self, measurement: Measurement) -> Figure:
        """Layers by heads and halves, layer 0 at the bottom: blue takes away, orange adds."""
        coords = measurement.coords
        shown = coords["quantity"][-1]
        table = measurement.at(quantity=shown)
        layers = [place for place in coords["place"] if str(place).startswith("L")]
        parts = [part for part in coords["part"] if part != WHOLE]
        values = np.array([[table.at(place=place, part=part).values for part in parts] for place in layers[::-1]])
        # Most attentions have no bias: a column of zeros would say nothing.
        used = [column for column in range(len(parts)) if np.nan_to_num(values[:, column]).any()]
        matrix = Matrix(
            values[:, used],
            tuple(str(place) for place in layers[::-1]),
            tuple(_part_name(str(parts[column])) for column in used),
            row_title=say("layer"),
        )
        others = {
            place: float(table.at(place=place, part=WHOLE).values) for place in coords["place"] if place not in layers
        }
        heading = Heading(
            "direct-attribution",
            say("What each part adds to the logit"),
            say(
                "Shown: {measured} ({quantity}). Heads (and a bias) add up to their attention; layer 0 is at the bottom. Embedding {embedding}, bias of norm and head {bias}; everything together {total}, the model's own {own}, largest gap {gap}.",
                measured=measurement.says,
                quantity=_quantity_name(str(shown)),
                embedding=f"{sum(value for place, value in others.items() if 'embedding' in str(place)):.2f}",
                bias=f"{others[HEAD_BIAS]:.2f}",
                total=f"{others[SUM]:.2f}",
                own=f"{others[MODEL]:.2f}",
                gap=f"{others[GAP]:.1e}",
            ),
        )
        scale = ColourScale(say("share of the logit (nats)"), "diverging", format="z.2f")
        return heatmap(heading, matrix, scale, numbers=matrix.values.size <= MOST_NUMBERS)


@dataclass(frozen=True, eq=False)
class _Here:
    """Captured tensors at one place of one sequence."""

    subject: Subject
    found: Activations
    sequence: int
    column: int

    def has(self, site: Site) -> bool:
        return site.name in self.found.tensors

    def at(self, site: Site) -> Tensor:
        """The vector (of mixed values: one for each head), in the model's precision."""
        tensor = self.found[site.name]
        # Positions are often added from a table without a batch of their own.
        return tensor[self.sequence if tensor.shape[0] > 1 else 0, self.column]

    def exact(self, site: Site) -> Tensor:
        """The same in float64, where parts are added up."""
        return self.at(site).double().cpu()


@dataclass(frozen=True)
class Asked:
    """What is asked of the logits at one place: a token's, its height above their mean, and against a second token's."""

    token: int
    against: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities, in the order of `of`; the last is the one that is drawn."""
        return ("logit", "above mean") if self.against is None else ("logit", "above mean", "against", "difference")

    def of(self, logits: Float[Tensor, " vocabulary"]) -> Float[Tensor, " quantity"]:
        """The quantities of some logits; linear in them."""
        own = logits[self.token]
        found = [own, own - logits.mean()]
        return torch.stack(
            found if self.against is None else [*found, logits[self.against], own - logits[self.against]]
        )


@dataclass(frozen=True, eq=False)
class HeldReadout:
    """Final norm and head as an affine map of the stream: one direction and one bias for each quantity.

    `own` are the model's own values: of its logits, or, where something outside all modules still changes those
    (a cap), of what norm and head give.
    """

    directions: Float[Tensor, "quantity width"]
    biases: Float[Tensor, " quantity"]
    own: Float[Tensor, " quantity"]

    @classmethod
    def at(
        cls, subject: Subject, stream: Float[Tensor, " width"], asked: Asked, logits: Float[Tensor, " vocabulary"]
    ) -> "HeldReadout":
        """The map at one final state of the stream; StrangeModel where what follows the norm is not affine."""
        normed = _normed(subject, stream)
        leaf = normed.detach().clone().requires_grad_()
        with torch.enable_grad():
            values = asked.of(_after_norm(subject, stream, leaf))
            rows = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values]
        directions = torch.stack(rows).double().cpu()
        with torch.no_grad():
            biases = asked.of(_after_norm(subject, stream, torch.zeros_like(normed))).double().cpu()
        read = values.detach().double().cpu()
        terms = directions * normed.double().cpu()
        error = float((terms.sum(-1) + biases - read).abs().max())
        if error > TOLERANCE[normed.dtype] * max(1.0, float(terms.abs().sum(-1).max())):
            raise StrangeModel(
                say("what follows the final norm is not affine, so a logit is no sum of parts"), given=f"{error:.3g}"
            )
        own = asked.of(logits) if subject.anatomy.readout_exact else read
        if subject.anatomy.norm is None:
            return cls(directions, biases, own)
        held = HeldNorm.at(module_at(subject.model, subject.anatomy.norm), stream)
        return cls(held.transposed(directions), biases + directions @ held.bias, own)


def _normed(subject: Subject, stream: Tensor) -> Tensor:
    """The final state after the final norm."""
    if subject.anatomy.norm is None:
        return stream
    with torch.no_grad():
        found = stream_of(module_at(subject.model, subject.anatomy.norm)(stream[None, None]))
    assert found is not None
    return found[0, 0]


def _after_norm(subject: Subject, stream: Tensor, normed: Tensor) -> Float[Tensor, " vocabulary"]:
    """The logits when the final norm gives `normed`, whatever stands around the norm."""
    if subject.anatomy.norm is None:
        return subject.read_stream(normed[None, None])[0, 0]
    with Hooks() as hooks:
        hooks.after(module_at(subject.model, subject.anatomy.norm), lambda *_: normed[None, None])
        return subject.read_stream(stream[None, None])[0, 0]


@dataclass(frozen=True, eq=False)
class _Part:
    """One writer: where it stands, which part it is, what it adds; a piece of another part names the whole."""

    place: str
    part: str
    vector: Float[Tensor, " width"]
    piece_of: str = ""


def _parts(here: _Here) -> Iterator[_Part]:
    """Everything that the final state is the sum of, and the heads of each attention besides."""
    yield from _early(here)
    for index, places in enumerate(here.subject.anatomy.layers):
        cross = places.cross.path if places.cross is not None else None
        for kind, whole, holder in (("mixer", ATTENTION, places.mixer), ("cross", CROSS, cross)):
            added = Site(f"{kind}.out", index)
            if here.has(added):
                yield _Part(f"L{index}", whole, here.exact(added))
                yield from _heads(here, index, kind, holder)
        if here.has(Site("feedforward.out", index)):
            yield _Part(f"L{index}", FEEDFORWARD, here.exact(Site("feedforward.out", index)))


def _heads(here: _Here, layer: int, kind: str, holder: str | None) -> Iterator[_Part]:
    """The pieces of one attention: what each head adds, and its projection's bias; none where they cannot be told."""
    mixed, added = Site(f"{kind}.z", layer), Site(f"{kind}.out", layer)
    if holder is None or not here.has(mixed):
        return
    model, tap = here.subject.model, here.subject.anatomy.layers[layer].taps[added.part]
    writes = head_writes(module_at(model, holder), module_at(model, tap.path), here.at(mixed), here.at(added))
    if writes is None:
        return
    whole, letter = (ATTENTION, "H") if kind == "mixer" else (CROSS, "X")
    for head, vector in enumerate(writes.heads):
        yield _Part(f"L{layer}", f"{letter}{head}", vector, piece_of=whole)
    yield _Part(f"L{layer}", f"{whole}, bias", writes.bias, piece_of=whole)


def _early(here: _Here) -> list[_Part]:
    """Token and position embedding apart where the stream begins as their sum."""
    start = here.exact(Site("in", 0))
    names = ((Site("embed"), TOKENS), (Site("positions"), POSITIONS))
    known = [_Part(name, WHOLE, here.exact(site)) for site, name in names if here.has(site)]
    if len(known) == len(names) and known[0].vector.shape == start.shape == known[1].vector.shape:
        total = known[0].vector + known[1].vector
        if float((total - start).abs().max()) <= TOLERANCE[torch.float32] * float(start.abs().max()):
            return known
    return [_Part(EMBEDDING, WHOLE, start)]


def _measured(here: _Here, readout: HeldReadout, parts: list[_Part], asked: Asked) -> Measurement:
    """The table of contributions, after the check that they sum to what the model says."""
    shares = {(part.place, part.part): (readout.directions @ part.vector).numpy() for part in parts}
    outer = [(part.place, part.part) for part in parts if not part.piece_of]
    total = sum((shares[key] for key in outer), start=readout.biases.numpy())
    gap = np.abs(total - readout.own.numpy())
    for whole in {(part.place, part.piece_of) for part in parts if part.piece_of}:
        inner = sum(shares[part.place, part.part] for part in parts if (part.place, part.piece_of) == whole)
        gap = np.maximum(gap, np.abs(inner - shares[whole]))
    _check_gap(here, gap, shares)
    layers = [f"L{index}" for index in range(here.subject.anatomy.depth)]
    for place in layers:
        mine = [shares[key] for key in outer if key[0] == place]
        shares[place, WHOLE] = np.sum(mine, axis=0) if mine else np.zeros(len(asked.names))
    last = {HEAD_BIAS: readout.biases.numpy(), SUM: total, MODEL: readout.own.numpy(), GAP: gap}
    shares |= {(place, WHOLE): value for place, value in last.items()}
    early = [place for place, _ in outer if place not in layers]
    places = (*early, *layers, *last)
    seen = dict.fromkeys(part.part for part in parts if part.place in layers)
    # Heads first, for they add up to what follows them.
    pieces = [part.part for part in parts if part.piece_of]
    names = (WHOLE, *dict.fromkeys((*pieces, *seen)))
    nothing = np.full(len(asked.names), np.nan)
    labels = [here.subject.labels([token])[0] for token in (asked.token, asked.against) if token is not None]
    says = say(
        "what each part adds to the logit of “{token}” at position {position}", token=labels[0], position=here.column
    )
    if len(labels) > 1:
        says = say("{what}, against “{other}”", what=says, other=labels[1])
    return Measurement(
        name="direct_attribution",
        says=says,
        values=np.array([[shares.get((place, name), nothing) for name in names] for place in places]),
        dims=("place", "part", "quantity"),
        coords={"place": places, "part": names, "quantity": asked.names},
        unit="nats",
        caveats=(
            say("Direct contributions only: what a part does through later layers is not in its share."),
            *here.subject.anatomy.notes,
        ),
        columns={
            "place": "embedding, layer, or a sum; heads (H, of the attention to a source X) and bias are pieces of an attention",
            "quantity": "the token's logit; the same above the mean of all logits; a second token's; the difference",
        },
    )  # fmt: skip


def _check_sums(anatomy: Anatomy) -> None:
    """InvalidInput where a norm follows each residual sum, so that no part is still there at the end."""
    if any(not layer.mid_is_sum or (layer.cross and not layer.cross.mid_is_sum) for layer in anatomy.layers):
        raise InvalidInput(
            say("direct attribution does not fit this model: its norms come after the sums, so its stream is no sum of parts"),
            right=say("a model with norms before attention and feed-forward; patching and ablation fit this one"),
        )  # fmt: skip


def _check_gap(here: _Here, gap: np.ndarray, shares: dict[tuple[str, str], np.ndarray]) -> None:
    largest = max(1.0, float(np.sum([np.abs(value) for value in shares.values()], axis=0).max()))
    allowed = TOLERANCE[here.at(Site("in", 0)).dtype] * largest
    if not float(gap.max()) <= allowed:
        raise StrangeModel(
            say("the parts that were seen do not add up to the model's logit: something else writes into its stream"),
            given=say("a gap of {gap}, allowed {allowed}", gap=f"{gap.max():.3g}", allowed=f"{allowed:.3g}"),
        )


def _part_name(part: str) -> Text | str:
    match part:
        case "attention":
            return say("attention")
        case "feed-forward":
            return say("feed-forward")
        case "attention to the source":
            return say("attention to the source")
        case "attention, bias":
            return say("attention, bias")
        case "attention to the source, bias":
            return say("attention to the source, bias")
        case _:
            return part


def _quantity_name(quantity: str) -> Text:
    match quantity:
        case "difference":
            return say("difference of the two logits")
        case _:
            return say("above the mean of all logits")
