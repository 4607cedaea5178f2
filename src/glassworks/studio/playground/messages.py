"""What the page says to the playground, each message a spec; the page's side is web/src/pages/playground/protocol.ts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from glassworks.core.shelf import Shelf
from glassworks.core.spec import Spec

Changes = dict[str, Any]
"""Fields of PlaygroundSettings; read by that spec."""
Which = Literal["a", "b"]
Epoch = Annotated[int, Field(ge=0, le=10**9)]
# What a person can type into a number box and the arithmetic stands.
Weight = Annotated[float, Field(ge=-1e6, le=1e6)]
# The longest step by one press: a hundred thousand epochs take minutes, and a pause ends them.
MOST_STEPS = 100_000
# Samples and batches are learned before anything else is heard.
MOST_SMALL_STEPS = 1000


class Message(Spec):
    """Something that the page says."""


class Open(Message):
    """The first message: settings of A and, where two are compared, of B; or an address of TensorFlow Playground."""

    kind: Literal["open"] = "open"
    settings: Changes = Field(default_factory=dict[str, Any])
    other: Changes | None = None
    hash: Annotated[str, Field(max_length=400_000)] | None = None


class Set(Message):
    """Changed settings of one network or both; what makes the data is always both's."""

    kind: Literal["set"] = "set"
    which: Literal["a", "b", "both"] = "a"
    settings: Changes
    keep: bool = False
    """Other points under the present weights, where the network still fits them: for points painted while it trains."""


class Compare(Message):
    """Opens network B with these differences from A, on the same seed and data; None closes it."""

    kind: Literal["compare"] = "compare"
    settings: Changes | None = None


class Run(Message):
    """Trains until paused."""

    kind: Literal["run"] = "run"


class Pause(Message):
    """Stops training where it is."""

    kind: Literal["pause"] = "pause"


class Step(Message):
    """Pauses, then trains so much."""

    kind: Literal["step"] = "step"
    unit: Literal["sample", "batch", "epoch"] = "epoch"
    count: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 1


class Until(Message):
    """Runs at full speed until an epoch or a loss is reached."""

    kind: Literal["until"] = "until"
    epoch: Epoch | None = None
    loss: Annotated[float, Field(ge=0, le=1e12)] | None = None
    of: Literal["train", "test"] = "train"


class Speed(Message):
    """As fast as it goes, one epoch per frame drawn, or so many epochs a second."""

    kind: Literal["speed"] = "speed"
    mode: Literal["max", "redraw", "rate"]
    rate: Annotated[float, Field(ge=0.1, le=1000)] = 60


class Reset(Message):
    """Epoch 0 with new weights, or with the same."""

    kind: Literal["reset"] = "reset"
    same: bool = False


class Regenerate(Message):
    """New points; the weights stay."""

    kind: Literal["regenerate"] = "regenerate"
    seed: Annotated[str, Field(max_length=200)] = ""


class Back(Message):
    """So many epochs back, for good."""

    kind: Literal["back"] = "back"
    epochs: Epoch = 10


class Scrub(Message):
    """Shows an earlier epoch, or the present again."""

    kind: Literal["scrub"] = "scrub"
    epoch: Epoch | None = None


class Keep(Message):
    """Makes the present of what `scrub` shows."""

    kind: Literal["keep"] = "keep"


class Show(Message):
    """Whose map is sent large; None is the output."""

    kind: Literal["show"] = "show"
    node: Annotated[int, Field(ge=0, le=10_000)] | None = None


class Probe(Message):
    """The point whose way through the network is sent."""

    kind: Literal["probe"] = "probe"
    point: tuple[Weight, Weight] | None = None


class Edit(Message):
    """Writes a weight, or a bias where `from` is missing."""

    kind: Literal["edit"] = "edit"
    which: Which = "a"
    layer: Annotated[int, Field(ge=0, le=100)]
    to: Annotated[int, Field(ge=0, le=1000)]
    # `from` is a word of Python's; on the wire it stays what a link's source is called.
    from_: Annotated[int | None, Field(ge=0, le=1000, alias="from")] = None
    value: Weight


class Ack(Message):
    """A frame was drawn."""

    kind: Literal["ack"] = "ack"
    frame: Annotated[int, Field(ge=0, le=2**53)]


class Code(Message):
    """Asks for a network as a PyTorch program."""

    kind: Literal["code"] = "code"
    which: Which = "a"


class Export(Message):
    """Asks for everything that `import` takes."""

    kind: Literal["export"] = "export"


class Import(Message):
    """Goes on where an export was made."""

    kind: Literal["import"] = "import"
    saved: dict[str, Any]


MESSAGES: Shelf[Message] = Shelf(
    "message", Open, Set, Compare, Run, Pause, Step, Until, Speed, Reset, Regenerate, Back, Scrub, Keep, Show, Probe,
    Edit, Ack, Code, Export, Import,
)  # fmt: skip
