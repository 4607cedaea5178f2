"""Activations of many documents on the disk: one safetensors file for each site, mapped into memory, never read whole.

A folder holds `activations.json` (what the files are, and how many documents are whole), `tokens.safetensors` (ids,
document and position of every token) and `<site>.safetensors` with one tensor, a row for each token. Files that are
still being filled end in `.unfinished`; only the rows of whole documents are ever shown.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.text import say
from glassworks.tensors.files import load_tensors

INDEX, TOKENS, TENSOR, UNFINISHED = "activations.json", "tokens.safetensors", "activations", ".unfinished"
VERSION = 1
# What safetensors calls number formats, and how numpy maps them; numpy has no bfloat16, so its bits are mapped.
FORMATS: Mapping[str, tuple[str, torch.dtype, str]] = {
    "float32": ("F32", torch.float32, "<f4"),
    "float64": ("F64", torch.float64, "<f8"),
    "bfloat16": ("BF16", torch.bfloat16, "<u2"),
    "float16": ("F16", torch.float16, "<f2"),
}


@dataclass(frozen=True)
class KeptSite:
    """One site on the disk: its name, what it has for each token, and its number format."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one row."""
        return FORMATS[self.dtype][1].itemsize * int(np.prod(self.shape, dtype=np.int64))

    def header(self, tokens: int) -> bytes:
        """The beginning of its file: length and JSON, filled with blanks so that the numbers begin at a multiple of 64."""
        shape = [tokens, *self.shape]
        entry = {"dtype": FORMATS[self.dtype][0], "shape": shape, "data_offsets": [0, tokens * self.bytes_per_token]}
        text = json.dumps({"__metadata__": {"site": self.name}, TENSOR: entry}, separators=(",", ":")).encode()
        length = -(-(len(text) + 8) // 64) * 64 - 8
        return struct.pack("<Q", length) + text.ljust(length)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}

    @classmethod
    def from_json(cls, found: Any) -> "KeptSite":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        site = cls(str(found["name"]), tuple(int(size) for size in found["shape"]), str(found["dtype"]))
        if site.dtype not in FORMATS or "/" in site.name or "\\" in site.name or site.name.startswith("."):
            raise ValueError(site.name)
        return site


