"""The evolution tree of language models: who built on whom, and what each changed (lifecycle.md 1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from glassworks.core.errors import UnknownName
from glassworks.core.text import Text, say
from glassworks.models.presets import Branch

BRANCHES: tuple[Branch, ...] = ("encoder", "decoder", "encoder-decoder")
Weights = Literal["open", "closed", "none"]


@dataclass(frozen=True)
class Model:
    """One model of the tree; months are those of the first paper or release."""

    name: str
    year: int
    month: int
    branch: Branch
    organisation: str
    sizes: tuple[str, ...]
    """As published; empty where they are not disclosed."""
    weights: Weights
    """none: the paper is about the architecture, and no checkpoint stands for it."""
    changed: Text
    parents: tuple[str, ...]
    """What it builds on; the first is where the tree draws it."""
    paper: str
    presets: tuple[str, ...] = ()
    """Names under which it can be built here."""
    is_prefix: bool = False
    """Whether it is a prefix decoder, drawn on the branch of encoder-decoders."""

    @property
    def date(self) -> str:
        """Year and month, as 2019-02."""
        return f"{self.year}-{self.month:02d}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, sentences in the chosen language."""
        return {
            "name": self.name,
            "year": self.year,
            "month": self.month,
            "branch": self.branch,
            "prefix_decoder": self.is_prefix,
            "organisation": self.organisation,
            "sizes": list(self.sizes),
            "weights": self.weights,
            "changed": str(self.changed),
            "parents": list(self.parents),
            "presets": list(self.presets),
            "paper": self.paper,
        }


def _encoders() -> Iterable[Model]:
    branch: Branch = "encoder"
    yield Model(
        "BERT", 2018, 10, branch, "Google", ("110M", "340M"), "open",
        say("rebuilds masked words from both sides, and guesses whether two sentences follow each other"),
        ("Transformer",), "arXiv 1810.04805", ("bert-base", "bert-large", "bert-tiny"),
    )  # fmt: skip
    yield Model(
        "RoBERTa", 2019, 7, branch, "Meta", ("125M", "355M"), "open",
        say("BERT with more text, longer training and no next-sentence task"),
        ("BERT",), "arXiv 1907.11692", ("roberta-base", "roberta-large"),
    )  # fmt: skip
    yield Model(
        "ALBERT", 2019, 9, branch, "Google", ("12M", "18M", "60M", "235M"), "open",
        say("all layers share one set of weights; a narrow embedding"), ("BERT",), "arXiv 1909.11942",
    )  # fmt: skip
    yield Model(
        "DistilBERT", 2019, 10, branch, "Hugging Face", ("66M",), "open",
        say("half of BERT's layers, taught by the whole"), ("BERT",), "arXiv 1910.01108", ("distilbert-base",),
    )  # fmt: skip
    yield Model(
        "MiniLM", 2020, 2, branch, "Microsoft", ("22M", "33M", "66M"), "open",
        say("a small encoder taught by the attention of a large one; sentence vectors were made from it"),
        ("BERT",), "arXiv 2002.10957", ("minilm",),
    )  # fmt: skip
    yield Model(
        "ELECTRA", 2020, 3, branch, "Google, Stanford", ("14M", "110M", "335M"), "open",
        say("tells replaced words from original ones, so that every token teaches"), ("BERT",), "arXiv 2003.10555",
    )  # fmt: skip


