"""Reads an address of TensorFlow Playground, and of ours, which has further keys beside those.

Values that it does not know fall back to defaults, as there; a sentence says which did. Keys that only change how the page
looks (`showTestData`, `discretize`, `hideText`, `tutorial`, `<name>_hide`) are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import quote, unquote

from glassworks.core.errors import InvalidSpec
from glassworks.core.text import Text, say
from glassworks.studio.playground import settings as names
from glassworks.studio.playground.settings import FEATURES, MOST_BATCH, MOST_LAYERS, MOST_NEURONS, PlaygroundSettings

# Beyond it the original falls back to this.
_NOISE_INSTEAD = 50.0


@dataclass(frozen=True)
class Read:
    """What an address asks for; `other` is network B, where there is one."""

    settings: PlaygroundSettings
    other: PlaygroundSettings | None = None
    notes: tuple[Text, ...] = ()


@dataclass
class _Reading:
    values: Mapping[str, str]
    notes: list[Text] = field(default_factory=list[Text])

    def text(self, key: str) -> str:
        return self.values.get(key, "").strip()

    def chosen(self, key: str, known: tuple[str, ...], fallback: str) -> str:
        """One of the known names; anything else is the fallback, and said."""
        given = self.text(key)
        if not given or given in known:
            return given or fallback
        self._note(key, given, fallback)
        return fallback

    def number(self, key: str, fallback: float, least: float, most: float, beyond: float | None = None) -> float:
        """A number; what is none is the fallback, what lies outside is cut, or `beyond` where it is too large."""
        given = self.text(key)
        if not given:
            return fallback
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            self._note(key, given, fallback)
            return fallback
        cut = (most if beyond is None else beyond) if found > most else max(found, least)
        if cut != found:
            self._note(key, given, cut)
        return cut

    def flag(self, key: str, fallback: bool) -> bool:
        """Anything but `false` is true, as in the original."""
        given = self.text(key)
        return fallback if not given else given != "false"

    def shape(self) -> list[int]:
        """Neurons by layer; the empty text is no layer."""
        if "networkShape" not in self.values:
            return [4, 2]
        parts = [part.strip() for part in self.text("networkShape").split(",")] if self.text("networkShape") else []
        try:
            given = [math.floor(float(part)) for part in parts]
        except (ValueError, OverflowError):
            self._note("networkShape", ",".join(parts), "4,2")
            return [4, 2]
        cut = [min(max(size, 1), MOST_NEURONS) for size in given[:MOST_LAYERS]]
        if cut != given:
            self._note("networkShape", ",".join(parts), ",".join(map(str, cut)))
        return cut

    def features(self) -> list[str]:
        """Those that are switched on and not taken away by `<name>_hide`."""
        on = {"x", "y"}
        return [name for name in FEATURES if self.flag(name, name in on) and self.text(f"{name}_hide") != "true"]

    def activations(self) -> list[str | None]:
        """By layer; an empty place takes the common one."""
        known = get_args(names.ActivationName)
        given = self.text("activations")
        parts = given.split(",")[:MOST_LAYERS] if given else []
        return [part if part in known else None for part in map(str.strip, parts)]

    def points(self) -> list[tuple[float, float, float]]:
        """Own points; one that is no three numbers is left out, and said."""
        found: list[tuple[float, float, float]] = []
        lost = 0
        for part in filter(None, self.text("points").split(";")):
            try:
                x, y, label = map(float, part.split(","))
            except ValueError:
                lost += 1
                continue
            if all(map(math.isfinite, (x, y, label))):
                found.append((x, y, label))
            else:
                lost += 1
        if lost:
            self.notes.append(say("{count} points of the address are no three numbers and were left out", count=lost))
        return found[: names.MOST_POINTS]

    def _note(self, key: str, given: object, used: object) -> None:
        shown = str(given)[:60]
        self.notes.append(
            say("{key}={given} cannot be; {used} is used instead", key=key, given=shown, used=_short(used))
        )


def settings_of_hash(text: str) -> Read:
    """The settings of an address such as `#activation=relu&networkShape=7,4,3`; never fails, but says what it changed."""
    values = values_of_hash(text)
    reading = _Reading(values)
    settings = _settings(reading)
    if values.get("b") != "true":
        return Read(settings, None, tuple(reading.notes))
    own = {key[2:]: value for key, value in values.items() if key.startswith("b_")}
    other = _Reading(dict(values) | own)
    found = _settings(other).to_json() | {name: settings.to_json()[name] for name in PlaygroundSettings.of_data}
    notes = [*reading.notes, *(note for note in other.notes if note not in reading.notes)]
    return Read(settings, PlaygroundSettings.parse(found), tuple(notes))


def values_of_hash(text: str) -> dict[str, str]:
    """Names and values; parts without a value are skipped, the last of equal names stands."""
    found: dict[str, str] = {}
    for part in text.lstrip("#").split("&"):
        name, separator, value = part.partition("=")
        if separator and name:
            found[unquote(name)] = unquote(value.replace("+", " "))
    return found


def _settings(reading: _Reading) -> PlaygroundSettings:
    fields: dict[str, Any] = {
        "problem": reading.chosen("problem", ("classification", "regression"), "classification"),
        "dataset": reading.chosen("dataset", get_args(names.Dataset), "circle"),
        "regression_dataset": reading.chosen("regDataset", get_args(names.RegressionDataset), "reg-plane"),
        "curve": reading.chosen("curve", get_args(names.Curve), "parabola"),
        "classes": int(reading.number("classes", 3.0, 2.0, float(names.MOST_CLASSES))),
        "points": reading.points(),
        "noise": reading.number("noise", 0.0, 0.0, float(names.MOST_NOISE), _NOISE_INSTEAD),
        "train_percent": reading.number("percTrainData", 50.0, 1.0, 99.0),
        "batch_size": int(reading.number("batchSize", 10.0, 1.0, float(MOST_BATCH))),
        "features": reading.features(),
        "shape": reading.shape(),
        "activation": reading.chosen("activation", get_args(names.ActivationName), "tanh"),
        "activations": reading.activations(),
        "regularization": reading.chosen("regularization", get_args(names.Regularization), "none"),
        "regularization_rate": reading.number("regularizationRate", 0.0, 0.0, 1000.0),
        "learning_rate": reading.number("learningRate", 0.03, 0.0, 1000.0),
        "optimizer": reading.chosen("optimizer", get_args(names.Optimizer), "sgd"),
        "dropout": reading.number("dropout", 0.0, 0.0, 0.9),
        "seed": reading.text("seed")[:200],
        "draw": int(reading.number("draw", 0.0, 0.0, 999_999.0)),
        "init_zero": reading.flag("initZero", False),
    }
    try:
        return PlaygroundSettings.parse(fields)
    except InvalidSpec as problem:
        # Only own points can still be impossible: their labels name no classes, or a number is beyond all measure.
        reading.notes.append(problem.what)
        return PlaygroundSettings.parse(fields | {"points": []})


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def hash_of_settings(settings: PlaygroundSettings) -> str:
    """What stands after `#` in the address that opens these settings again; `settings_of_hash` reads it back."""
    values: dict[str, object] = {
        "activation": settings.activation,
        "regularization": settings.regularization,
        "batchSize": settings.batch_size,
        "dataset": settings.dataset,
        "regDataset": settings.regression_dataset,
        "learningRate": settings.learning_rate,
        "regularizationRate": settings.regularization_rate,
        "noise": settings.noise,
        "networkShape": ",".join(map(str, settings.shape)),
        "seed": settings.seed,
        "percTrainData": settings.train_percent,
        **{name: name in settings.features for name in FEATURES},
        "problem": settings.problem,
        "initZero": settings.init_zero,
    }
    own: dict[str, object] = {
        "activations": ",".join(name or "" for name in settings.activations),
        "optimizer": settings.optimizer,
        "dropout": settings.dropout,
        "classes": settings.classes,
        "curve": settings.curve,
        "points": ";".join(",".join(map(_written, point)) for point in settings.points),
        "draw": settings.draw,
    }
    own = {
        name: value for name, value in own.items() if value not in ("", PlaygroundSettings.model_fields[name].default)
    }
    return "&".join(f"{name}={quote(_written(value), safe=',;.-')}" for name, value in (values | own).items())


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
