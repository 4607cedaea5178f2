"""gw.vary: one training with some settings varied, from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glassworks.executors import executor_of

if TYPE_CHECKING:
    from glassworks.cli.train_variants import Variants
    from glassworks.executors import Executor


def vary(
    task: str | Path,
    varied: Mapping[str, Sequence[Any]],
    *,
    out: str | Path = ".",
    executor: str | Executor = "here",
    progress: bool = True,
    **settings: Any,
) -> Variants:
    """Trains every combination of some values, as `glassworks train TASK --vary NAME=VALUES` does.

    `varied` holds the values by setting, `settings` what all share (with `__` for the dot of a path; `data`, `preset`,
    `start` and `device` as for a stage). The result has `.rows` (a table), `.groups` (mean and interval over seeds) and
    `.run`. Raises VariantsFailed, which holds what was finished, where a combination failed in every attempt.
    """
    from glassworks.cli.live import shown_as_tuple
    from glassworks.cli.options_train import Train
    from glassworks.cli.train_variants import VariantsOrder, trained_variants, variants_of

    device, preset, start = (settings.pop(name, None) for name in ("device", "preset", "start"))
    files = [str(path) for path in _listed(settings.pop("data", ()))]
    words = [f"{name.replace('__', '.')}={_word(value)}" for name, value in settings.items()]
    command = Train(
        str(task), (*files, *words), start=None if start is None else str(start), preset=preset,
        device=device or "auto", out=str(out),
    )  # fmt: skip
    values = {name.replace("__", "."): [_word(value) for value in each] for name, each in varied.items()}
    order = VariantsOrder(str(task), tuple(values), variants_of(command, values), command.device)
    with shown_as_tuple(f"glassworks · vary · {task}") if progress else nullcontext(()) as listeners:
        return trained_variants(order, Path(out), executor_of(executor), listeners, f"gw.vary({str(task)!r}, …)")


def _word(value: Any) -> str:
    """A value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(list(value) if isinstance(value, tuple) else value)


def _listed(value: Any) -> Sequence[Any]:
    return cast(Sequence[Any], value) if isinstance(value, list | tuple) else (value,)
