"""What a look at a model will take, before the model is loaded: memory at the most, and time.

Its config and the headers of its files say how large it is. What is done beside multiplying with its matrices (hooks,
lenses, drawing, writing) is measured: the same work runs on a thin twin, a model of the same kind with the same heads,
vocabulary and text but a few numbers wide, at two small depths, and is carried on to the model's own, step by step. Of
every tensor that is alive there is known how much larger the model's own is. Products are counted there and timed here
in the shapes of the model. Assumed is only the time of opening a tensor of a file.
"""

import ctypes
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.overrides import TorchFunctionMode

from glassworks.anatomy.calls import Hooks
from glassworks.anatomy.places import module_at
from glassworks.anatomy.subject import Subject
from glassworks.core.text import Text
from glassworks.models.announced import THIN_HEAD, Announced
from glassworks.models.placement import Placement
from glassworks.tensors.devices import choose_device
from glassworks.tensors.held import Held
from glassworks.tensors.rates import Seconds, copy_seconds, product_seconds, timed

# Depths of the thin twin; a shallower model is its own twin.
SHALLOW, DEEPER = 2, 6
# Rows for which products are timed; others lie between.
_ROWS = (1, 4, 16, 64, 256, 1024)
# Reading one tensor of a file, beside moving its bytes: opening, naming, placing.
_SECONDS_PER_TENSOR = 0.6e-3
# Blocks of so many bytes are asked of the system one by one and given back at once (M_MMAP_THRESHOLD of the C library):
# freed room that lies between others would count as taken, and what is carried to a depth is told apart by a few MB.
_OWN_BLOCK, _MMAP_THRESHOLD = 1 << 17, -3
# Numbers of a head of the twin: the first for which no width of it is also a length of a text that is read.
_HEADS = (4, 6, 10, 14)

Tell = Callable[[Text], None]
Work = Callable[[Subject, Tell], object]
"""What is done with a subject; it says when a step of it begins."""


@dataclass(frozen=True)
class Need:
    """What a command will take: bytes of weights, of all memory at the most, and seconds, part by part.

    `seconds` is processor time of all threads, `wall` what a clock shows. `parameters` counts shared ones once.
    """

    source: str
    parameters: int
    weights: int
    base: int
    working: int
    parts: dict[str, tuple[float, float]]
    calibration: float

    @property
    def peak_bytes(self) -> int:
        """All memory of the process at the most."""
        return self.base + self.weights + self.working

    @property
    def seconds(self) -> float:
        """Processor time of all threads."""
        return sum(cpu for cpu, _ in self.parts.values())

    @property
    def wall(self) -> float:
        """What a clock shows."""
        return sum(wall for _, wall in self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": self.source, "parameters": self.parameters, "weight_bytes": self.weights,
            "library_bytes": self.base, "working_bytes": self.working, "peak_bytes": self.peak_bytes,
            "processor_seconds": round(self.seconds, 3), "seconds": round(self.wall, 3),
            "parts": {name: {"processor_seconds": round(cpu, 3), "seconds": round(wall, 3)} for name, (cpu, wall) in self.parts.items()},
            "calibration_seconds": round(self.calibration, 2),
        }  # fmt: skip


