import pytest

from glassworks.core.errors import InvalidSpec, UnknownName
from glassworks.executors import EXECUTORS, Here, Local, Ray, Slurm, executor_of


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("here", Here()),
        ("local", Local()),
        ("local:4", Local(workers=4)),
        ("local:workers=4,retries=0", Local(workers=4, retries=0)),
        ("slurm:gpu", Slurm(partition="gpu")),
        (
            "slurm:partition=gpu,gpus=1,hours=2,sbatch.qos=low",
            Slurm(partition="gpu", gpus=1, hours=2, sbatch={"qos": "low"}),
        ),
        ("slurm:partition=007,account=12", Slurm(partition="007", account="12")),
        ("ray:8", Ray(workers=8)),
        ("ray:address=10.0.0.1:6379,gpus=0.5", Ray(address="10.0.0.1:6379", gpus=0.5)),
        ('{"kind": "slurm", "setup": ["module load cuda"]}', Slurm(setup=("module load cuda",))),
        ({"kind": "local", "threads": 2}, Local(threads=2)),
        (Local(workers=3), Local(workers=3)),
    ],
)
def test_an_executor_is_said_in_a_word_as_json_or_as_a_value(said, meant):
    assert executor_of(said) == meant


@pytest.mark.parametrize("kind", list(EXECUTORS))
def test_every_executor_comes_back_from_its_json(kind):
    assert executor_of(kind().to_json()) == kind()


@pytest.mark.parametrize(
    ("said", "error", "right"),
    [
        ("locl:4", UnknownName, "local"),
        ("local:workers=many", InvalidSpec, None),
        ("local:0", InvalidSpec, None),
        ("local:4,5", InvalidSpec, "slurm:"),
        ("local:worker=4", InvalidSpec, "workers"),
        ("local:4,workers=5", InvalidSpec, None),
        ("here:2", InvalidSpec, None),
        ('{"workers": 2}', InvalidSpec, "here"),
    ],
)
def test_what_is_no_executor_is_named_with_what_would_be_right(said, error, right):
    with pytest.raises(error) as caught:
        executor_of(said)
    assert right is None or right in str(caught.value)
