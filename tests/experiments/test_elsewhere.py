"""The trainings of an experiment, done by other processes."""

import time

import psutil
import pytest

from glassworks.evidence.claims import Scale
from glassworks.executors import Local
from glassworks.experiments import Birth
from glassworks.experiments.elsewhere import training_jobs
from glassworks.experiments.run import RunOptions, run_experiment
from glassworks.training.spec import TrainingSpec


def test_equal_trainings_are_one_job_and_stages_wait_for_those_before(tmp_path):
    birth = Birth.at(Scale.SMOKE)
    plans = {study.name: birth.trainings(study.name) for study in birth.studies}
    jobs = training_jobs(birth, plans, tmp_path, "cpu")
    asked = [spec.digest() for plan in plans.values() for spec in plan.values()]
    assert len(jobs) == len(set(asked)) < len(asked)
    assert all(job.proof == tmp_path / job.name / "done.json" for job in jobs)
    first = next(iter(plans["main"].values()))
    second, third = (TrainingSpec.parse(first.to_json() | {"start_from": first.to_json(), "seed": n}) for n in (1, 2))
    chain = training_jobs(birth, {"main": {"second": second, "third": third}}, tmp_path, "cpu")
    assert [(job.name, job.needs) for job in chain] == [
        (first.digest(), ()), (second.digest(), (first.digest(),)), (third.digest(), (first.digest(),)),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.nightly
def test_a_paper_reproduced_by_processes_that_die_has_the_same_verdicts(tmp_path, smoke_run):
    birth = Birth.at(Scale.SMOKE)
    killed = []

    def kill_once(event) -> None:
        if event.kind == "step_done" and not killed:
            found = psutil.Process().children(recursive=True)
            mine = [one for one in found if "glassworks.executors.worker" in " ".join(one.cmdline())]
            mine[0].kill()
            killed.append(time.time())

    options = RunOptions(tmp_path, only=("main",), listeners=(kill_once,), executor=Local(workers=2))
    outcome = run_experiment(birth, options)
    assert killed
    assert outcome.measurements
    for name, measurement in outcome.measurements.items():
        assert measurement.values.tobytes() == smoke_run.measurements[name].values.tobytes(), name
    assert outcome.run.verify() == []
