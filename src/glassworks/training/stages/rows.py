"""The row of a history that is not full yet: means over steps that a stopped stage goes on adding to."""

from collections.abc import Mapping
from typing import Any

from glassworks.tensors.processes import from_all


def begun_row(trainer: Any) -> dict[str, Any]:
    """What a trainer of the library has added up since its last row; all processes ask together."""
    sums: dict[str, list[Any]] = trainer.__dict__.get("_metrics", {}).get("train", {})
    return {
        "since": int(trainer._globalstep_last_logged),
        "losses": from_all(float(trainer._tr_loss)),
        "means": {name: [float(value) for value in values] for name, values in sums.items() if values},
    }


def take_up_row(trainer: Any, row: Mapping[str, Any]) -> None:
    """Has a trainer go on with such a row, whose loss is a mean over processes. Done when it begins."""
    losses: list[float] = row["losses"]
    own = from_all(None)
    trainer._tr_loss += losses[trainer.args.process_index] if len(own) == len(losses) else sum(losses) / len(losses)
    trainer._globalstep_last_logged = int(row["since"])
    for name, values in row["means"].items():
        trainer._metrics["train"][name] += values
