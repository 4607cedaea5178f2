"""Every variant that a room defines stands on its shelf; a missing line is named here."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "glassworks"
ROOMS = {
    "mixers": ("MixerSpec", "MIXERS"),
    "tasks": ("VectorTask TokenTask HaystackTask", "TASKS"),
    "evaluation": ("Benchmark", "BENCHMARKS"),
    "instruments": ("Instrument", "INSTRUMENTS"),
    "experiments": ("Experiment", "EXPERIMENTS"),
    "executors": ("Executor", "EXECUTORS"),
}


@pytest.mark.parametrize("room", ROOMS)
def test_no_variant_is_missing_from_its_shelf(room):
    bases, shelf_name = ROOMS[room]
    defined = {
        node.name
        for path in (SOURCE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id in bases.split() for b in node.bases)
    } - set(bases.split())
    shelf = getattr(importlib.import_module(f"glassworks.{room}"), shelf_name)
    assert defined == {variant.__name__ for variant in shelf}


def test_each_room_has_a_short_readme():
    for room in sorted(p for p in SOURCE.iterdir() if p.is_dir() and not p.name.startswith("_")):
        readme = room / "README.md"
        assert readme.is_file(), f"{room.name} has no README.md"
        assert readme.read_text(encoding="utf-8").count("\n") <= 30, f"{room.name}/README.md is longer than 30 lines"


JUDGE_WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError("no " + name + " here")
sys.meta_path.insert(0, Refuse())
from glassworks.core.runs import RunFolder
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.pages import write_report
from glassworks.experiments.run import redraw, rejudge
from glassworks.evidence.measurements import load_measurements
from pathlib import Path
run = RunFolder.open(Path(sys.argv[1]))
experiment = EXPERIMENTS[run.experiment].parse(run.header()["spec"])
verdicts = rejudge(experiment, run)
write_report(experiment, run, verdicts, redraw(experiment, run, load_measurements(run.path)))
print(len(verdicts))
"""


@pytest.mark.slow
def test_a_run_is_judged_and_redrawn_again_without_torch(smoke_run):
    before = [v.to_json() for v in smoke_run.verdicts]
    done = subprocess.run(
        [sys.executable, "-c", JUDGE_WITHOUT_TORCH, str(smoke_run.run.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == len(before)
    assert smoke_run.run.read_json("verdicts.json") == before
