import pytest

from glassworks.cli.main import main
from glassworks.cli.options_train import Train
from glassworks.cli.processes import loss_of_another, started, wait_to_speak
from glassworks.core.errors import InvalidInput, ProcessLost
from glassworks.tensors.processes import PATIENCE, World, from_all, from_first, world

GLOO = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:3456. This is typically caused by"
SILENT = (
    "[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 5000ms for recv operation to complete",
    "Got the following error when running the callback for future: Application timeout caused pair closure",
)


@pytest.fixture
def second_of_two(monkeypatch) -> World:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    return world()


def test_a_process_that_nobody_started_with_others_is_alone(monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World(rank=0, size=1)
    assert world().is_first
    assert (from_first("mine"), from_all("mine")) == ("mine", ["mine"])


def test_torchrun_says_who_is_who(second_of_two) -> None:
    assert (second_of_two.rank, second_of_two.size, second_of_two.is_first) == (1, 2, False)


def test_one_process_of_torchrun_is_alone(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert world().is_alone


@pytest.mark.parametrize(
    "left", [{"WORLD_SIZE": "4"}, {"WORLD_SIZE": "", "RANK": "1"}, {"WORLD_SIZE": "4", "RANK": "-"}]
)
def test_variables_that_something_else_left_make_no_other_process(monkeypatch, left) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert world().is_alone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--launch", "0"), ("0 processes", "at least one")),
        (("--launch=-2",), ("-2 processes", "at least one")),
        (("--shard",), ("one process cannot shard a training", "--launch 2 --shard")),
        (("--patience", "0"), ("a patience of 0.0 seconds", "more than 0")),
        (("--launch", "2", "--patience", "inf"), ("a patience of inf seconds", "more than 0")),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_trained(tmp_path, capsys, options, words) -> None:
    assert main(["train", "bigram", "steps=2", *options, "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert not list(tmp_path.iterdir())


def test_a_number_that_contradicts_torchrun_is_refused(second_of_two) -> None:
    with pytest.raises(InvalidInput, match="torchrun started 2 processes, --launch asks for 3"):
        started(Train("bigram", launch=3))
    assert started(Train("bigram", launch=2)) is None
    assert started(Train("bigram", shard=True)) is None


def test_the_patience_of_the_command_line_is_that_of_the_loop() -> None:
    assert Train.patience == PATIENCE


def test_a_lost_process_is_told_in_words_and_other_errors_are_left_alone(second_of_two) -> None:
    lost = loss_of_another(RuntimeError(GLOO))
    assert isinstance(lost, ProcessLost)
    assert "process 1 lost another process" in str(lost)
    for words in SILENT:
        silent = loss_of_another(RuntimeError(words))
        assert isinstance(silent, ProcessLost)
        assert "--patience" in str(silent)
    assert loss_of_another(RuntimeError("shapes cannot be multiplied")) is None
    assert loss_of_another(ValueError(GLOO)) is None


def test_who_is_alone_speaks_at_once_and_lost_nobody(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("glassworks.cli.processes.time.sleep", lambda _: pytest.fail("it waits"))
    wait_to_speak(RuntimeError(GLOO))
    assert loss_of_another(RuntimeError(GLOO)) is None


def test_the_first_speaks_of_its_own_errors_at_once_and_others_after_a_while(monkeypatch) -> None:
    waited: list[tuple[int, float]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, problem in ((0, ValueError("mine")), (0, RuntimeError(GLOO)), (1, ValueError("ours"))):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr("glassworks.cli.processes.time.sleep", lambda s, rank=rank: waited.append((rank, s)))
        wait_to_speak(problem)
    assert [rank for rank, _ in waited] == [0, 1]
    assert waited[0][1] < waited[1][1]


def test_other_commands_are_not_run_once_per_process(second_of_two, capsys, monkeypatch) -> None:
    monkeypatch.setattr("glassworks.cli.processes.time.sleep", lambda _: None)
    assert main(["claims"]) == 1
    assert "claims runs in one process, torchrun started 2" in capsys.readouterr().err