@dataclass(eq=False)
class _Counts(TorchFunctionMode):
    """Products of a pass through a thin twin: calls of a layer, and of the head, by the number of rows."""

    vocabulary: int
    layers: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    heads: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a torch function; notes the rows of a product with the head's matrix."""
        if func is nn.functional.linear and args[1].shape[0] == self.vocabulary:
            rows = args[0].numel() // args[0].shape[-1]
            self.heads[rows] = self.heads.get(rows, 0) + 1
        return func(*args, **(kwargs or {}))

    def note(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Notes a call of a layer, by texts and positions."""
        shape = next((v.shape for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor) and v.ndim == 3), None)
        if shape is not None:
            place = (int(shape[0]), int(shape[1]))
            self.layers[place] = self.layers.get(place, 0) + 1


@dataclass(frozen=True, eq=False)
class _Run:
    """One run of the work on a thin twin."""

    seconds: Seconds
    counts: _Counts


@dataclass(frozen=True, eq=False)
class _Kind:
    """Twins of a model: how they are begun, in which number format, how many numbers a head has."""

    known: Announced
    begin: Callable[[nn.Module], Subject]
    work: Work
    dtype: torch.dtype
    head: int = THIN_HEAD

    def twin(self, depth: int) -> nn.Module:
        """A thin twin, the same one each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.known.thin(depth, self.head).to(self.dtype)


def estimate(
    known: Announced,
    begin: Callable[[nn.Module], Subject],
    work: Work,
    wanted: tuple[torch.dtype, Placement],
    is_whole: bool = False,
) -> Need:
    """What `work` on the announced model will take; `begin` makes the subject of a twin.

    With `is_whole` the twin has all layers, for work that names them. The peak counts everything this process holds now, so that it is asked for in a process like the one that will work.
    """
    dtype, placement = wanted
    device = choose_device(placement.device)
    begun = np.array(_now())
    depth = known.depth
    depths = (SHALLOW, DEEPER) if depth > DEEPER else (min(SHALLOW, depth), depth)
    depths = (depth, depth) if is_whole else depths
    kind = _Kind(known, begin, work, dtype if device.type == "cpu" else torch.float32)
    warm = _run(kind, depths[0])
    _give_back()
    base = resident_bytes()
    shallow = _run(kind, depths[0])
    deep = shallow if depths[0] == depths[1] else _run(kind, depths[1])
    starting = begun + np.maximum(warm.seconds - shallow.seconds, 0.0)
    per_call = _per_call(kind, depths[0])
    layers, heads = _carried(shallow.counts, deep.counts, depths, depth)
    fixed = _extended(shallow, deep, depths, depth, per_call)
    weights = known.loaded_bytes(dtype, placement)
    parts = {
        "starting": starting,
        "loading": known.tensors * _SECONDS_PER_TENSOR + copy_seconds(known.file_bytes or weights),
        "layers": _layer_seconds(known, layers, dtype, device),
        "head": _head_seconds(known, heads, dtype, device),
        "rest": fixed,
    }
    extra = _extra(kind, shallow.counts, depths, depth)
    working = max(int(extra.max()), known.reading_bytes(dtype))
    found = {name: (float(one[0]), float(one[1])) for name, one in parts.items()}
    spent = float(_now()[0] - begun[0])
    return Need(known.source, known.parameters, weights, base, working, found, spent)


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    return _most_bytes()


def peak_bytes_since(reset: bool = False) -> int:
    """The most memory of this process, since it began or since the last reset; where it cannot be reset, since it began."""
    if reset:
        _give_back()
        _forget_peak()
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return _most_bytes()


def _most_bytes() -> int:
    # Kilobytes, on macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _give_back() -> None:
    """Hands memory that nothing uses back to the system, where the C library can: the next work would fill it unseen."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _run(kind: _Kind, depth: int) -> _Run:
    model = kind.twin(depth)
    counts = _Counts(kind.known.vocabulary)

    def all_of_it() -> None:
        subject = kind.begin(model)
        with counts, Hooks() as hooks:
            hooks.before(module_at(model, subject.anatomy.layers[0].path), counts.note)
            kind.work(subject, lambda _: None)

    return _Run(timed(all_of_it), counts)


def _extra(kind: _Kind, counts: _Counts, depths: tuple[int, int], depth: int) -> Float[np.ndarray, " step"]:
    """Bytes of each step above the libraries and the weights: what a twin takes, and by how much its tensors are larger.

    From here on the C library gives large blocks back at once, which takes time, so that times are measured before.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _OWN_BLOCK)
    lengths = {length for _, positions in counts.layers for length in (positions, positions + 1)}
    kinds = [replace(kind, head=head) for head in _HEADS]
    widths = [kind.known.larger(kind.known.thin(1, one.head), one.head) for one in kinds]
    apart = next((number for number, found in enumerate(widths) if not lengths & set(found)), len(kinds) - 1)
    found = [_held(kinds[apart], one, widths[apart]) for one in dict.fromkeys(depths)]
    taken, wider = ([one[part] for one in found] for part in (0, 1))
    return _steps(taken[0], taken[-1], depths, depth) + _steps(wider[0], wider[-1], depths, depth)


def _held(kind: _Kind, depth: int, larger: dict[int, int]) -> tuple[list[int], list[int]]:
    """Bytes at the most in each step: of a thin twin, and by which the model's own tensors would exceed its."""
    model = kind.twin(depth)
    subject = kind.begin(model)
    taken: list[int] = []
    peak_bytes_since(reset=True)
    before = resident_bytes()
    with Held(larger, [*model.parameters(), *model.buffers()]) as held:

        def step(_: Text | None = None) -> None:
            held.step()
            taken.append(max(0, peak_bytes_since() - before))
            _forget_peak()

        kind.work(subject, step)
        step()
    return taken, held.peaks


def _steps(one: Sequence[int], other: Sequence[int], depths: tuple[int, int], depth: int) -> Float[np.ndarray, " step"]:
    """The bytes of each step at the model's depth; of all together where the steps are others."""
    if len(one) != len(other):
        one, other = [max(one)], [max(other)]
    low, high = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    # More layers never need less: a line that falls is chance.
    return np.maximum(np.maximum(low, high), _line(low, high, depths, depth))


