"""Comparing two models: fidelity of both first, then predictions, layers, heads and weights on the same text."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from glassworks.anatomy.calls import not_finite
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput, StrangeModel
from glassworks.core.runs import describe_environment
from glassworks.core.text import say
from glassworks.evidence.statistics import Interval, wilson_interval
from glassworks.instruments.alignment import align, texts_of, written
from glassworks.instruments.base import PIECE_TOKENS, Reading, interval_over_texts, pieces
from glassworks.instruments.beside import heads_beside, predictions, text_losses
from glassworks.instruments.examine import anatomy_json, batch_of, peak_bytes
from glassworks.instruments.findings import Findings
from glassworks.instruments.head_scores import HeadScores
from glassworks.instruments.likeness import WHOLE, alikeness, stream_change, weight_change
from glassworks.instruments.pair import MODELS, Pair, States, Told, passes
from glassworks.instruments.repeated_tokens import FEWEST_TOKENS, RepeatedTokens
from glassworks.report.page import Page


@dataclass(frozen=True, eq=False)
class Comparison(Findings):
    """What tells two models apart on one text; shows itself in a notebook, saves itself as a page, tables or a folder.

    `readings` may hold predictions, losses, likeness, likeness_encoder, stream_change, head_scores, repeated_tokens and weight_change;
    `skipped` says of the others why they could not be made.
    """

    KIND = "comparison"
    pair: Pair
    fidelity: tuple[Fidelity, Fidelity]
    readings: Mapping[str, Reading]
    skipped: Mapping[str, GlassworksError]
    seconds: float
    peak_bytes: int
    seed: int = 0
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=describe_environment, repr=False)

    def page(self) -> Page:
        """The report as a value."""
        # Deferred: `compare_page` needs the values of this module.
        from glassworks.instruments.compare_page import page_of

        return page_of(self)

    def value(self, reading: str, **labels: str) -> float:
        """One number of a reading, NaN where it was not made."""
        if reading not in self.readings:
            return math.nan
        return float(self.readings[reading].measurement.at(**labels).values)

    @property
    def diagonal(self) -> list[float]:
        """CKA without sinks of equal layers (the embedding first), where both models have equally many."""
        if "likeness" not in self.readings:
            return []
        matrix = self.readings["likeness"].measurement.at(tokens="no sinks").values
        return matrix.diagonal().tolist() if matrix.shape[0] == matrix.shape[1] else []

    @property
    def largest_logit_difference(self) -> float:
        """Max |logit of B - logit of A| over all compared places; NaN where their vocabularies differ."""
        if "predictions" not in self.readings:
            return math.nan
        return float(self.readings["predictions"].measurement.values[:, 0].max())

    @property
    def apart(self) -> Mapping[str, Interval]:
        """Divergence, share of equal first tokens, loss of B minus loss of A, with 95 % intervals over places.

        Over texts where there are several; empty where the vocabularies differ.
        """
        if "predictions" not in self.readings:
            return {}
        _, divergence, same, first, second = self.readings["predictions"].measurement.values.T
        ends = np.cumsum([len(columns) for columns in self.pair.alignment.first])[:-1]
        means = {"divergence": divergence, "same_first_token": same, "loss_difference": second - first}
        found = {name: interval_over_texts(np.split(values, ends)) for name, values in means.items()}
        if not ends.size:
            found["same_first_token"] = wilson_interval(int(same.sum()), len(same))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data: both models, fidelity, how places were matched, the main numbers, what was skipped and why."""
        both = dict(zip(("a", "b"), range(2), strict=True))
        found = {
            "models": {name: _model_json(self.pair.subjects[side]) for name, side in both.items()},
            "fidelity": {name: self.fidelity[side].to_json() for name, side in both.items()},
            "tokens": {
                "same": self.pair.alignment.same_tokens,
                "compared": self.pair.alignment.count,
                **{name: self.pair.batches[side].ids.tolist() for name, side in both.items()},
            },
            "max_abs_logit_difference": self.largest_logit_difference,
            "predictions": {
                name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in self.apart.items()
            },
            "loss": {
                name: {
                    "per_token": self.value("losses", model=MODELS[side], quantity="loss per token"),
                    "per_character": self.value("losses", model=MODELS[side], quantity="loss per character"),
                }
                for name, side in both.items()
            },
            "cka_diagonal": self.diagonal,
            "weight_change": self.value("weight_change", part=WHOLE, group=WHOLE, quantity="relative change"),
            "readings": list(self.readings),
            "skipped": {name: str(problem.what) for name, problem in self.skipped.items()},
            "seconds": round(self.seconds, 2),
            "peak_bytes": self.peak_bytes,
            "seed": self.seed,
        }
        return _without_nan(found)

    def __repr__(self) -> str:
        first, second = (subject.origin.name for subject in self.pair.subjects)
        return f"Comparison({first!r}, {second!r}: {', '.join(self.readings) or '-'})"

    def _repr_html_(self) -> str:
        import html

        head = "".join(f"<li>{html.escape(str(line.says))}</li>" for line in self.page().summary)
        figures = "".join(reading._repr_html_() for reading in self.readings.values())  # pyright: ignore[reportPrivateUsage] - the notebook protocol
        return f"<ul>{head}</ul>{figures}"