def _both() -> Iterable[Model]:
    branch: Branch = "encoder-decoder"
    yield Model(
        "Transformer", 2017, 6, branch, "Google", ("65M", "213M"), "none",
        say("attention alone, no recurrence; sinusoidal positions, norms after the sums"),
        (), "arXiv 1706.03762", ("transformer-base", "transformer-big"),
    )  # fmt: skip
    yield Model(
        "T5", 2019, 10, branch, "Google", ("60M", "220M", "770M", "3B", "11B"), "open",
        say("every task as text to text; learned biases for distances"), ("Transformer",), "arXiv 1910.10683",
        ("t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b"),
    )  # fmt: skip
    yield Model(
        "BART", 2019, 10, branch, "Meta", ("140M", "400M"), "open",
        say("restores a text that was garbled in many ways"), ("Transformer", "BERT", "GPT"), "arXiv 1910.13461",
        ("bart-base", "bart-large"),
    )  # fmt: skip
    yield Model(
        "GLM", 2021, 3, branch, "Tsinghua", ("110M", "335M", "10B"), "open",
        say("fills blanks by writing them behind a beginning that is read both ways"), ("Transformer", "BERT", "GPT-2"),
        "arXiv 2103.10360", is_prefix=True,
    )  # fmt: skip
    yield Model(
        "GLM-130B", 2022, 10, branch, "Tsinghua", ("130B",), "open",
        say("open and bilingual at 130 billion parameters; DeepNorm, gated feed-forward"), ("GLM",),
        "arXiv 2210.02414", is_prefix=True,
    )  # fmt: skip
    yield Model(
        "Flan-T5", 2022, 10, branch, "Google", ("77M", "250M", "780M", "3B", "11B"), "open",
        say("T5 with gated feed-forward, tuned on 1,800 tasks written as instructions"), ("T5",), "arXiv 2210.11416",
        ("flan-t5-small",),
    )  # fmt: skip
    yield Model(
        "ChatGLM-6B", 2023, 3, branch, "Tsinghua", ("6.2B",), "open",
        say("a bilingual dialogue model that fits one consumer card; two-dimensional positions"), ("GLM-130B",),
        "arXiv 2406.12793", ("chatglm-6b",), is_prefix=True,
    )  # fmt: skip


def _first_decoders() -> Iterable[Model]:
    branch: Branch = "decoder"
    yield Model(
        "GPT", 2018, 6, branch, "OpenAI", ("117M",), "open",
        say("learns to go on with text, then is tuned for each task"), ("Transformer",), "Radford et al. 2018", ("gpt",),
    )  # fmt: skip
    yield Model(
        "Transformer-XL", 2019, 1, branch, "CMU, Google", ("41M", "88M", "257M", "277M"), "open",
        say("reads the last segment's states too; scores of relative positions"), ("Transformer",), "arXiv 1901.02860",
    )  # fmt: skip
    yield Model(
        "GPT-2", 2019, 2, branch, "OpenAI", ("124M", "355M", "774M", "1.5B"), "open",
        say("tasks without tuning, from the prompt alone; norms before the parts"), ("GPT",), "Radford et al. 2019",
        ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
    )  # fmt: skip
    yield Model(
        "GPT-3", 2020, 5, branch, "OpenAI", ("125M", "1.3B", "6.7B", "13B", "175B"), "closed",
        say("learns a task from a few examples in the prompt"), ("GPT-2",), "arXiv 2005.14165",
        ("gpt3-small", "gpt3-xl", "gpt3-6.7b", "gpt3-13b", "gpt3"),
    )  # fmt: skip
    yield Model(
        "Gopher", 2021, 12, branch, "DeepMind", ("44M", "117M", "417M", "1.4B", "7.1B", "280B"), "closed",
        say("size, measured on 152 tasks; root mean square norms, relative positions"), ("GPT-2", "Transformer-XL"),
        "arXiv 2112.11446", ("gopher-44m", "gopher-117m", "gopher-417m", "gopher-1.4b", "gopher-7.1b", "gopher"),
    )  # fmt: skip
    yield Model(
        "InstructGPT", 2022, 3, branch, "OpenAI", ("1.3B", "6B", "175B"), "closed",
        say("follows instructions: demonstrations, a reward model from comparisons, PPO"), ("GPT-3",),
        "arXiv 2203.02155",
    )  # fmt: skip
    yield Model(
        "Chinchilla", 2022, 3, branch, "DeepMind", ("70B",), "closed",
        say("data counts as much as size: four times smaller than Gopher, four times more text, better"), ("Gopher",),
        "arXiv 2203.15556", ("chinchilla",),
    )  # fmt: skip
    yield Model(
        "PaLM", 2022, 4, branch, "Google", ("8B", "62B", "540B"), "closed",
        say("gated feed-forward beside attention, rotary positions, one key head for all"), ("GPT-3",),
        "arXiv 2204.02311",
    )  # fmt: skip
    yield Model(
        "OPT", 2022, 5, branch, "Meta", ("125M", "1.3B", "6.7B", "66B", "175B"), "open",
        say("an open repetition of GPT-3, with its logbook"), ("GPT-3",), "arXiv 2205.01068",
        ("opt-125m", "opt-1.3b", "opt-6.7b", "opt-175b"),
    )  # fmt: skip
    yield Model(
        "BLOOM", 2022, 7, branch, "BigScience", ("560M", "1.7B", "7.1B", "176B"), "open",
        say("46 languages, built in the open by a thousand people; scores fall with distance (ALiBi)"), ("GPT-3",),
        "arXiv 2211.05100", ("bloom-560m", "bloom"),
    )  # fmt: skip
    yield Model(
        "ChatGPT", 2022, 11, branch, "OpenAI", (), "closed",
        say("InstructGPT's training on dialogues, for everyone"), ("InstructGPT",), "openai.com/index/chatgpt",
    )  # fmt: skip
    yield Model(
        "GPT-4", 2023, 3, branch, "OpenAI", (), "closed",
        say("reads pictures too; reinforcement from people at scale"), ("ChatGPT",), "arXiv 2303.08774",
    )  # fmt: skip


