"""Texts too large to spell beforehand: read by `datasets` as a stream, spelled on the way, gone on with exactly.

The stream's place and the tokens that wait for their window go into every checkpoint. Documents come in their own order.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.files import read_json, write_json
from glassworks.core.text import say
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import LearningSpec, needed
from glassworks.training.stages.corpus import CorpusSpec, files_of
from glassworks.training.stages.tokenizer import plain_ids
from glassworks.training.stages.tokens import CorpusTokens, bytes_per_token
from glassworks.training.stages.windows import Question, Row

PLACE = "stream.json"
# Documents at the head of a stream by which the model is judged, and that it never learns from.
HELD_OUT = 200
# Places that are remembered; the loader reads a few batches ahead of the step under way.
_REMEMBERED = 64


class StreamingSpec(LearningSpec, CorpusSpec):
    """A stage that learns from texts, spelled beforehand or as a stream."""

    stream: bool = False
    """Whether texts are read and spelled while the model learns: files of one kind, or the name of a dataset on the hub."""

    def data_files(self, name: str) -> list[str]:
        """The files of `data`; of a stream also a name on the hub."""
        is_named = self.stream and name == "data" and is_on_hub(self.data)
        return list(self.data) if is_named else super().data_files(name)


def is_on_hub(data: Sequence[str]) -> bool:
    """Whether data are one name that is no file here and no pattern."""
    return len(data) == 1 and not Path(data[0]).expanduser().exists() and not set("*?[") & set(data[0])


def stream_of(spec: CorpusSpec) -> Any:
    """The stream of a spec's data: files by their kind, or a dataset's name on the hub.

    Raises Unavailable without the `datasets` package, NotFound for a name that the hub does not give.
    """
    needed("datasets")
    import datasets

    if is_on_hub(spec.data):
        try:
            return datasets.load_dataset(spec.data[0], split="train", streaming=True)
        except Exception as problem:  # the library fails in many ways where a hub gives nothing
            raise NotFound(
                say("no texts {name}: there is no such file here, and the hub gave none", name=spec.data[0]),
                given=str(problem).splitlines()[0] if str(problem) else type(problem).__name__,
                right=say("a file, a folder, or the full name of a dataset on a hub that can be reached"),
            ) from None
    paths = [str(path) for path in files_of(spec.data)]
    endings = {path.removesuffix(".gz").rpartition(".")[2] for path in paths}
    kinds = {"jsonl": "json", "json": "json", "parquet": "parquet"}
    found = {kinds.get(ending, "text") for ending in endings}
    if len(found) > 1:
        raise InvalidInput(say("a stream reads files of one kind"), given=", ".join(sorted(endings)))
    return datasets.load_dataset(found.pop(), data_files=paths, split="train", streaming=True)


class StreamReader:
    """Windows cut one after another from a stream of documents, which begins again at its end."""

    def __init__(self, stream: Any, spec: "StreamingSpec", tokenizer: Any, question: Question, each: int) -> None:
        self.stream, self.field, self.tokenizer = stream, spec.field, tokenizer
        self.length, self.question, self.each, self.seed = spec.length, question, each, Seed(spec.seed).child("data")
        self.mark = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self._first: dict[str, Any] = deepcopy(stream.state_dict())
        self.windows = 0
        self.waiting: list[int] = []
        self._places: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __iter__(self) -> Iterator[Row]:
        self._remember()
        while True:
            read = 0
            for entry in self.stream:
                read += 1
                self.waiting += plain_ids(self.tokenizer, [_text_of(entry, self.field)])[0] + self.mark
                while len(self.waiting) >= self.length:
                    ids = np.asarray(self.waiting[: self.length], dtype=np.int64)
                    row = self.question.ask(ids, self.seed.child("question", self.windows).numpy())
                    # Neighbours share a token, so that every one is asked for.
                    self.waiting = self.waiting[self.length - 1 :]
                    self.windows += 1
                    self._remember()
                    yield row
            if not read:
                raise InvalidInput(say("the text is empty"))
            self.stream.load_state_dict(deepcopy(self._first))

    def place_after(self, windows: int) -> dict[str, Any]:
        """Where the stream stood when so many windows had been cut."""
        return self._places[windows]

    def go_to(self, place: dict[str, Any]) -> None:
        """Goes on at such a place."""
        self.windows, self.waiting = int(place["windows"]), list(place["waiting"])
        self.stream.load_state_dict(place["stream"])

    def _remember(self) -> None:
        # Only between updates can a training be gone on with.
        if self.windows % self.each:
            return
        self._places[self.windows] = {
            "windows": self.windows,
            "waiting": list(self.waiting),
            "stream": deepcopy(self.stream.state_dict()),
        }
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)


class Streamed(IterableDataset[Row]):
    """What a reader cuts, as the library's trainer takes it."""

    def __init__(self, reader: StreamReader) -> None:
        super().__init__()
        self.reader = reader

    def __iter__(self) -> Iterator[Row]:
        return iter(self.reader)


def parted(stream: Any, spec: StreamingSpec, tokenizer: Any) -> tuple[Any, CorpusTokens]:
    """The stream without its first documents, and those in tokens, to judge by. InvalidInput where there are too few."""
    mark = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ids: list[int] = []
    count = 0
    for entry in islice(iter(stream), HELD_OUT):
        ids += plain_ids(tokenizer, [_text_of(entry, spec.field)])[0] + mark
        count += 1
    if count < HELD_OUT or len(ids) <= spec.length:
        raise InvalidInput(
            say(
                "a stream of {count} documents is too short: its first {held_out} are held out",
                count=count,
                held_out=HELD_OUT,
            ),
            right=say("stream=false, for texts that fit on the disk"),
        )
    held_out = np.asarray(ids, dtype=np.uint32)
    return stream.skip(HELD_OUT), CorpusTokens(held_out, held_out, bytes_per_token(tokenizer), count, 0.0, Path())


class KeepingPlace(TrainerCallback):
    """Writes the stream's place into every checkpoint; `restore` puts the generators back before the first step."""

    def __init__(self, reader: StreamReader, restore: Callable[[], object]) -> None:
        self.reader = reader
        self._restore: Callable[[], object] | None = restore

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Called by the trainer before each step.

        Where it passes over no data it puts the generators back before it opens its loader, which then draws from them.
        """
        if self._restore is not None:
            self._restore()
            self._restore = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Called by the trainer when a checkpoint was written, before it counts as whole."""
        if not args.should_save:
            # One process reads for all.
            return
        place = self.reader.place_after(state.global_step * self.reader.each)
        write_json(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / PLACE, place)


def take_up(reader: StreamReader, checkpoint: Path | None) -> None:
    """Goes to the place that a checkpoint names; to the beginning without one."""
    if checkpoint is not None:
        reader.go_to(read_json(checkpoint / PLACE))


def _text_of(entry: dict[str, Any], field: str) -> str:
    found = entry.get(field)
    if not isinstance(found, str):
        raise InvalidInput(
            say("an entry of the stream has no text in {field}", field=field),
            given=sorted(entry),
            right=say("field=NAME, the field that holds the text"),
        )
    return found
