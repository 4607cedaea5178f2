"""A real Ray of this machine."""

from pathlib import Path

import pytest

from glassworks.core.errors import JobsFailed
from glassworks.core.events import EventLog
from glassworks.core.files import read_json
from glassworks.executors import Ray
from tests.executors.chores import begun, job

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_ray_does_the_jobs_and_replaces_workers_that_die(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    jobs = [job(tmp_path, "a", dies=1), job(tmp_path, "b", needs=("a",)), job(tmp_path, "c", fails=9)]
    with pytest.raises(JobsFailed) as caught:
        Ray(workers=1, retries=1).run(jobs, tmp_path / "work", EventLog())
    assert [name for name, _, _ in caught.value.failures] == ["c"]
    assert [begun(tmp_path, name) for name in "abc"] == [2, 1, 2]
    assert {read_json(one.proof)["threads"] for one in jobs[:2]} == {"1"}