def _later_decoders() -> Iterable[Model]:
    branch: Branch = "decoder"
    yield Model(
        "LLaMA", 2023, 2, branch, "Meta", ("7B", "13B", "33B", "65B"), "open",
        say("small models on many tokens of public text: RMSNorm, SwiGLU, rotary positions"),
        ("GPT-3", "PaLM", "Chinchilla"), "arXiv 2302.13971", ("llama-7b", "llama-13b", "llama-33b", "llama-65b"),
    )  # fmt: skip
    yield Model(
        "Pythia", 2023, 4, branch, "EleutherAI", ("14M", "70M", "160M", "410M", "6.9B", "12B"), "open",
        say("the same data in the same order at every size, with 154 checkpoints of each"), ("GPT-3",),
        "arXiv 2304.01373", ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-6.9b", "pythia-12b"),
    )  # fmt: skip
    yield Model(
        "LLaMA 2", 2023, 7, branch, "Meta", ("7B", "13B", "70B"), "open",
        say("two trillion tokens, twice the context, shared key heads at 70B; open dialogue models"), ("LLaMA",),
        "arXiv 2307.09288", ("llama-2-7b", "llama-2-13b", "llama-2-70b"),
    )  # fmt: skip
    yield Model(
        "Mistral", 2023, 9, branch, "Mistral AI", ("7B",), "open",
        say("shared key heads and a sliding window at 7B"), ("LLaMA 2",), "arXiv 2310.06825", ("mistral-7b",),
    )  # fmt: skip
    yield Model(
        "Qwen", 2023, 9, branch, "Alibaba", ("1.8B", "7B", "14B", "72B"), "open",
        say("Chinese and English; biases on queries, keys and values alone"), ("LLaMA",), "arXiv 2309.16609",
    )  # fmt: skip
    yield Model(
        "TinyLlama", 2024, 1, branch, "SUTD", ("1.1B",), "open",
        say("LLaMA's blocks at 1.1B on three trillion tokens"), ("LLaMA 2",), "arXiv 2401.02385", ("tinyllama-1.1b",),
    )  # fmt: skip
    yield Model(
        "OLMo", 2024, 2, branch, "Ai2", ("1B", "7B"), "open",
        say("everything open: data, code, logs, checkpoints"), ("LLaMA",), "arXiv 2402.00838",
    )  # fmt: skip
    yield Model(
        "Gemma", 2024, 2, branch, "Google", ("2B", "7B"), "open",
        say("wide heads, a GELU gate, a vocabulary of 256,000"), ("LLaMA", "PaLM"), "arXiv 2403.08295",
        ("gemma-2b", "gemma-7b"),
    )  # fmt: skip


