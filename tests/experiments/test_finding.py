import os

import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound, UnknownName
from glassworks.core.runs import RunFolder
from glassworks.experiments.finding import experiment_of, find_run
from tests.cli.folders import BIRTH

OTHER = BIRTH.replaced("steps", 13)


def made(out, spec, at=None):
    run = RunFolder.create(out / "runs", "birth", spec)
    if at is not None:
        os.utime(run.path / "spec.json", (at, at))
    return run


def test_a_run_is_found_by_folder_digest_first_digits_and_experiment(tmp_path):
    run = made(tmp_path, BIRTH, 1000)
    newer = made(tmp_path, OTHER, 2000)
    for given in (str(run.path), BIRTH.digest(), BIRTH.digest()[:6]):
        assert find_run(given, tmp_path).path == run.path
    assert find_run("birth", tmp_path).path == newer.path
    assert experiment_of(run) == BIRTH


def test_what_is_not_there_is_named_with_what_is(tmp_path):
    with pytest.raises(NotFound, match="no run"):
        find_run("birth", tmp_path)
    with pytest.raises(NotFound, match="no run"):
        find_run("abcdef", tmp_path)
    made(tmp_path, BIRTH)
    wrong = BIRTH.digest()[:-1] + "x"
    with pytest.raises(UnknownName) as caught:
        find_run(wrong, tmp_path)
    assert caught.value.nearest == BIRTH.digest()
    with pytest.raises(NotFound, match="no run folder"):
        find_run(f"{tmp_path}/", tmp_path)


def test_digits_that_several_runs_share_are_refused(tmp_path):
    runs = tmp_path / "runs" / "birth"
    for name in ("abcd1111", "abcd2222"):
        (runs / name).mkdir(parents=True)
        (runs / name / "spec.json").write_text('{"experiment": "birth", "spec": {}}')
    with pytest.raises(InvalidInput, match="2 runs begin with abcd"):
        find_run("abcd", tmp_path)


def test_a_damaged_spec_is_named(tmp_path):
    run = made(tmp_path, BIRTH)
    (run.path / "spec.json").write_text('{"experiment": ')
    with pytest.raises(BrokenFile, match=r"spec\.json"):
        find_run(BIRTH.digest(), tmp_path)
