"""Our side of captures: `run_with_cache` of the named sites."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.workers.harness import Answer, Work, serve
from benchmarks.workers.sites import sites_of
from glassworks.anatomy import Subject, TokenBatch


def prepare(folder: Path, options: Mapping[str, Any]) -> Work:
    """Writes the model, its tokenizer and the tokens that both sides read; there is nothing to run."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=options["depth"])).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    chance = torch.Generator().manual_seed(0)
    torch.save(torch.randint(0, 50_000, (options["batch"], options["length"]), generator=chance), folder / "ids.pt")
    return dict


def capture(folder: Path, options: Mapping[str, Any]) -> Work:
    """One forward pass; everything asked for is worked out, as the peers do at once."""
    subject = Subject.of(GPT2LMHeadModel.from_pretrained(folder).eval())
    batch = TokenBatch(torch.load(folder / "ids.pt", weights_only=True))
    sites = sites_of(options)

    def work() -> Answer:
        _, cache = subject.run_with_cache(batch, sites)
        return {site: cache[site] for site in sites}

    return work


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    vocabulary = {f"t{number}": number for number in range(50_257)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")), eos_token="t0"
    )


if __name__ == "__main__":
    serve({"prepare": prepare, "capture": capture})
