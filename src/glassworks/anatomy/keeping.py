"""Keeping activations of many documents on the disk, in memory for one piece of them; stopped anywhere, it goes on."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassworks.anatomy.capture import capture
from glassworks.anatomy.kept import FORMATS, INDEX, TOKENS, UNFINISHED, VERSION, KeptActivations, KeptSite, path_of
from glassworks.anatomy.offloaded import format_of
from glassworks.anatomy.sites import NameFilter, Site, choose_sites
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.files import write_json, writing
from glassworks.core.runs import lock_folder
from glassworks.core.text import Text, say
from glassworks.tensors.files import save_tensors

PIECE_TOKENS = 1024
# What is written is made safe at least this often; a stop loses no more than that.
SECONDS_AT_RISK = 2.0
# The same model on another number of threads sums in another order; another model is off by far more.
SAME_MODEL = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
STREAM = "layers.*.out"


def keep_activations(
    subject: Subject,
    prompt: Prompt,
    names: NameFilter,
    folder: str | Path,
    *,
    piece_tokens: int = PIECE_TOKENS,
    tell: Callable[[Text], None] | None = None,
) -> KeptActivations:
    """Runs the model over every document and writes the tensors at the chosen sites into a folder, piece by piece.

    Memory is that of one piece of about `piece_tokens` tokens; the disk is asked for all it needs before anything runs.
    A folder that was begun with the same model, documents and sites is gone on with, a finished one is opened. Raises
    InvalidInput for sites without a row for each token (maps) and for a folder of something else, NoSpace, RunBusy.
    """
    folder, batch = Path(folder), subject.batch(prompt)
    sites = _with_rows(choose_sites(names, subject.anatomy, subject.modules))
    with lock_folder(folder):
        work = _Work(subject, batch, sites, folder, piece_tokens)
        kept = work.begun()
        if not kept.is_complete:
            work.go_on(kept, tell or (lambda _: None))
    return KeptActivations.open(folder)


def piece_bytes(kept: Sequence[KeptSite], piece_tokens: int) -> int:
    """Bytes of the tensors of one piece, which are in memory together."""
    return piece_tokens * sum(site.bytes_per_token for site in kept)


def _with_rows(sites: Sequence[Site]) -> tuple[Site, ...]:
    for site in sites:
        if site.part.endswith((".pattern", ".scores")) or site.stack:
            raise InvalidInput(
                say("{site} cannot be kept: it has no row for each token that the model reads", site=site.name),
                right=say("sites such as {stream}; maps follow from mixer.q and mixer.k", stream=repr(STREAM)),
            )
    if not sites:
        raise InvalidInput(say("no site was chosen"), right=say("for example {example}", example=repr(STREAM)))
    return tuple(sites)


@dataclass(frozen=True, eq=False)
class _Work:
    """One model, its documents and sites, and the folder that is filled."""

    subject: Subject
    batch: TokenBatch
    sites: tuple[Site, ...]
    folder: Path
    piece_tokens: int

    def begun(self) -> KeptActivations:
        """The folder, begun now or earlier; raises InvalidInput where it holds something else."""
        if not (self.folder / INDEX).is_file():
            return self._begin()
        kept = KeptActivations.open(self.folder)
        if dict(kept.identity) != self.identity:
            raise InvalidInput(
                say("{folder} holds activations of another model, of other documents, or at other sites", folder=str(self.folder)),
                right=say("an empty folder, or the same model, text and sites as before"),
            )  # fmt: skip
        self._check_model(kept)
        return kept

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a folder to be gone on with."""
        model = self.subject.model
        return {
            "model": type(model).__name__,
            "name": self.subject.origin.name,
            "parameters": self.subject.parameter_count,
            "format": format_of(model),
            "depth": self.subject.anatomy.depth,
            "width": self.subject.anatomy.width,
            "sites": [site.name for site in self.sites],
            "piece_tokens": self.piece_tokens,
            "documents": _digest(self.batch),
        }

    def _begin(self) -> KeptActivations:
        """Learns the shapes from the first document, takes the space on the disk, writes tokens and index."""
        first = next(self._pieces(0))
        seen = self._captured(TokenBatch(first.ids[:1], None if first.mask is None else first.mask[:1]))
        kept = [_kept_site(site, seen[site.name], first.ids.shape[1]) for site in self.sites]
        lengths = self.batch.real.sum(1)
        tokens = int(lengths.sum())
        for site in kept:
            _reserve(path_of(self.folder, site), site, tokens)
        document = torch.arange(len(lengths)).repeat_interleave(lengths)
        position = torch.cat([torch.arange(int(length)) for length in lengths])
        ids = self.batch.ids[self.batch.real]
        columns = {"ids": ids, "document": document, "position": position}
        save_tensors(self.folder / TOKENS, columns)
        self._write_index(kept, tokens, 0)
        return KeptActivations.open(self.folder)

    def go_on(self, kept: KeptActivations, tell: Callable[[Text], None]) -> None:
        """Fills the files from the first document that is missing, then gives them their names."""
        sites, done = list(kept.sites.values()), kept.documents
        row = kept.tokens
        with ExitStack() as stack, writing(self.folder):
            files = {site.name: stack.enter_context(_Rows(self.folder, site, kept.all_tokens)) for site in sites}
            safe = time.monotonic()
            for piece in self._pieces(done):
                tell(say("reading texts ({done} of {all})", done=done, all=kept.all_documents))
                seen = self._captured(piece)
                for site in sites:
                    files[site.name].write(row, seen[site.name][piece.real.to(seen[site.name].device)])
                row, done = row + int(piece.real.sum()), done + len(piece.ids)
                if time.monotonic() - safe > SECONDS_AT_RISK:
                    for file in files.values():
                        file.sync()
                    self._write_index(sites, kept.all_tokens, done)
                    safe = time.monotonic()
            for file in files.values():
                file.finish()
        self._write_index(sites, kept.all_tokens, done)

    def _pieces(self, first: int) -> Iterator[TokenBatch]:
        """Documents from one on, as many together as always, whatever was done before: equal pieces give equal numbers."""
        together = max(1, self.piece_tokens // self.batch.ids.shape[1])
        for start in range(first - first % together, len(self.batch.ids), together):
            part = slice(start, start + together)
            real = self.batch.real[part]
            width = int(real.any(0).nonzero().max()) + 1
            mask = real[:, :width]
            begin = max(0, first - start)
            ids = self.batch.ids[part, :width]
            yield TokenBatch(ids[begin:], None if bool(mask.all()) else mask[begin:])

    def _captured(self, piece: TokenBatch) -> dict[str, Tensor]:
        anatomy = self.subject.anatomy
        inside = all(
            site.tap is None and (site.layer is not None or site.part in ("embed", "positions")) for site in self.sites
        )
        # Nothing behind the last layer is wanted: the logits of a piece can be larger than all the rest.
        stop = anatomy.depth if inside and not anatomy.has_source else None
        found = capture(self.subject, piece, self.sites, stop)
        return {site.name: found[site.name] for site in self.sites}

    def _check_model(self, kept: KeptActivations) -> None:
        """The first document once more: weights may have changed under an equal name."""
        if not kept.documents:
            return
        piece = TokenBatch(self.batch.ids[:1][self.batch.real[:1]][None])
        seen = self._captured(piece)
        for site in self.sites:
            new = seen[site.name][0].double().cpu()
            old = kept.rows(site.name, slice(0, len(new))).double()
            allowed = SAME_MODEL[kept.sites[site.name].dtype] * max(1.0, float(old.abs().max()))
            if not float((new - old).abs().max()) <= allowed:
                raise InvalidInput(
                    say("the model gives other numbers at {site} than those kept in {folder}", site=site.name, folder=str(self.folder)),
                    right=say("an empty folder, or the same model, text and sites as before"),
                )  # fmt: skip

    def _write_index(self, sites: Sequence[KeptSite], tokens: int, done: int) -> None:
        found = {
            "version": VERSION, "identity": self.identity, "sites": [site.to_json() for site in sites],
            "tokens": tokens, "documents": len(self.batch.ids), "done": done,
        }  # fmt: skip
        write_json(self.folder / INDEX, found)


class _Rows:
    """A file of rows that is filled from any place; written, not mapped, so that it takes no memory of this process."""

    def __init__(self, folder: Path, site: KeptSite, tokens: int) -> None:
        self._path = path_of(folder, site)
        self._site = site
        self._start = len(site.header(tokens))
        self._handle = -1

    def __enter__(self) -> "_Rows":
        path = self._path if self._path.is_file() else _unfinished(self._path)
        try:
            self._handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise BrokenFile(
                say("{path} is missing among the activations of its folder", path=str(path)),
                right=say("the folder as it was written, or another one to keep them in anew"),
            ) from None
        return self

    def __exit__(self, *problem: object) -> None:
        os.close(self._handle)

    def write(self, row: int, rows: Tensor) -> None:
        data = rows.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        place, left = self._start + row * self._site.bytes_per_token, memoryview(data)
        while left:
            written = os.pwrite(self._handle, left, place)
            place, left = place + written, left[written:]

    def sync(self) -> None:
        os.fsync(self._handle)

    def finish(self) -> None:
        self.sync()
        if not self._path.is_file():
            _unfinished(self._path).rename(self._path)


def _reserve(path: Path, site: KeptSite, tokens: int) -> None:
    """Takes the space of a whole file, so that a full disk is noticed before hours of work; NoSpace where there is none."""
    header = site.header(tokens)
    size = len(header) + tokens * site.bytes_per_token
    temporary = _unfinished(path)
    try:
        with writing(path), temporary.open("wb") as file:
            file.write(header)
            file.flush()
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as problem:
                if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                file.truncate(size)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)


def _kept_site(site: Site, seen: Tensor, positions: int) -> KeptSite:
    kind = str(seen.dtype).removeprefix("torch.")
    if seen.ndim < 2 or seen.shape[0] != 1 or seen.shape[1] != positions or kind not in FORMATS:
        raise InvalidInput(
            say("{site} cannot be kept: it has no row for each token that the model reads", site=site.name),
            given=f"{tuple(seen.shape)}, {kind}",
            right=say("sites such as {stream}; maps follow from mixer.q and mixer.k", stream=repr(STREAM)),
        )
    return KeptSite(site.name, tuple(seen.shape[2:]), kind)


def _digest(batch: TokenBatch) -> str:
    digest = hashlib.sha256(str(tuple(batch.ids.shape)).encode())
    for tensor in (batch.ids, batch.real):
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