def _per_call(kind: _Kind, depth: int) -> Seconds:
    """One call of one layer of a thin twin, which is what a layer takes beside its products."""
    subject = kind.begin(kind.twin(depth))
    batch = subject.batch([list(range(1, 9))])
    with torch.no_grad():
        subject.forward(batch)
        found = np.min([timed(lambda: subject.forward(batch)) for _ in range(5)], axis=0)
    return found / depth


def _extended(shallow: _Run, deep: _Run, depths: tuple[int, int], depth: int, per_call: Seconds) -> Seconds:
    """Time at the model's depth: what ablation takes grows with the square of the layers, all else with their number."""
    squares = _square(shallow.counts.layers, deep.counts.layers, depths)
    square = sum(squares.values())
    one, other = (run.seconds - square * d * d * per_call for run, d in zip((shallow, deep), depths, strict=True))
    return np.maximum(_line(one, other, depths, depth), 0.0) + square * depth * depth * per_call


def _square(one: dict[Any, int], other: dict[Any, int], depths: tuple[int, int]) -> dict[Any, float]:
    """The part of counts that grows with the square: layer 0 is called once a pass, and ablation makes a pass a layer."""
    low, high = depths
    if low == high:
        return {}
    grown = {place: (other.get(place, 0) - one.get(place, 0)) / (high - low) for place in {*one, *other}}
    return {place: rise for place, rise in grown.items() if rise > 0}


def _carried(
    shallow: _Counts, deep: _Counts, depths: tuple[int, int], depth: int
) -> tuple[dict[tuple[int, int], float], dict[int, float]]:
    """Calls of all layers, and of the head, at the model's depth."""
    passes = {
        place: _line(shallow.layers.get(place, 0), deep.layers.get(place, 0), depths, depth)
        for place in {*shallow.layers, *deep.layers}
    }
    heads = {
        rows: _line(shallow.heads.get(rows, 0), deep.heads.get(rows, 0), depths, depth)
        for rows in {*shallow.heads, *deep.heads}
    }
    return {place: float(count) * depth for place, count in passes.items()}, {r: float(c) for r, c in heads.items()}


def _layer_seconds(
    known: Announced, calls: dict[tuple[int, int], float], dtype: torch.dtype, device: torch.device
) -> Seconds:
    most = max((texts * positions for texts, positions in calls), default=1)
    table = _Table.of(known.matrices, most, dtype, device)
    square = product_seconds([(256, known.width)], 256, dtype, device) / (2 * 256 * 256 * known.width)
    total = np.zeros(2)
    for (texts, positions), count in calls.items():
        attention = 4 * texts * positions * positions * known.width
        total += count * (table.at(texts * positions) + attention * square)
    return total


def _head_seconds(known: Announced, calls: dict[int, float], dtype: torch.dtype, device: torch.device) -> Seconds:
    table = _Table.of([(known.vocabulary, known.width)], max(calls, default=1), dtype, device)
    return sum((count * table.at(rows) for rows, count in calls.items()), np.zeros(2))


@dataclass(frozen=True, eq=False)
class _Table:
    """Time of some products by the number of rows, between those that were measured on a line."""

    rows: tuple[int, ...]
    seconds: Float[np.ndarray, "row clock"]

    @classmethod
    def of(cls, shapes: list[tuple[int, int]], most: int, dtype: torch.dtype, device: torch.device) -> "_Table":
        rows = tuple(r for r in _ROWS if r < most * 4) or (1,)
        return cls(rows, np.array([product_seconds(shapes, r, dtype, device) for r in rows]))

    def at(self, rows: int) -> Seconds:
        last = self.rows[-1]
        if rows > last:
            return self.seconds[-1] * (rows / last)
        return np.array([np.interp(rows, self.rows, column) for column in self.seconds.T])


def _line(one: Any, other: Any, depths: tuple[int, int], depth: int) -> Any:
    """The straight line through two depths, at a third."""
    low, high = depths
    return other if low == high else one + (other - one) * (depth - low) / (high - low)


def _now() -> Seconds:
    return np.array([time.process_time(), _since_start()])


def _since_start() -> float:
    import psutil

    return time.time() - psutil.Process().create_time()


def saved(look: Callable[[Subject, Tell], Any]) -> Work:
    """Work that also writes its findings, into a folder that is thrown away."""

    def work(subject: Subject, tell: Tell) -> None:
        found = look(subject, tell)
        with tempfile.TemporaryDirectory() as folder:
            found.save(Path(folder) / "findings")

    return work
