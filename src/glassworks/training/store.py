"""The store: trained models by the digest of their TrainingSpec, shared by all experiments.

`store/<digest>/` holds config.json and model.safetensors (a Hugging Face folder), world.json (alphabet and task; models
of bytes have a tokenizer instead of an alphabet), training.json (the spec), history.json (what was logged), snapshots/ where copies along the way were asked for and,
while unfinished, checkpoint.safetensors, or checkpoint-<step>/ with the shards of several processes.
"""

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glassworks.core.errors import BrokenFile
from glassworks.core.files import read_json, write_json
from glassworks.core.runs import lock_folder
from glassworks.core.text import say
from glassworks.models.byte_tokenizer import save_byte_tokenizer
from glassworks.tasks.base import TokenTask
from glassworks.tensors.files import load_tensors, read_header, save_tensors
from glassworks.training.spec import TrainingSpec

if TYPE_CHECKING:
    from glassworks.training.shards import Shards


@dataclass
class History:
    """What was logged while training: one row per probed step, NaN where a metric was not taken."""

    steps: list[int] = field(default_factory=list[int])
    metrics: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def append(self, step: int, row: Mapping[str, float]) -> None:
        """Adds the row of a step; metrics may come and go."""
        for name in row:
            self.metrics.setdefault(name, [float("nan")] * len(self.steps))
        self.steps.append(step)
        for name, column in self.metrics.items():
            column.append(row.get(name, float("nan")))

    def curve(self, metric: str) -> NDArray[np.float64]:
        """The values of a metric at `steps`."""
        return np.asarray(self.metrics[metric], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN becomes null."""
        return {
            "steps": self.steps,
            "metrics": {n: [v if v == v else None for v in column] for n, column in self.metrics.items()},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "History":
        """Reads what `to_json` wrote."""
        metrics = {
            name: [float("nan") if v is None else float(v) for v in cast(Sequence[float | None], column)]
            for name, column in found["metrics"].items()
        }
        return cls([int(s) for s in found["steps"]], metrics)


def snapshot_path(folder: Path, step: int) -> Path:
    """Where the copy of the weights after `step` steps lies."""
    return folder / "snapshots" / f"{step:08d}.safetensors"


def snapshots(folder: Path) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The kept copies of a training's weights in the order of their steps; none where none were asked for."""
    for path in sorted((folder / "snapshots").glob("*.safetensors")):
        yield int(path.stem), load_tensors(path)[0]


@dataclass(frozen=True)
class Progress:
    """How far a training has come: optimiser steps, what was logged, wall time."""

    step: int
    history: History
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"step": self.step, "seconds": self.seconds, "history": self.history.to_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Progress":
        """Reads what `to_json` wrote; KeyError, TypeError or ValueError where it did not."""
        return cls(int(found["step"]), History.from_json(found["history"]), float(found["seconds"]))


@dataclass(frozen=True)
class Checkpoint:
    """The state after some optimiser steps, enough to go on as if nothing had happened."""

    tensors: dict[str, Tensor]
    progress: Progress

    @property
    def step(self) -> int:
        """Optimiser steps that lie behind it."""
        return self.progress.step


class StoreEntry:
    """One trained (or half-trained) model on disk."""

    def __init__(self, root: Path, spec: TrainingSpec) -> None:
        self.spec = spec
        self.path = root / spec.digest()

    @property
    def is_done(self) -> bool:
        """Whether training ended and everything was written; done.json is the last file written."""
        return (self.path / "done.json").is_file()

    def history(self) -> History:
        """What was logged while training."""
        with self._whole("history.json"):
            return History.from_json(read_json(self.path / "history.json"))

    def seconds(self) -> float:
        """Wall time of the training, in seconds, over all its sessions."""
        with self._whole("done.json"):
            return float(read_json(self.path / "done.json")["seconds"])

    @contextmanager
    def lock(self) -> Generator[None]:
        """Keeps a second process from training the same model at the same time."""
        with lock_folder(self.path):
            yield

    def open(self) -> None:
        """Writes what identifies the entry before the first step."""
        write_json(self.path / "training.json", self.spec.to_json())
        task = self.spec.task
        world: dict[str, Any] = {"task": task.to_json()}
        match task:
            case TokenTask(spells_bytes=True):
                # Its tokens are bytes: an alphabet of characters could not spell what takes several of them.
                save_byte_tokenizer(self.path)
            case TokenTask():
                world["alphabet"] = list(task.alphabet)
            case _:
                pass
        write_json(self.path / "world.json", world)

    def save_snapshot(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keeps a copy of the weights as they are after `step` steps."""
        copies = {name: tensor.detach().clone().cpu() for name, tensor in weights.items()}
        save_tensors(snapshot_path(self.path, step), copies, {"step": str(step)})

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint: one file, so that it is whole or the former one."""
        import json

        progress = checkpoint.progress
        header = {
            "step": str(progress.step),
            "seconds": repr(progress.seconds),
            "history": json.dumps(progress.history.to_json()),
        }
        save_tensors(self._file, checkpoint.tensors, header)
        self.forget_checkpoints(but=self._file)

    @contextmanager
    def _whole(self, name: str) -> Generator[None]:
        """Inside the `with` a file of the entry is taken apart; BrokenFile where it is not as it was written."""
        try:
            yield
        except (KeyError, ValueError, TypeError, AttributeError) as problem:
            raise BrokenFile(
                say("{path} is no checkpoint of Glassworks: {reason}", path=str(self.path / name), reason=str(problem)),
                right=say("delete it to train from the start"),
            ) from None

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint in whatever form, or None when there is none; BrokenFile when it is damaged."""
        shards = self.shards()
        if shards is not None:
            from glassworks.training.shards import read_whole

            return Checkpoint(read_whole(shards), shards.progress)
        if not self._file.is_file():
            return None
        tensors, header = load_tensors(self._file)
        return Checkpoint(tensors, self._progress_of(header))

    def shards(self) -> "Shards | None":
        """The last checkpoint where it lies in shards; None where there is none, or one file is newer."""
        from glassworks.training.shards import found_shards, open_shards

        found = found_shards(self.path)
        if not found:
            return None
        shards = open_shards(found[-1])
        if self._file.is_file() and self._progress_of(read_header(self._file)).step > shards.progress.step:
            return None
        return shards

    def last_step(self) -> int | None:
        """Optimiser steps that lie behind the last checkpoint; None when there is none."""
        shards = self.shards()
        if shards is not None:
            return shards.progress.step
        return self._progress_of(read_header(self._file)).step if self._file.is_file() else None

    def forget_checkpoints(self, but: Path | None = None) -> None:
        """Removes all checkpoints that are not the newest, and what a killed process left of one."""
        from glassworks.training.shards import PARTIAL, found_shards

        for folder in (*found_shards(self.path), self.path / PARTIAL):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)
        if self._file != but:
            self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def _progress_of(self, header: Mapping[str, str]) -> Progress:
        import json

        try:
            return Progress.from_json({**header, "history": json.loads(header["history"])})
        except (KeyError, ValueError, TypeError, AttributeError) as problem:
            raise BrokenFile(
                say("{path} is no checkpoint of Glassworks: {reason}", path=str(self._file), reason=str(problem)),
                right=say("delete it to train from the start"),
            ) from None

    def finish(self, history: History, seconds: float, facts: Mapping[str, Any]) -> None:
        """Writes the history and, last of all, the mark that the entry is whole."""
        write_json(self.path / "history.json", history.to_json())
        write_json(self.path / "done.json", {"seconds": seconds} | dict(facts))
        self.forget_checkpoints()