def _latest_decoders() -> Iterable[Model]:
    branch: Branch = "decoder"
    yield Model(
        "Llama 3", 2024, 4, branch, "Meta", ("8B", "70B", "405B"), "open",
        say("fifteen trillion tokens, a vocabulary of 128,000; in 3.1 a rotation stretched to 128,000 tokens"),
        ("LLaMA 2",), "arXiv 2407.21783",
        ("llama-3-8b", "llama-3-70b", "llama-3.1-8b", "llama-3.1-405b", "llama-3.2-1b"),
    )  # fmt: skip
    yield Model(
        "Infini-Transformer", 2024, 4, branch, "Google", ("1B", "8B"), "closed",
        say("a compressive memory inside attention: any length in constant memory"), ("Transformer-XL",),
        "arXiv 2404.07143",
    )  # fmt: skip
    yield Model(
        "Qwen2", 2024, 6, branch, "Alibaba", ("0.5B", "1.5B", "7B", "72B"), "open",
        say("shared key heads at every size"), ("Qwen",), "arXiv 2407.10671", ("qwen2-0.5b", "qwen2-7b"),
    )  # fmt: skip
    yield Model(
        "SmolLM", 2024, 7, branch, "Hugging Face", ("135M", "360M", "1.7B"), "open",
        say("very small models on chosen text"), ("LLaMA",), "huggingface.co/blog/smollm",
    )  # fmt: skip
    yield Model(
        "SmolLM2", 2024, 11, branch, "Hugging Face", ("135M", "360M", "1.7B"), "open",
        say("the same shapes, eleven trillion tokens for the largest"), ("SmolLM",), "arXiv 2502.02737",
        ("smollm2-135m", "smollm2-360m", "smollm2-1.7b"),
    )  # fmt: skip
    yield Model(
        "Gemma 3", 2025, 3, branch, "Google", ("270M", "1B", "4B", "12B", "27B"), "open",
        say("five layers with a window to one without; norms on both sides of each part"), ("Gemma",),
        "arXiv 2503.19786", ("gemma-3-270m", "gemma-3-1b"),
    )  # fmt: skip
    yield Model(
        "Qwen3", 2025, 4, branch, "Alibaba", ("0.6B", "8B", "32B", "235B"), "open",
        say("normalised queries and keys instead of biases; thinks aloud when asked"), ("Qwen2",), "arXiv 2505.09388",
        ("qwen3-0.6b", "qwen3-8b"),
    )  # fmt: skip


LINEAGE: Mapping[str, Model] = {
    model.name: model
    for model in sorted(
        (*_encoders(), *_both(), *_first_decoders(), *_later_decoders(), *_latest_decoders()),
        key=lambda model: (model.date, model.name),
    )
}
"""Every model by name, oldest first."""


def lineage(branch: str | None = None) -> tuple[Model, ...]:
    """The models of a branch, or all, oldest first; raises UnknownName for another word."""
    if branch is not None and branch not in BRANCHES:
        raise UnknownName("branch", branch, BRANCHES, next_command="glassworks tree")
    return tuple(model for model in LINEAGE.values() if branch in (None, model.branch))


def drawn_under(model: Model) -> str | None:
    """The model that the tree draws this one under: its first parent, where that is on the same branch."""
    first = next(iter(model.parents), None)
    return first if first is not None and LINEAGE[first].branch == model.branch else None
