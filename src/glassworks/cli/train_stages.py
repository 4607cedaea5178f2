"""train STAGE: a tokenizer, a pretrained model, and what comes after, each from the folder that the stage before left."""

from __future__ import annotations

import math
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.live import shown
from glassworks.cli.options_train import Train
from glassworks.cli.processes import started, tell_how_to_go_on
from glassworks.cli.speak import duration_words, new_table, print_json, results
from glassworks.core.events import EventLog, Listener
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.training.stages.base import StageDone, StageSpec
    from glassworks.training.stages.tokenizer import Spelled

# Stage -> the command that usually follows on its folder.
_NEXT = {
    "tokenizer": "glassworks train pretrain TEXT --start {folder}",
    "pretrain": "glassworks train sft DEMONSTRATIONS.json --start {folder}",
    "sft": "glassworks train reward PREFERENCES.json --start {folder}",
    "reward": "glassworks train ppo PROMPTS.json --start SFT_FOLDER reward={folder}",
}
_LATER = "glassworks examine {folder}"
# What of done.json is shown as a rate or a share of one.
_BESIDE = "beside"


def train_stage(command: Train) -> int:
    """Runs a stage, shows it, says where its folder lies; returns 0, or 130 after Ctrl-C with the command that goes on."""
    from glassworks.tensors.processes import world
    from glassworks.training.stages.recipes import stage_of

    words = [word for word in command.settings if not word.startswith(f"{_BESIDE}=")]
    asked = [word.partition("=")[2] for word in command.settings if word.startswith(f"{_BESIDE}=")]
    spec = stage_of(command.task, words, command.preset, command.start)
    # One that is found needs no processes, and one that cannot be is refused before they start.
    if not (command.launch > 1 and _is_finished(spec, command)) and (code := started(command)) is not None:
        return code
    is_first = world().is_first
    try:
        with shown(f"glassworks train {spec.kind}") if is_first else nullcontext() as listener:
            done = staged(spec, command, () if listener is None else (listener,))
    except KeyboardInterrupt:
        tell_how_to_go_on(command)
        return 130
    if not is_first:
        return 0
    others = _beside(spec, done, ",".join(asked)) if asked else {}
    _show(spec, done, others, as_json=command.json)
    return 0


def staged(spec: StageSpec, command: Train, listeners: tuple[Listener, ...] = ()) -> StageDone:
    """Runs the stage of a spec below `out`/store, or finds the equal one that lies there."""
    from glassworks.tensors.devices import choose_device
    from glassworks.tensors.processes import joined
    from glassworks.training.stages.base import LearningSpec, StageOptions, run_stage

    if command.track is not None:
        from glassworks.training.stages.tracking import check_tracker

        check_tracker(command.track)
    here = choose_device(command.device)
    events = EventLog()
    for listener in listeners:
        events.listen(listener)
    steps = spec.steps if isinstance(spec, LearningSpec) else 1
    # A twentieth of the way is the most that Ctrl-C or a crash can cost.
    options = StageOptions(
        store=Path(command.out) / "store", device=here, checkpoint_every=max(1, min(100, steps // 20)),
        compile=here.type == "cuda", track=command.track, any_start=command.any_start, shard=command.shard,
    )  # fmt: skip
    with joined(here, command.patience):
        return run_stage(spec, options, events)


def _is_finished(spec: StageSpec, command: Train) -> bool:
    """Whether an equal stage lies in the store; InvalidInput for a start that lacks what comes before."""
    from glassworks.training.stages.base import check_start, stage_file
    from glassworks.training.stages.folder import DONE

    check_start(spec, any_start=command.any_start)
    return (Path(command.out) / "store" / stage_file(spec).digest / DONE).is_file()


def _beside(spec: StageSpec, done: StageDone, named: str) -> dict[str, Spelled]:
    """How this tokenizer and published ones spell the same text; InvalidInput for another stage."""
    from transformers import AutoTokenizer

    from glassworks.core.errors import InvalidInput, UnknownName
    from glassworks.training.stages.tokenizer import PUBLISHED, TokenizerSpec, beside, finished, published

    if not isinstance(spec, TokenizerSpec):
        raise InvalidInput(say("only tokenizers are compared side by side"), given=f"{_BESIDE}={named}")
    names = [name for name in named.split(",") if name]
    for name in names:
        if name not in PUBLISHED:
            raise UnknownName("tokenizer", name, PUBLISHED)
    own: Any = AutoTokenizer.from_pretrained(done.path)
    return beside(spec.corpus, {spec.algorithm: own} | {name: finished(published(name)) for name in names})


def _show(spec: StageSpec, done: StageDone, others: dict[str, Spelled], *, as_json: bool) -> None:
    """What the stage did; its folder is the last line of stdout."""
    following = _following(spec).format(folder=shlex.quote(str(done.path)))
    if as_json:
        print_json(
            {
                "stage": spec.kind,
                "model": str(done.path),
                "facts": {name: _finite(value) for name, value in done.facts.items()},
                "beside": {name: found.facts for name, found in others.items()},
                "seconds": round(done.seconds, 2),
                "reused": done.reused,
                "next": following,
                "spec": spec.to_json(),
            }
        )
        return
    console = results()
    table = new_table(say("stage"), spec.kind)
    for name, value in done.facts.items():
        table.add_row(str(_named(name)), _value(value))
    found = say("found in the store") if done.reused else say("done in {time}", time=duration_words(done.seconds))
    table.add_row(str(say("time")), str(found))
    console.print(table)
    if others:
        console.print(_comparison(others))
    console.print(str(say("Next:")))
    console.print(f"  {following}", soft_wrap=True)
    console.print(
        str(say("The tokenizer's folder:") if spec.kind == "tokenizer" else say("The model, a Hugging Face folder:"))
    )
    print(done.path)


def _following(spec: StageSpec) -> str:
    """The command that follows: conversations are for decoders alone."""
    from glassworks.models.spec import TransformerSpec
    from glassworks.training.stages.pretrain import PretrainSpec

    is_other = isinstance(spec, PretrainSpec) and not isinstance(spec.model, TransformerSpec)
    return _LATER if is_other else _NEXT.get(spec.kind, _LATER)


def _comparison(others: dict[str, Spelled]) -> Any:
    table = new_table(
        say("tokenizer"), say("tokens"), say("characters per token"), say("bytes per token"), say("comes back exactly")
    )
    for name, found in others.items():
        exact = say("yes") if not found.differing else say("no: {count} unknown", count=found.unknown)
        facts = found.facts
        table.add_row(
            name,
            f"{found.tokens:,}",
            f"{facts['characters_per_token']:.3f}",
            f"{facts['bytes_per_token']:.3f}",
            str(exact),
        )
    return table


def _named(fact: str) -> Text | str:
    """The words for a fact of done.json; names of measures as they are."""
    return {
        "held_out_loss": say("loss on held-out text, nats per token"),
        "bits_per_byte": say("bits per byte on held-out text"),
        "parameters": say("parameters"),
        "tokens_seen": say("tokens seen"),
        "characters_per_token": say("characters per token"),
        "bytes_per_token": say("bytes per token"),
        "unknown": say("unknown characters"),
        "differing": say("pieces that do not come back exactly"),
        "preparation_seconds": say("seconds for spelling the text"),
    }.get(fact, fact.replace("_", " "))


def _value(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    is_whole = math.isfinite(value) and value == int(value)
    return f"{int(value):,}" if is_whole else f"{value:.4g}"


def _finite(value: float | int | str) -> float | int | str | None:
    return value if isinstance(value, str) or math.isfinite(value) else None
