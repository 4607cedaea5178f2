"""Windows of a text file, byte by byte: language modelling on any text, without a tokenizer."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.text import say
from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.files import digest_of
from glassworks.tensors.seeds import Seed

BYTES = 256
# Bytes from here on are parts of characters in UTF-8: written as codes, since none is a character by itself.
ASCII = 128


class TextWindows(TokenTask):
    """Windows drawn uniformly from a file, predicted byte by byte; its last tenth is held out.

    Any bytes will do. With `sha256` equal specs mean equal data: the file is checked before the first window is drawn, and
    where it lies no longer matters for the digest of the spec. `TextWindows.of(path)` fills it in.
    """

    spells_bytes: ClassVar[bool] = True

    kind: Literal["text"] = "text"
    path: str = Field(min_length=1)
    """The file."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file's content in hexadecimal; None takes whatever the file holds."""
    split: Literal["train", "held_out"] = "train"
    """The first nine tenths of the file, or the last; no window reaches across."""
    length: int = Field(default=256, ge=1)
    """Input bytes per window (T); one more is read for the last target."""

    @classmethod
    def of(cls, path: str | Path, **choices: object) -> "TextWindows":
        """The windows of this very content: reads the file once for its digest.

        Raises NotFound or InvalidInput where there is no file to read or it is empty.
        """
        place = Path(path).resolve()
        _bytes_of(place)
        return cls.parse({"kind": "text", "path": str(place), "sha256": digest_of(place)} | choices)

    @property
    def vocabulary(self) -> int:
        """Number of different bytes."""
        return BYTES

    @property
    def alphabet(self) -> tuple[str, ...]:
        """ASCII characters as themselves, all other bytes as <0x80> .. <0xFF>."""
        return tuple(chr(code) if code < ASCII else f"<0x{code:02X}>" for code in range(BYTES))

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return self.length

    def identity(self) -> dict[str, Any]:
        """Plain data that fixes the numbers: content instead of place, where the content is known."""
        found = super().identity()
        return found | {"path": None} if self.sha256 is not None else found

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` windows; of the file only the pages that hold them are read.

        Raises NotFound, BrokenFile for other content than `sha256`, and InvalidInput where no window fits.
        """
        data = self.data()
        generator = seed.generator(device)
        starts = torch.randint(len(data) - self.length, (size,), generator=generator, device=device)
        rows = data[starts.cpu().numpy()[:, None] + np.arange(self.length + 1)]
        tokens = torch.from_numpy(rows.astype(np.int64)).to(device)
        inputs = tokens[:, :-1].contiguous()
        return Batch(inputs, tokens[:, 1:].contiguous(), {"all": torch.ones_like(inputs, dtype=torch.bool)})

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: nobody knows the entropy of a text."""

    def data(self) -> NDArray[np.uint8]:
        """The bytes of this split, mapped into memory rather than read; raises as `sample` does."""
        place = Path(self.path).resolve()
        whole = _bytes_of(place)
        if self.sha256 is not None and (found := digest_of(place)) != self.sha256:
            raise BrokenFile(
                say("{path} holds another text than this task was made for", path=self.path),
                given=f"sha256 {found}",
                right=say("the file with sha256 {digest}", digest=self.sha256),
            )
        cut = len(whole) - len(whole) // 10
        part = whole[:cut] if self.split == "train" else whole[cut:]
        if len(part) <= self.length:
            raise InvalidInput(
                say("the {split} part of {path} is shorter than a window", split=self.split, path=self.path),
                given=say("{count} bytes", count=len(part)),
                right=say("at least {count} bytes, or a smaller length", count=self.length + 1),
            )
        return part


def _bytes_of(place: Path) -> NDArray[np.uint8]:
    if not place.exists():
        raise NotFound(say("{path} is not there", path=str(place)), right=say("a text file"))
    try:
        # Asked before opening: opening a pipe waits for its writer.
        if not place.is_file():
            raise IsADirectoryError
        if place.stat().st_size == 0:
            raise InvalidInput(say("{path} is empty", path=str(place)), right=say("a text file"))
        return np.memmap(place, dtype=np.uint8, mode="r")
    except OSError:
        raise InvalidInput(say("{path} cannot be read as a file", path=str(place)), right=say("a text file")) from None
