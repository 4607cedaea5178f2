"""--estimate: memory and time of a command before its model is loaded, from config, headers and a short measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import run_of
from glassworks.cli.speak import doing, duration_words, new_table, print_json, results, size_words
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glassworks.anatomy import Subject
    from glassworks.anatomy.subject import Prompt
    from glassworks.cli.options import Examine, Surgery
    from glassworks.instruments import Instrument
    from glassworks.instruments.estimate import Need
    from glassworks.surgery.trial import TrialChoice


@dataclass(frozen=True)
class Job:
    """What a command would do with its model, and the prompt that it reads; `is_whole` where it names layers."""

    work: Callable[[Subject, Callable[[Text], None]], object]
    prompt: Prompt | None
    is_whole: bool


def examining(command: Examine, prompt: Prompt | None, instruments: Sequence[Instrument]) -> Job:
    """The look of `examine`, its report written and thrown away."""
    from glassworks.instruments.estimate import saved
    from glassworks.instruments.examine import batch_of
    from glassworks.instruments.examine import examine as look

    if command.keep_activations is not None:
        raise InvalidInput(
            say("--estimate tells of a look at one text; with --keep-activations memory is that of one window"),
            right=say("--estimate without --keep-activations, with --window and --limit for the length of the text"),
        )
    if prompt is None:
        raise InvalidInput(
            say("an estimate needs the text that will be read"), right=say("--text, --text-file or --tokens")
        )
    is_cut = command.window is not None or command.limit is not None

    def work(subject: Subject, tell: Callable[[Text], None]) -> Any:
        whole = "\n\n".join(map(str, prompt)) if isinstance(prompt, list) and isinstance(prompt[0], str) else prompt
        cut = isinstance(whole, str | list) and is_cut
        read = subject.windows(whole, command.window, command.limit) if cut else batch_of(subject, prompt)  # pyright: ignore[reportArgumentType] - a text or one row of ids, as typed
        return look(subject, read, instruments, seed=command.seed, tell=tell)

    return Job(saved(work), prompt, is_whole=False)


def operating(command: Surgery, choice: TrialChoice, protected: tuple[int, ...] | None) -> Job:
    """The trial of `surgery`."""

    def work(subject: Subject, tell: Callable[[Text], None]) -> object:
        from glassworks.cli.surgery import tried

        return tried(subject, command.plan, choice, protected, tell)

    prompt = choice.prompt
    return Job(work, list(prompt) if isinstance(prompt, tuple) else prompt, is_whole=True)


def estimated(command: Examine | Surgery, job: Job) -> int:
    """Measures and prints; nothing is loaded and nothing kept."""
    with doing(quiet=command.json) as tell:
        tell(say("measuring this machine on a thin twin of the model"))
        need = need_of(command, job)
    if command.json:
        print_json({"estimate": need.to_json()})
        return 0
    table = new_table(say("estimate"), need.source)
    for name, value in _rows(need):
        table.add_row(str(name), value)
    results().print(table)
    return 0


def need_of(command: Examine | Surgery, job: Job) -> Need:
    """What the command will take."""
    from glassworks.anatomy import Origin, Subject
    from glassworks.experiments.finding import experiment_of
    from glassworks.experiments.results import main_model
    from glassworks.instruments.estimate import estimate
    from glassworks.models.announced import announced
    from glassworks.models.folders import tokenizer_in
    from glassworks.models.placement import Placement
    from glassworks.models.pretrained import Wanted, pretrained_tokenizer
    from glassworks.tensors.devices import choose_device, choose_dtype

    placement = Placement(command.device, command.device_map, command.max_memory, command.offload, command.bits)
    here = choose_device(placement.device)
    dtype = choose_dtype(command.dtype, here)
    run = run_of(command.source, Path(command.out))
    source = command.source if run is None else str(main_model(experiment_of(run), run))
    wanted = Wanted(dtype, here, trust_remote_code=command.trust_remote_code)
    known = announced(source, wanted)
    folder = Path(known.source)
    has_tokenizer = tokenizer_in(folder) if folder.is_dir() else isinstance(job.prompt, str)
    tokenizer = pretrained_tokenizer(known.source, wanted) if has_tokenizer else None

    def begin(model: Any) -> Subject:
        return Subject.of(model, tokenizer, origin=Origin(command.source))

    return estimate(known, begin, job.work, (dtype, placement), job.is_whole)


def _rows(need: Need) -> list[tuple[Text, str]]:
    words = {
        "starting": say("starting, and reading the libraries"),
        "loading": say("loading the weights"),
        "layers": say("products of the layers"),
        "head": say("products of the head"),
        "rest": say("all the rest: hooks, lenses, drawing, writing"),
    }
    return [
        (say("parameters"), f"{need.parameters:,}"),
        (say("weights in memory"), size_words(need.weights)),
        (say("libraries in memory"), size_words(need.base)),
        (say("working memory"), size_words(need.working)),
        (say("memory at the most"), size_words(need.peak_bytes)),
        (say("processor time, all threads"), duration_words(need.seconds)),
        (say("time by the clock, as busy as it is now"), duration_words(need.wall)),
        *((words[name], duration_words(cpu)) for name, (cpu, _) in need.parts.items()),
        (say("this measurement took"), duration_words(need.calibration)),
    ]