def compare(first: Subject, second: Subject, prompt: Prompt, *, seed: int = 0, command: str = "") -> Comparison:
    """Checks the fidelity of both, then makes every reading that fits; what does not is skipped with its reason.

    `prompt` is a text or several (or token ids, then the same for both). The seed draws the random tokens on which
    induction is scored. Raises InvalidInput where a model cannot read the prompt or both share no place in it.
    """
    started = time.perf_counter()
    pairs = _pairs(first, second, prompt)
    pair = pairs[0]
    checks = [_checked(subject, batch) for subject, batch in zip(pair.subjects, pair.batches, strict=True)]
    readings: dict[str, Reading] = {}
    skipped: dict[str, GlassworksError] = {}
    for name, read in _readings(pairs, seed):
        try:
            readings[name] = read()
        except (InvalidInput, StrangeModel) as problem:
            skipped[name] = problem
    seconds = time.perf_counter() - started
    return Comparison(pair, (checks[0], checks[1]), readings, skipped, seconds, peak_bytes(first.device), seed, command)


def _checked(subject: Subject, batch: TokenBatch) -> Fidelity:
    found = Fidelity.check(subject, next(pieces(batch, PIECE_TOKENS)))
    if not math.isfinite(found.logit_difference):
        raise not_finite(subject.model)
    return found


def _pairs(first: Subject, second: Subject, prompt: Prompt) -> list[Pair]:
    """The two models run on the prompt: decoders (or the only stacks) first, then encoders where both have one.

    The decoders of encoder-decoders read what the first model writes for the prompt, unless the prompt says what.
    """
    subjects = (first, second)
    if first.anatomy.has_source != second.anatomy.has_source:
        raise InvalidInput(
            say("an encoder-decoder reads two texts, the other model one"),
            given=say("{first} and {second}", first=first.origin.name, second=second.origin.name),
            right=say("two models of one kind"),
        )
    sources, target = texts_of(prompt), None
    read = batch_of(first, prompt)
    if first.anatomy.has_source and sources:
        target = [written(first, ids) for ids in read.ids]
    elif first.anatomy.has_source:
        prompt = read
    texts = sources if target is None else tuple(target)
    batches = tuple(subject.batch(prompt, target=target) for subject in subjects)
    pairs = [Pair(subjects, texts, batches, align(first, second, texts, batches))]
    if all(subject.anatomy.encoder is not None for subject in subjects):
        given = tuple(batch.read_by_encoder for batch in batches)
        pairs.append(Pair(subjects, sources, given, align(first, second, sources, given), "encoder"))
    return pairs


def _readings(pairs: Sequence[Pair], seed: int) -> Sequence[tuple[str, Callable[[], Reading]]]:
    """Every reading by name, in the order of the report, after one pass of each model over every text."""
    pair = pairs[0]
    told, states = Told(pair), [States(one) for one in pairs]
    for seen in passes(pair.subjects, pair.batches, [one.stack for one in pairs]):
        for kept in (told, *states):
            kept.add(seen)
    return (
        ("predictions", partial(predictions, pair, told)),
        ("losses", partial(text_losses, pair, told)),
        ("likeness", partial(alikeness, states[0])),
        *(("likeness_encoder", partial(alikeness, other, "likeness_encoder")) for other in states[1:]),
        ("stream_change", partial(stream_change, states[0])),
        ("head_scores", partial(_head_scores, pair)),
        ("repeated_tokens", partial(_repeated_tokens, pair, seed)),
        ("weight_change", partial(weight_change, pair)),
    )


def _head_scores(pair: Pair) -> Reading:
    found = [HeadScores().read(subject, batch) for subject, batch in zip(pair.subjects, pair.batches, strict=True)]
    return heads_beside(pair, "head_scores", say("Head scores side by side"), (found[0], found[1]))


def _repeated_tokens(pair: Pair, seed: int) -> Reading:
    for subject in pair.subjects:
        anatomy = subject.anatomy
        if not anatomy.causal or anatomy.has_source or anatomy.vocabulary < FEWEST_TOKENS:
            raise InvalidInput(
                say(
                    "repeated random tokens need models that read one text, do not look ahead and have at least {count} tokens",
                    count=FEWEST_TOKENS,
                )
            )
    found = [
        RepeatedTokens(seed=seed).read(subject, batch)
        for subject, batch in zip(pair.subjects, pair.batches, strict=True)
    ]
    return heads_beside(
        pair, "repeated_tokens", say("Head scores side by side, on random tokens said twice"), (found[0], found[1])
    )


def _model_json(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.origin.name,
        "source": subject.origin.source,
        "revision": subject.origin.revision,
        "class": type(subject.model).__name__,
        "parameters": subject.parameter_count,
        "anatomy": anatomy_json(subject),
    }


def _without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    match value:
        case dict():
            return {key: _without_nan(part) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType] - any JSON
        case list():
            return [_without_nan(part) for part in value]  # pyright: ignore[reportUnknownVariableType] - any JSON
        case float() if not np.isfinite(value):
            return None
        case _:
            return value
