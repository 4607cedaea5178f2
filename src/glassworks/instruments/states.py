"""States of many documents, gathered up to a limit, and documents split into two parts that share none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.sites import Site
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.instruments.base import Stack, text_of
from glassworks.tensors.seeds import Seed


@dataclass(frozen=True, eq=False)
class States:
    """The states of all tokens of some documents, one after the other, in float32 on the CPU.

    `document` numbers the document of each token, `digests` names each document by its ids, `following` is the
    id of the next token (-1 for the last of a document).
    """

    states: Float[Tensor, "state token width"]
    ids: Int[Tensor, " token"]
    following: Int[Tensor, " token"]
    position: Int[Tensor, " token"]
    document: Int[Tensor, " token"]
    digests: tuple[str, ...]


class StateGatherer:
    """Takes in pieces until it holds `most` tokens; whole documents only, so later ones are left out."""

    def __init__(self, sites: Sequence[Site], most: int, stack: Stack = "") -> None:
        self._sites, self._most = sites, most
        self._stack: Stack = stack
        self._states: list[Tensor] = []
        self._ids: list[Tensor] = []
        self.left_out = 0

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in those documents of a piece for which there is room."""
        batch = text_of(batch, self._stack)
        held = sum(map(len, self._ids))
        for row, real in enumerate(batch.real):
            ids = batch.ids[row][real.to(batch.ids.device)].cpu()
            if self._ids and held + len(ids) > self._most:
                self.left_out += 1
                continue
            held += len(ids)
            self._ids.append(ids)
            kept = [seen[site.name][row][real.to(seen[site.name].device)].float().cpu() for site in self._sites]
            self._states.append(torch.stack(kept))

    def states(self) -> States:
        """Everything as one."""
        lengths = torch.tensor([len(ids) for ids in self._ids])
        nothing = torch.tensor([-1])
        return States(
            torch.cat(self._states, 1),
            torch.cat(self._ids),
            torch.cat([torch.cat([ids[1:], nothing]) for ids in self._ids]),
            torch.cat([torch.arange(len(ids)) for ids in self._ids]),
            torch.arange(len(lengths)).repeat_interleave(lengths),
            tuple(digest_of(ids) for ids in self._ids),
        )


def digest_of(ids: Int[Tensor, " token"]) -> str:
    """A document's name: equal ids, equal name."""
    return hashlib.sha256(" ".join(map(str, ids.tolist())).encode()).hexdigest()[:16]


def held_out_documents(digests: Sequence[str], seed: Seed, share: float) -> Bool[Tensor, " document"]:
    """True on the documents that are kept from training, drawn by the seed; equal documents go the same way.

    Raises InvalidInput for fewer than two different ones.
    """
    different = sorted(set(digests))
    if len(different) < 2:
        raise InvalidInput(
            say("there is nothing to hold out: all documents are the same one"),
            given=say("{count} different", count=len(different)),
            right=say("two different documents at least; --text-file takes several, with an empty line between them"),
        )
    count = min(max(1, round(share * len(different))), len(different) - 1)
    drawn = torch.randperm(len(different), generator=seed.generator())[:count].tolist()
    held = {different[place] for place in drawn}
    return torch.tensor([digest in held for digest in digests])
