"""Our side of tuning: a whole stage, from the folder that it starts from to the folder that it leaves."""

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.workers.harness import Answer, Work, serve
from benchmarks.workers.written import sentence, write_lines, write_model
from glassworks.core.events import EventLog
from glassworks.training.stages.base import LearningSpec, StageOptions, run_stage
from glassworks.training.stages.chat import Turn
from glassworks.training.stages.dpo import DpoSpec
from glassworks.training.stages.examples import is_held_out
from glassworks.training.stages.grpo import GrpoSpec
from glassworks.training.stages.sft import SftSpec

HELD_OUT = 0.1
BETA = {"dpo": 0.1, "grpo": 0.04}


def prepare(folder: Path, options: Mapping[str, Any]) -> Work:
    """Writes the start and the examples. Those that we keep for judging lie in the file behind those to learn from."""
    write_model(folder / "start", options["width"], options["depth"], 512)
    chance = random.Random(0)
    learned: list[dict[str, Any]] = []
    judged: list[dict[str, Any]] = []
    while len(learned) < options["examples"] or not judged:
        asked = sentence(chance, 3, 12)
        row = {"prompt": asked, "chosen": sentence(chance, 4, 12), "rejected": sentence(chance, 4, 12)}
        (judged if is_held_out((Turn("user", asked),), HELD_OUT) else learned).append(row)
    learned = learned[: options["examples"]]
    write_lines(folder / "learned.jsonl", learned)
    rows = [*learned, *judged[:1]]
    write_lines(folder / "pairs.jsonl", rows)
    write_lines(
        folder / "demonstrations.jsonl", [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    )
    return dict


def _stage(folder: Path, spec: LearningSpec) -> Work:
    def work() -> Answer:
        with tempfile.TemporaryDirectory() as store:
            options = StageOptions(store=Path(store), checkpoint_every=10**6, any_start=True)
            done = run_stage(spec, options, EventLog())
            assert (done.path / "model.safetensors").is_file(), "a stage leaves its model"
            # The loss of GRPO is near zero whatever is drawn; its rewards are not.
            column = "reward" if spec.kind == "grpo" else "loss"
            return {f"{column} of each update": torch.tensor(done.history.metrics[column])}

    return work


def _shared(folder: Path, options: Mapping[str, Any], data: str) -> dict[str, Any]:
    return {
        "start": str(folder / "start"), "data": (str(folder / data),), "steps": options["steps"],
        "batch": options["batch"], "length": options["length"], "rate": options["rate"], "schedule": "constant", "warmup": 0.0,
        "weight_decay": 0.0, "precision": "float32", "log_every": 1, "held_out": HELD_OUT,
    }  # fmt: skip


def sft(folder: Path, options: Mapping[str, Any]) -> Work:
    """Supervised fine-tuning."""
    return _stage(folder, SftSpec(**_shared(folder, options, "demonstrations.jsonl")))


def dpo(folder: Path, options: Mapping[str, Any]) -> Work:
    """Direct preference optimisation."""
    return _stage(folder, DpoSpec(**_shared(folder, options, "pairs.jsonl"), beta=BETA["dpo"]))


def grpo(folder: Path, options: Mapping[str, Any]) -> Work:
    """Group-relative policy optimisation with a reward for answers of five words."""
    own = {
        "beta": BETA["grpo"], "group": options["group"], "answers": options["batch"], "reward": "words:5",
        "answer_length": options["answer_length"], "temperature": options["temperature"],
    }  # fmt: skip
    return _stage(folder, GrpoSpec(**_shared(folder, options, "demonstrations.jsonl"), **own))


if __name__ == "__main__":
    serve({"prepare": prepare, "sft": sft, "dpo": dpo, "grpo": grpo})
