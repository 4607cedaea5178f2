"""Where a job computes: forms and command line mean the same, what is wrong is said at its field, cores are shared fairly."""

from pathlib import Path
from typing import Any

import pytest

from glassworks.executors import EXECUTORS, Local, Ray, Slurm, executor_of
from glassworks.studio.forms.understanding import understood
from glassworks.studio.forms.verbs import schema_of, verbs
from glassworks.studio.forms.where import WHERE, facts_of, text_of, where_of
from glassworks.studio.jobs.cores import places, share, threads, usable_cores
from glassworks.studio.questions.desk import Desk, Places
from glassworks.studio.questions.forms import CheckForm


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Places(tmp_path))


@pytest.mark.parametrize(
    ("executor", "text"),
    [
        (Local(workers=4), "local:4"),
        (Local(workers=4, threads=2), "local:workers=4,threads=2"),
        (Slurm(), "slurm"),
        (Slurm(partition="gpu", gpus=1, hours=0.5), "slurm:partition=gpu,hours=0.5,gpus=1"),
        (Slurm(partition="12"), "slurm:12"),
        (Slurm(setup=("module load cuda", "a, b")), None),
        (Slurm(sbatch={"qos": "low"}, account="a,b"), None),
        (Ray(workers=8, address="auto"), "ray:workers=8,address=auto"),
    ],
)
def test_an_executor_is_typed_as_the_command_line_reads_it(executor: Local | Slurm | Ray, text: str | None) -> None:
    typed = text_of(executor)
    assert executor_of(typed) == executor
    assert text is None or typed == text


def test_a_form_offers_every_executor_but_its_own_process() -> None:
    schema, _ = schema_of("sweep", "")
    offered = schema["$defs"]["Where"]["properties"]["executor"]["anyOf"][0]["discriminator"]["mapping"]
    assert set(offered) == set(EXECUTORS.kinds) - {"here"}


def test_processes_and_what_varies_reach_the_command_and_leave_the_training_as_it_is(desk: Desk) -> None:
    from glassworks.cli.options import Train, read

    plain = understood("train", "bigram", {"steps": 7}, desk)
    launched = understood("train", "bigram", {"steps": 7, "where.launch": 2, "where.shard": True}, desk)
    command = read(list(launched.words))
    assert isinstance(command, Train)
    assert (command.launch, command.shard, command.vary, command.executor) == (2, True, (), None)
    assert launched.spec.digest() == plain.spec.digest()
    assert launched.facts["digest"] == plain.facts["digest"]
    varied = {
        "where.vary": ["seed=0..4", "rate=0.1,0.2"],
        "where.executor.workers": 3,
        "where.executor": {"kind": "local"},
    }
    table = understood("train", "bigram", {"steps": 7} | varied, desk)
    command = read(list(table.words))
    assert isinstance(command, Train)
    assert (command.vary, command.executor, command.launch) == (("seed=0..4", "rate=0.1,0.2"), "local:3", 1)
    assert (table.facts["trainings"], table.facts["steps"]) == (10, 70)


@pytest.mark.parametrize(
    ("verb", "about", "choices"),
    [
        ("reproduce", "birth", {"scale": "smoke"}),
        ("sweep", "", {"model": "somewhere"}),
        ("tokenizer", "", {}),
    ],
)
def test_papers_sweeps_and_stages_take_an_executor(
    desk: Desk, tmp_path: Path, verb: str, about: str, choices: dict[str, Any]
) -> None:
    from glassworks.cli.options import Reproduce, Sweep, Train, read

    text = tmp_path / "text.txt"
    text.write_text("words and words")
    given = choices | ({"data": [str(text)]} if verb == "tokenizer" else {})
    command = read(list(understood(verb, about, given | {"where.executor": {"kind": "local"}}, desk).words))
    assert isinstance(command, Reproduce | Sweep | Train)
    assert command.executor == "local:2"


@pytest.mark.parametrize(
    ("verb", "choices", "path"),
    [
        ("train", {"where.launch": 0}, "where.launch"),
        ("train", {"where.shard": True}, "where.shard"),
        ("train", {"where.launch": 2, "where.vary": ["seed=0,1"]}, "where.vary"),
        ("train", {"where.launch": 2, "where.executor": {"kind": "local"}}, "where.executor"),
        ("train", {"where.executor": {"kind": "slrum"}}, "where.executor"),
        ("train", {"where.executor": {"kind": "local"}, "where.executor.workers": 0}, "where.executor.workers"),
        ("train", {"where.vary": ["seed"]}, "where.vary"),
        ("train", {"where.vary": ["rate=0.1,-3"]}, "where.vary"),
        ("train", {"where.vary": ["--out=a,b"]}, "where.vary"),
        ("reproduce", {"where.launch": 2}, "where.launch"),
        ("examine", {"where.executor": {"kind": "local"}}, "where.executor"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(desk: Desk, verb: str, choices: dict[str, Any], path: str) -> None:
    about = {"train": "bigram", "reproduce": "birth"}.get(verb, "")
    found = CheckForm(verb=verb, about=about, choices=choices).answer(desk)
    assert found["problem"]["path"] == path
    assert found["problem"]["what"].startswith(path)


def test_no_spec_has_a_field_of_that_name_itself() -> None:
    for one in verbs():
        about = one["about"][0]["id"] if one["about"] else ""
        schema, _ = schema_of(one["verb"], about)
        root: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        field = root["properties"].get(WHERE)
        assert field is None or field["$ref"] == "#/$defs/Where", one["verb"]


@pytest.mark.parametrize(
    ("choices", "taken", "each"),
    [
        ({}, 1, share()),
        ({"where.launch": 2}, 2, max(1, 2 * share() // 2)),
        ({"where.executor": {"kind": "local"}, "where.executor.workers": 64}, 2, 2 * share()),
        ({"where.executor": {"kind": "slurm"}}, 1, share()),
    ],
)
def test_a_job_takes_the_room_that_its_processes_need(choices: dict[str, Any], taken: int, each: int) -> None:
    facts = facts_of(where_of("train", choices))
    assert (places(facts), threads(facts)) == (taken, each)
    assert threads(facts) * facts["launch"] <= max(usable_cores(), facts["launch"])


@pytest.mark.parametrize("strange", ["many", -3, 0, 2.5, None, True, 10**30])
def test_counts_of_a_strangers_job_take_at_most_all_room(strange: object) -> None:
    assert 1 <= places({"launch": strange, "threads_at_once": strange}) <= 2
