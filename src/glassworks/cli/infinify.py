"""infinify: a pretrained softmax decoder with a memory of fixed size, trained on a text to use it."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import load
from glassworks.cli.live import shown
from glassworks.cli.options_stream import Infinify
from glassworks.cli.reproduce import go_offline, typed_command
from glassworks.cli.speak import duration_words, new_table, print_json, remarks, results
from glassworks.cli.stream import decoder_of
from glassworks.core.errors import InvalidInput
from glassworks.core.events import EventLog, Listener
from glassworks.core.files import filling_folder, read_json, refuse_unwritable, write_json, writing
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.mixers import Infini
    from glassworks.training.continual import Continual

# Written last: a folder without it is not finished.
DONE, WORK = "infinify.json", ".infinify"
_SEGMENTS = 4


@dataclass(frozen=True, eq=False)
class Infinified:
    """A decoder with a memory, where it lies, and what its training on a text brought.

    `losses` are nats per token on the held-out tenth of the text, by segment of the sequence: of the model as it was
    ("original", all earlier tokens in view; absent where sequences are longer than its context), with the untrained memory
    ("before"), trained ("after"), and trained but with the memory shut ("closed"). Empty where there was no training.
    """

    path: Path
    spec: Infini
    training: Continual | None
    losses: Mapping[str, tuple[float, ...]] = field(repr=False)
    gates: tuple[float, ...] = field(repr=False)
    """The weight of the memory, sigmoid of the gate, of every head of every layer."""
    seconds: float
    reused: bool

    def load(self, device: str = "auto") -> Subject:
        """The model as a Subject."""
        return load(self.path, device=device)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": str(self.path),
            "spec": self.spec.to_json(),
            "training": None if self.training is None else self.training.to_json(),
            "losses": {name: list(values) for name, values in self.losses.items()},
            "gates": [round(gate, 4) for gate in self.gates],
            "seconds": round(self.seconds, 2),
            "reused": self.reused,
        }


def infinify(command: Infinify) -> int:
    """Converts, trains where a text is given, tells; returns 0, or 130 after Ctrl-C with the command that goes on."""
    go_offline(command.offline)
    refuse_unwritable(Path(command.out) / DONE)
    from glassworks.mixers import Infini

    spec = Infini(segment=command.segment, write=command.write, first=command.first, gate_start=command.gate_start)
    subject = load(
        command.source, device=command.device, dtype=command.dtype, trust_remote_code=command.trust_remote_code
    )
    wanted = {
        "steps": command.steps, "length": command.length, "batch": command.batch, "rate": command.rate,
        "gate_rate": command.gate_rate, "seed": command.seed,
    }  # fmt: skip
    try:
        with shown(f"glassworks infinify {command.source} · {command.out}") as listener:
            made = infinified(subject, spec, Path(command.out), command.text, wanted, (listener,))
    except KeyboardInterrupt:
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {typed_command(sys.argv[1:])}", file=sys.stderr)
        return 130
    if command.json:
        print_json(made.to_json())
        return 0
    _show(made)
    return 0


def infinified(
    subject: Subject,
    spec: Infini,
    out: Path,
    text: str | Path | None = None,
    wanted: Mapping[str, Any] | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Infinified:
    """Writes the converted model of a subject into `out`; an equal one that is finished there is not made again.

    With a text it is trained first; `wanted` are the fields of `Continual` by name. A model of the library's classes is
    changed in place. Raises InvalidInput where the folder holds something else or the model cannot be converted.
    """
    from glassworks.models.memory_files import weights_digest
    from glassworks.models.text_pieces import Source
    from glassworks.training.continual import Continual, TextTokens

    begun, model = time.perf_counter(), decoder_of(subject)
    settings: dict[str, Any] = {"length": _SEGMENTS * max(spec.segment, 2)}
    settings |= {name: value for name, value in (wanted or {}).items() if value is not None}
    tokens = None
    training = None
    if text is not None:
        # The settings are checked before a long text is read.
        Continual(sha256="", **settings)
        tokens = TextTokens.of(Source.of(text), subject.tokenizer, int(settings["length"]))
        training = Continual(sha256=tokens.sha256, **settings)
    identity = {
        "weights": weights_digest(model), "spec": spec.identity(), "training": None if training is None else training.identity(),
    }  # fmt: skip
    if (found := _finished(out, identity)) is not None:
        # A process that was killed between its last two acts left it.
        shutil.rmtree(out / WORK, ignore_errors=True)
        kept = read_json(found)["result"]
        losses = {name: tuple(values) for name, values in kept["losses"].items()}
        return Infinified(out, spec, training, losses, tuple(kept["gates"]), time.perf_counter() - begun, reused=True)
    events = EventLog()
    for listener in listeners:
        events.listen(listener)
    changed, losses = _worked(model, spec, out / WORK, tokens, training, events)
    made = Infinified(out, spec, training, losses, _opened(changed), time.perf_counter() - begun, reused=False)
    _save(changed, subject, out)
    write_json(out / DONE, {"identity": identity, "result": made.to_json()})
    shutil.rmtree(out / WORK, ignore_errors=True)
    return made


def _worked(
    model: Any, spec: Infini, folder: Path, tokens: Any, training: Continual | None, events: EventLog
) -> tuple[Any, dict[str, tuple[float, ...]]]:
    """The converted model, trained where there is a text, and the held-out losses along the way."""
    from glassworks.models.infinify import infinify as convert

    if training is None:
        return convert(model, spec), {}
    from glassworks.training.continual import closed, continue_training, losses_by_position

    judged = tokens.judged(training.length)
    losses: dict[str, tuple[float, ...]] = {}
    longest = model.config.get_text_config(decoder=True).to_dict().get("max_position_embeddings")
    if not isinstance(longest, int) or training.length <= longest:
        losses["original"] = _by_segment(losses_by_position(model, judged, training.batch), spec.segment)
    changed = convert(model, spec)
    losses["before"] = _by_segment(losses_by_position(changed, judged, training.batch), spec.segment)
    continue_training(changed, tokens, training, folder, events)
    losses["after"] = _by_segment(losses_by_position(changed, judged, training.batch), spec.segment)
    with closed(changed):
        losses["closed"] = _by_segment(losses_by_position(changed, judged, training.batch), spec.segment)
    return changed, losses


def _by_segment(losses: Any, segment: int) -> tuple[float, ...]:
    """Means over sequences and over the tokens of each segment."""
    return tuple(round(float(part.mean()), 6) for part in losses.split(segment, 1))


def _opened(model: Any) -> tuple[float, ...]:
    from glassworks.models.infinify import gates_of

    return tuple(
        float(weight) for gate in gates_of(model).values() for weight in gate.detach().float().sigmoid().tolist()
    )


def _finished(out: Path, identity: Mapping[str, Any]) -> Path | None:
    """The record of an equal model that is finished in a folder; None for one that can be filled.

    Raises InvalidInput where the folder holds anything but an unfinished work of ours.
    """
    if (out / DONE).is_file():
        if read_json(out / DONE).get("identity") == identity:
            return out / DONE
        raise _occupied(out, "another model")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if out.exists() and names and WORK not in names:
        raise _occupied(out, ", ".join(names[:5]))
    return None


def _occupied(out: Path, given: str) -> InvalidInput:
    return InvalidInput(
        say("{folder} holds something else, which would be overwritten", folder=str(out)),
        given=given,
        right=say("an empty folder, or one that is not there yet, as --out"),
    )


def _save(model: Any, subject: Subject, out: Path) -> None:
    """Weights, config and tokenizer, filled aside and moved into the folder file by file."""
    from transformers import PreTrainedTokenizerBase

    from glassworks.models.quiet import quiet_bars

    # The mark of unfinished work of ours, also where there was no training.
    with writing(out):
        (out / WORK).mkdir(parents=True, exist_ok=True)
    with filling_folder(out) as aside:
        with quiet_bars():
            model.save_pretrained(aside)
        if isinstance(subject.tokenizer, PreTrainedTokenizerBase):
            subject.tokenizer.save_pretrained(aside)
        world = Path(subject.origin.source) / "world.json"
        if world.is_file():
            shutil.copyfile(world, aside / world.name)


def _show(made: Infinified) -> None:
    console = results()
    if made.losses:
        console.print(_table(made))
        opened = [gate for gate in made.gates if not 0.4 <= gate <= 0.6]
        console.print(
            str(
                say(
                    "Weight of the memory over {count} heads: {low} to {high}; {moved} of them are outside 0.4 to 0.6.",
                    count=len(made.gates), low=f"{min(made.gates):.2f}", high=f"{max(made.gates):.2f}", moved=len(opened),
                )
            )
        )  # fmt: skip
    found = say("found in the folder") if made.reused else say("done in {time}", time=duration_words(made.seconds))
    remarks().print(str(found))
    console.print(str(say("Next:")))
    console.print(f"  glassworks stream {shlex.quote(str(made.path))} --file FILE")
    console.print(str(say("The model, a Hugging Face folder:")))
    print(made.path)


def _table(made: Infinified) -> Any:
    """Held-out losses by segment, one column for each state of the model."""
    heads: dict[str, Text] = {
        "original": say("as it was, all tokens in view"),
        "before": say("with a memory, untrained"),
        "after": say("trained"),
        "closed": say("trained, memory shut"),
    }
    shown = [name for name in heads if name in made.losses]
    title = say("held-out loss, nats per token, by place in the sequence")
    table = new_table(say("tokens"), *(heads[name] for name in shown), title=title)
    assert made.training is not None, "losses come of a training"
    size = made.spec.segment
    for number in range(len(made.losses["after"])):
        last = min((number + 1) * size, made.training.length)
        values = [made.losses[name][number] for name in shown]
        cells = [f"{value:.3f}" if math.isfinite(value) else "–" for value in values]
        table.add_row(f"{number * size + 1}-{last}", *cells)
    return table
