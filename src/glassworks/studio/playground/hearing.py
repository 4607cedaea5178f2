"""Does what the page says: each kind of message is one function. What cannot be raises GlassworksError and changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.studio.playground import messages as said
from glassworks.studio.playground.address import settings_of_hash
from glassworks.studio.playground.data import make_data
from glassworks.studio.playground.program import program
from glassworks.studio.playground.saved import restored, saved
from glassworks.studio.playground.session import Goal, Session, Which
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer


def hear(session: Session, message: said.Message) -> None:
    """Does it, at once; only training itself is left to `Session.work`."""
    if not session.trainers and not isinstance(message, said.Open | said.Import | said.Ack):
        raise InvalidInput(say("the first message opens a network"), right=say("open, then the others"))
    _HEARD[type(message)](session, message)


def _ack(session: Session, message: said.Ack) -> None:
    session.acknowledge(message.frame)


def _open(session: Session, message: said.Open) -> None:
    notes: tuple[Text, ...] = ()
    given, other = message.settings, message.other
    if message.hash is not None:
        read = settings_of_hash(message.hash)
        notes, given = read.notes, read.settings.to_json()
        other = None if read.other is None else read.other.to_json()
    first = _seeded(PlaygroundSettings.parse(given))
    _build(session, first, None if other is None else _on_the_data_of(first, other), notes)


def _build(
    session: Session, first: PlaygroundSettings, second: PlaygroundSettings | None, notes: tuple[Text, ...] = ()
) -> None:
    data = make_data(first)
    made: dict[Which, Trainer] = {"a": Trainer(first, data)}
    if second is not None:
        made["b"] = Trainer(second, data)
    session.begin(made, notes)


def _set(session: Session, message: said.Set) -> None:
    if message.which == "b":
        _second(session, "b")
    # Which field is wrong is said before anything is compared.
    PlaygroundSettings.parse(message.settings)
    of_data = {name: value for name, value in message.settings.items() if name in PlaygroundSettings.of_data}
    before: dict[Which, PlaygroundSettings] = {w: trainer.settings for w, trainer in session.trainers.items()}
    after: dict[Which, PlaygroundSettings] = {
        which: _changed(settings, message.settings if message.which in (which, "both") else of_data)
        for which, settings in before.items()
    }
    if after == before:
        return
    if _differ(before["a"], after["a"], PlaygroundSettings.of_data):
        first = _seeded(after["a"])
        if message.keep and all(_fits(before[which], after[which]) for which in before):
            fitting: dict[Which, PlaygroundSettings] = {
                which: _on_the_data_of(first, found.to_json()) for which, found in after.items()
            }
            _give_points(session, fitting)
            return
        _build(session, first, _on_the_data_of(first, after["b"].to_json()) if "b" in after else None)
        return
    made: dict[Which, Trainer] = {}
    for which, trainer in session.trainers.items():
        is_live = not _differ(
            before[which], after[which], set(PlaygroundSettings.model_fields) - PlaygroundSettings.live
        )
        if is_live:
            trainer.use(after[which])
        made[which] = trainer if is_live else Trainer(after[which], trainer.data)
    if made == session.trainers:
        session.tell_anew()
    else:
        session.begin(made)


def _compare(session: Session, message: said.Compare) -> None:
    if message.settings is None:
        session.trainers.pop("b", None)
        session.tell_anew()
        return
    first = session.trainers["a"]
    other = _on_the_data_of(first.settings, first.settings.to_json() | message.settings)
    # Both begin at epoch 0, so that their curves can be laid over each other.
    session.begin({"a": Trainer(first.settings, first.data, first.first), "b": Trainer(other, first.data)})


def _run(session: Session, message: said.Run) -> None:
    _need_points(session)
    session.start()


def _pause(session: Session, message: said.Pause) -> None:
    session.halt()


def _step(session: Session, message: said.Step) -> None:
    _need_points(session)
    session.halt()
    if message.unit == "epoch":
        session.epochs_left = message.count
        return
    for _ in range(min(message.count, said.MOST_SMALL_STEPS)):
        for trainer in session.trainers.values():
            trainer.step(message.unit)
        if any(trainer.trouble is not None for trainer in session.trainers.values()):
            return


def _until(session: Session, message: said.Until) -> None:
    if message.epoch is None and message.loss is None:
        raise InvalidInput(say("until what?"), right=say("an epoch or a loss"))
    _need_points(session)
    session.start(Goal(message.epoch, message.loss, message.of))


def _speed(session: Session, message: said.Speed) -> None:
    session.mode, session.rate = message.mode, message.rate
    session.count_from_now()
    session.mark()


def _reset(session: Session, message: said.Reset) -> None:
    made: dict[Which, Trainer] = {}
    for which, trainer in session.trainers.items():
        settings = trainer.settings
        if message.same:
            made[which] = Trainer(settings, trainer.data, trainer.first)
        else:
            made[which] = Trainer(settings.replaced("draw", settings.draw + 1), trainer.data)
    session.begin(made)


def _regenerate(session: Session, message: said.Regenerate) -> None:
    # Without a seed of the page's the running chance gives one, as in the original.
    seed = message.seed or f"{session.trainers['a'].chance.number():.5f}"
    _give_points(session, {w: trainer.settings.replaced("seed", seed) for w, trainer in session.trainers.items()})


def _give_points(session: Session, settings: Mapping[Which, PlaygroundSettings]) -> None:
    """Other points under the weights that are there; training goes on if there are any."""
    data = make_data(settings["a"])
    for which, trainer in session.trainers.items():
        trainer.use(settings[which])
        trainer.take(data)
        trainer.chance = data.chance.copy()
    if not len(data.train):
        session.halt()
    session.tell_anew()


def _back(session: Session, message: said.Back) -> None:
    session.halt()
    for trainer in session.trainers.values():
        trainer.back_to(max(0, trainer.epoch - message.epochs))


def _scrub(session: Session, message: said.Scrub) -> None:
    session.halt()
    session.scrubbed = message.epoch


def _keep(session: Session, message: said.Keep) -> None:
    if session.scrubbed is not None:
        for trainer in session.trainers.values():
            moment = trainer.history.nearest(session.scrubbed)
            if moment is not None:
                trainer.back_to(moment.epoch)
    session.halt()


def _show(session: Session, message: said.Show) -> None:
    if message.node is not None and message.node >= session.nodes:
        raise InvalidInput(say("there is no such neuron"), given=message.node)
    session.node = message.node
    session.mark()


def _probe(session: Session, message: said.Probe) -> None:
    session.point = message.point
    session.mark()


def _edit(session: Session, message: said.Edit) -> None:
    session.scrubbed = None
    _second(session, message.which).edit(message.layer, message.to, message.from_, message.value)
    session.mark()


def _code(session: Session, message: said.Code) -> None:
    session.answers.append({"kind": "answer", "of": "code", "code": program(_second(session, message.which))})


def _export(session: Session, message: said.Export) -> None:
    session.answers.append({"kind": "answer", "of": "export", "saved": saved(session.trainers)})


def _import(session: Session, message: said.Import) -> None:
    session.begin(restored(message.saved))


def _second(session: Session, which: Which) -> Trainer:
    if which not in session.trainers:
        raise InvalidInput(say("no second network is open"), right=say("compare opens it"))
    return session.trainers[which]


def _need_points(session: Session) -> None:
    if not len(session.trainers["a"].data.train):
        raise InvalidInput(say("there are no points to learn from"), right=say("paint some, or choose a set"))


def _seeded(settings: PlaygroundSettings) -> PlaygroundSettings:
    return settings if settings.seed else settings.replaced("seed", f"0.{secrets.randbelow(100_000):05d}")


def _changed(settings: PlaygroundSettings, changes: Mapping[str, object]) -> PlaygroundSettings:
    return PlaygroundSettings.parse(settings.to_json() | dict(changes))


def _on_the_data_of(first: PlaygroundSettings, other: Mapping[str, Any]) -> PlaygroundSettings:
    data = first.to_json()
    return PlaygroundSettings.parse(dict(other) | {name: data[name] for name in PlaygroundSettings.of_data})


def _fits(before: PlaygroundSettings, after: PlaygroundSettings) -> bool:
    """Whether only the points change, and not what the outputs are."""
    others = set(PlaygroundSettings.model_fields) - PlaygroundSettings.of_data - PlaygroundSettings.live
    is_alike = (before.outputs, before.problem) == (after.outputs, after.problem)
    return is_alike and not _differ(before, after, others)


def _differ(before: PlaygroundSettings, after: PlaygroundSettings, names: frozenset[str] | set[str]) -> bool:
    return any(before.__dict__[name] != after.__dict__[name] for name in names)


_HEARD: Mapping[type[said.Message], Callable[[Session, Any], None]] = {
    said.Open: _open,
    said.Set: _set,
    said.Compare: _compare,
    said.Run: _run,
    said.Pause: _pause,
    said.Step: _step,
    said.Until: _until,
    said.Speed: _speed,
    said.Reset: _reset,
    said.Regenerate: _regenerate,
    said.Back: _back,
    said.Scrub: _scrub,
    said.Keep: _keep,
    said.Show: _show,
    said.Probe: _probe,
    said.Edit: _edit,
    said.Ack: _ack,
    said.Code: _code,
    said.Export: _export,
    said.Import: _import,
}