class KeptActivations(Mapping[str, Tensor]):
    """Activations in a folder, by site: `kept["layers.3.out"]` is (token, ...), mapped from the disk, all documents in a row.

    `ids`, `document` and `position` say what each token is. Made by `keep_activations`, opened by `KeptActivations.open`.
    """

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity: Mapping[str, Any] = index["identity"]
        self.sites: Mapping[str, KeptSite] = {
            site.name: site for site in (KeptSite.from_json(one) for one in index["sites"])
        }
        self.all_tokens = int(index["tokens"])
        self.all_documents = int(index["documents"])
        self.documents = int(index["done"])
        """Documents that are whole."""

    @classmethod
    def open(cls, folder: str | Path) -> "KeptActivations":
        """Opens a folder, also one that is not finished; raises NotFound or BrokenFile."""
        folder = Path(folder)
        index = read_json(folder / INDEX)
        try:
            if index["version"] != VERSION:
                raise ValueError(f"version {index['version']}")
            return cls(folder, index)
        except (KeyError, TypeError, ValueError) as problem:
            raise BrokenFile(
                say("{path} does not describe activations: {reason}", path=str(folder / INDEX), reason=str(problem)),
                right=say("the folder as it was written, or another one to keep them in anew"),
            ) from None

    @property
    def is_complete(self) -> bool:
        """Whether every document is there."""
        return self.documents == self.all_documents

    @property
    def tokens(self) -> int:
        """Tokens of whole documents."""
        return int((self._everything["document"] < self.documents).sum())

    @property
    def ids(self) -> Int[Tensor, " token"]:
        """The token ids."""
        return self._everything["ids"][: self.tokens]

    @property
    def document(self) -> Int[Tensor, " token"]:
        """The document of each token, from 0."""
        return self._everything["document"][: self.tokens]

    @property
    def position(self) -> Int[Tensor, " token"]:
        """The position of each token in its document, from 0."""
        return self._everything["position"][: self.tokens]

    @cached_property
    def _everything(self) -> dict[str, Tensor]:
        found, _ = load_tensors(self.folder / TOKENS)
        if {"ids", "document", "position"} - set(found) or any(len(one) != self.all_tokens for one in found.values()):
            raise BrokenFile(say("{path} does not fit its index", path=str(self.folder / TOKENS)))
        return found

    def memmap(self, name: str) -> NDArray[Any]:
        """A site as numpy maps it, read-only: (token, ...); of bfloat16, which numpy has not, the bits as uint16."""
        site = self._site(name)
        path, header = self._path(site), site.header(self.all_tokens)
        expected = len(header) + self.all_tokens * site.bytes_per_token
        try:
            with path.open("rb") as file:
                is_ours = file.read(len(header)) == header and path.stat().st_size == expected
        except FileNotFoundError:
            raise NotFound(say("{path} is not there", path=str(path))) from None
        if not is_ours:
            raise BrokenFile(
                say("{path} is truncated or not the file that its index tells of", path=str(path)),
                right=say("the folder as it was written, or another one to keep them in anew"),
            )
        shape = (self.all_tokens, *site.shape)
        found = np.memmap(path, FORMATS[site.dtype][2], "r", offset=len(header), shape=shape)
        return found[: self.tokens]

    def rows(self, name: str, part: slice) -> Tensor:
        """Some tokens of a site, read from the disk into memory of their own."""
        site = self._site(name)
        bits = torch.from_numpy(np.array(self.memmap(name)[part]))
        return bits.view(FORMATS[site.dtype][1]) if site.dtype == "bfloat16" else bits

    def __getitem__(self, name: str) -> Tensor:
        """A site as a tensor over the mapped file: what is looked at is read, nothing else; writing changes no file."""
        site = self._site(name)
        mapped = self.memmap(name)
        # Copy on write, so that torch may treat it as its own.
        start = len(site.header(self.all_tokens))
        own = np.memmap(self._path(site), mapped.dtype, "c", offset=start, shape=mapped.shape)
        found = torch.from_numpy(own)
        return found.view(FORMATS[site.dtype][1]) if site.dtype == "bfloat16" else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def __repr__(self) -> str:
        return f"KeptActivations({str(self.folder)!r}, {len(self)} sites, {self.documents} of {self.all_documents} documents)"

    @property
    def batch(self) -> TokenBatch:
        """The ids of all whole documents, padded on the right."""
        lengths = torch.bincount(self.document, minlength=self.documents)
        mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.long)
        ids[mask] = self.ids.long()
        return TokenBatch(ids, None if bool(mask.all()) else mask)

    def pieces(self, subject: Subject, tokens: int, names: tuple[str, ...] | None = None) -> Iterator[Activations]:
        """Documents as `capture` would give them, about `tokens` at a time, padded on the right; `batch` holds their ids."""
        chosen = tuple(self) if names is None else names
        lengths: list[int] = torch.bincount(self.document, minlength=self.documents).tolist()
        first = start = 0
        while first < len(lengths):
            last, longest = first, 0
            while last < len(lengths) and (last == first or (last - first + 1) * max(longest, lengths[last]) <= tokens):
                longest = max(longest, lengths[last])
                last += 1
            yield self._piece(subject, lengths[first:last], start, chosen)
            start += sum(lengths[first:last])
            first = last

    def _piece(self, subject: Subject, lengths: list[int], start: int, names: tuple[str, ...]) -> Activations:
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        part = slice(start, start + sum(lengths))
        ids = torch.zeros(mask.shape, dtype=torch.long)
        ids[mask] = self.ids[part].long()
        labels = subject.labels(ids[0][mask[0]].tolist()) if start == 0 else ()
        found: dict[str, Tensor] = {}
        for name in names:
            rows = self.rows(name, part)
            whole = torch.zeros(*mask.shape, *rows.shape[1:], dtype=rows.dtype)
            whole[mask] = rows
            found[name] = whole
        batch = TokenBatch(ids, None if bool(mask.all()) else mask, labels)
        return Activations(subject.anatomy, batch, found, subject.modules, None)

    def _site(self, name: str) -> KeptSite:
        if name not in self.sites:
            raise InvalidInput(
                say("{site} was not kept", site=name), given=", ".join(self.sites), right=say("one of those")
            )
        return self.sites[name]

    def _path(self, site: KeptSite) -> Path:
        whole = path_of(self.folder, site)
        return whole if whole.is_file() else whole.with_name(whole.name + UNFINISHED)


def path_of(folder: Path, site: KeptSite) -> Path:
    """Where a site's finished file stands."""
    return folder / f"{site.name}.safetensors"
