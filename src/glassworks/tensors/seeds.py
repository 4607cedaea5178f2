"""Seed: the one source of chance; generators are derived from it by name, the global ones stay untouched."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Seed:
    """A number from which independent streams are derived by name, equal on every machine."""

    value: int

    def child(self, *names: str | int) -> "Seed":
        """The seed of a named part, e.g. `seed.child("batch", 17)`; different names, independent streams."""
        text = "/".join([str(self.value), *(str(n) for n in names)])
        return Seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1)

    def generator(self, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator on a device, started at this seed; one beyond torch's 64 bits is hashed into them."""
        fits = -(2**63) <= self.value < 2**64
        return torch.Generator(device=device).manual_seed(self.value if fits else self.child("wide").value)

    def numpy(self) -> np.random.Generator:
        """A numpy generator started at this seed; a negative one, which numpy refuses, is hashed first."""
        return np.random.default_rng(self.value if self.value >= 0 else self.child("negative").value)

    @contextmanager
    def of_torch(self, device: str | torch.device = "cpu") -> Generator[None]:
        """Inside the `with`, torch's own generators start at this seed, for what draws from no other (dropout).

        Those of the CPU and of the device are put back afterwards.
        """
        own = [torch.device(device)] if torch.device(device).type == "cuda" else []
        with torch.random.fork_rng(own):
            torch.manual_seed(self.child("torch").value)
            yield
