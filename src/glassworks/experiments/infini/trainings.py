"""The trainings of the Infini study: models of a book, and the stages of the passkey recipe (infini.md 2, 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glassworks.experiments.infini.probes import GATES
from glassworks.mixers import AnyMixer, Infini, Linear, Local, Memorizing, Mesa, SlidingWindow, Softmax, TransformerXL
from glassworks.models.spec import RecurrentMemorySpec, TransformerSpec
from glassworks.tasks import Facts, Passkey, TextWindows
from glassworks.training.schedules import ClipNorm, WarmupCosine
from glassworks.training.spec import AdamW, ExtraLoss, Pace, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.infini.spec import InfiniAttention

BYTES = 256
GATE_PATTERN = "*.mixer.gate"
DECAY = 0.1
# First tokens that a sliding window never lets go of.
SINKS = 4
# The models of the book that are compared, in the order of the table; "infini, longer" reads sequences twice as long.
LANGUAGE_MODELS = (
    "infini", "infini delta", "local", "transformer-xl", "memorizing", "rmt", "full", "mesa", "gated linear", "window",
    "infini, longer",
)  # fmt: skip
GATE_SETTINGS = ("shared", "own rate", "own rate, decay")
# What no claim about the paper needs, and may have fewer seeds.
COMPARATORS = ("window", "gated linear", "mesa")


def trainings(study: InfiniAttention, name: str) -> Mapping[str, TrainingSpec]:
    """The trainings of one study by label, "model/seed"; equal ones of two studies are made once."""
    match name:
        case "language":
            return {
                f"{model}/{seed}": language(study, model, seed)
                for model in LANGUAGE_MODELS
                for seed in study.seeds[: study.comparator_seeds if model in COMPARATORS else None]
            }
        case "gates":
            return {f"{s}/{seed}": _with_gates(study, s, seed) for s in GATE_SETTINGS for seed in study.seeds}
        case "passkey":
            stages = {f"{label}/{seed}": spec for seed in study.seeds for label, spec in _stages(study, seed).items()}
            return stages | _comparators(study)
        case "books":
            return {f"facts/{seed}": _facts(study, seed) for seed in study.seeds}
        case _:
            return {}


def model_of(study: InfiniAttention, label: str, segment: int, context: int) -> TransformerSpec:
    """The decoder of bytes that a label stands for; all have the same stream, heads and feed-forwards."""
    sums = label in ("mesa", "gated linear")
    sizes: dict[str, Any] = {
        "vocabulary": BYTES, "width": study.width, "depth": study.depth, "heads": study.heads, "norm": "layer",
        "feedforward": ("gelu",), "positions": "rotary", "embedding_scale": 0.3, "context": context,
        # What adds up without a softmax needs keys of bounded length, and its results brought to one scale.
        "query_key_norm": "l2" if sums else "none", "head_norm": sums,
        "score_scale": "softmax_only" if sums else "inverse_sqrt",
    }  # fmt: skip
    if label == "rmt":
        return RecurrentMemorySpec(**sizes, segment=segment, memory_tokens=study.memory_tokens)
    return TransformerSpec(**sizes, mixers=_mixers(study, label, segment))


def _mixers(study: InfiniAttention, label: str, segment: int) -> tuple[AnyMixer, ...]:
    match label:
        case "infini":
            return (Infini(segment=segment),)
        case "infini delta":
            return (Infini(segment=segment, write="delta"),)
        case "local":
            return (Local(segment=segment),)
        case "transformer-xl":
            return (TransformerXL(segment=segment),)
        case "memorizing":
            # Of twelve layers the published model searches in the ninth: three quarters of the way up.
            searching = min(study.depth - 1, study.depth * 3 // 4)
            cached, search = TransformerXL(segment=segment), Memorizing(segment=segment, neighbours=study.neighbours)
            return tuple(search if layer == searching else cached for layer in range(study.depth))
        case "full":
            return (Softmax(),)
        case "mesa":
            # One layer that solves above layers that sum: solving is several times dearer.
            solving = Mesa(regulariser="diagonal", floor=0.25, keep="with_regulariser", write=True)
            return (*(Linear(keep=True),) * (study.depth - 1), solving)
        case "gated linear":
            return (Linear(keep=True),)
        case _:
            return (SlidingWindow(window=study.window, sinks=SINKS),)


def language(study: InfiniAttention, label: str, seed: int, paces: tuple[Pace, ...] | None = None) -> TrainingSpec:
    """A model of the book; gates learn at a rate of their own, without decay, unless said otherwise."""
    longer = 2 if label.endswith("longer") else 1
    length = study.text_length * longer
    kind = label.partition(",")[0]
    has_gates = kind in ("infini", "infini delta", "memorizing")
    if paces is None:
        paces = (Pace(pattern=GATE_PATTERN, factor=study.gate_factor, weight_decay=0.0),) if has_gates else ()
    return TrainingSpec(
        task=TextWindows.of(study.text_path(), length=length),
        model=model_of(study, kind, study.segment, length),
        optimiser=AdamW(rate=study.text_rate, betas=(0.9, 0.95), weight_decay=DECAY),
        schedule=WarmupCosine(warmup=study.text_steps // 10, until=study.text_steps, final=study.text_rate / 10),
        clip=ClipNorm(limit=1.0), steps=study.text_steps, batch=max(1, study.text_batch // longer), paces=paces,
        probe=GATES if has_gates else "none", probe_every=study.probe_every, precision="float32", seed=seed,
    )  # fmt: skip


def _with_gates(study: InfiniAttention, setting: str, seed: int) -> TrainingSpec:
    match setting:
        case "shared":
            return language(study, "infini", seed, ())
        case "own rate":
            return language(study, "infini", seed)
        case _:
            return language(study, "infini", seed, (Pace(pattern=GATE_PATTERN, factor=study.gate_factor),))


def _stage(
    study: InfiniAttention, task: Passkey | Facts, model: TransformerSpec, seed: int, **changes: Any
) -> TrainingSpec:
    """One stage of the recipe: as many bytes per step in all, whatever the length."""
    rate, steps = changes.pop("rate"), max(2, round(study.passkey_steps * changes.pop("share")))
    has_gates = any(isinstance(mixer, Infini) for mixer in model.mixers)
    return TrainingSpec(
        task=task, model=model, optimiser=AdamW(rate=rate, betas=(0.9, 0.98), weight_decay=0.0),
        schedule=WarmupCosine(warmup=min(50, steps // 4), until=steps, final=rate * changes.pop("final")),
        clip=ClipNorm(limit=1.0), steps=steps, batch=max(1, study.passkey_batch * 4 * study.passkey_segment // task.length),
        loss_on="key", extra_losses=(ExtraLoss(mask="all", weight=0.5),),
        paces=(Pace(pattern=GATE_PATTERN, factor=3.0),) if has_gates else (),
        probe=GATES if has_gates else "none", probe_every=study.probe_every, precision="float32", seed=seed, **changes,
    )  # fmt: skip


def _passkey(study: InfiniAttention, segments: int, **changes: Any) -> Passkey:
    return Passkey(length=segments * study.passkey_segment, segment=study.passkey_segment, **changes)


def _stages(study: InfiniAttention, seed: int) -> dict[str, TrainingSpec]:
    """Memory first, then virtual length, then each write rule; beside it the same without virtual length (infini.md 7)."""
    model = model_of(study, "infini", study.passkey_segment, 16 * study.passkey_segment)
    delta = model_of(study, "infini delta", study.passkey_segment, 16 * study.passkey_segment)
    u = study.virtual
    first = _stage(study, _passkey(study, 3), model, seed, rate=2e-3, share=1.0, final=0.3)
    virtual = _stage(
        study, _passkey(study, 4, earlier=0.8, virtual=u), model, seed, rate=1.5e-3, share=2 / 3, final=0.1, start_from=first
    )  # fmt: skip
    last: dict[str, Any] = {"rate": 7e-4, "share": 0.25, "final": 0.05}
    task = _passkey(study, 8, earlier=0.7, virtual=u)
    real = _stage(
        study, _passkey(study, 8, earlier=0.8), model, seed, rate=1.5e-3, share=2 / 3, final=0.1, start_from=first
    )
    longest = _passkey(study, 16, earlier=0.7)
    return {
        "first": first,
        "virtual": virtual,
        "linear": _stage(study, task, model, seed, start_from=virtual, **last),
        "delta": _stage(study, task, delta, seed, start_from=virtual, **last),
        "real first": real,
        "real": _stage(study, longest, model, seed, start_from=real, **last),
        "real delta": _stage(study, longest, delta, seed, start_from=real, **last),
    }


def _comparators(study: InfiniAttention) -> dict[str, TrainingSpec]:
    """Other mixers through the first stage, as dear as all that the "first" model has seen."""
    context = 16 * study.passkey_segment
    models = {label: model_of(study, label, study.passkey_segment, context) for label in COMPARATORS}
    return {
        f"{label}/{seed}": _stage(study, _passkey(study, 3), model, seed, rate=2e-3, share=1.0, final=0.3)
        for label, model in models.items()
        for seed in study.seeds[: study.comparator_seeds]
    }


def _facts(study: InfiniAttention, seed: int) -> TrainingSpec:
    """The passkey model with linear writes goes on to facts."""
    before = _stages(study, seed)["linear"]
    task = Facts(length=4 * study.passkey_segment, segment=study.passkey_segment, virtual=study.facts_virtual)
    share = study.facts_steps / study.passkey_steps
    assert isinstance(before.model, TransformerSpec), "the passkey model reads tokens"
    return _stage(study, task, before.model, seed, rate=2e-3, share=share, final=0.05, start_from=before)
