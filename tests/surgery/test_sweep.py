"""A sweep gives what each plan gives alone, whatever the pieces, the order and the interruptions."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.events import Event, Progressed
from glassworks.core.runs import RunFolder
from glassworks.evaluation import MetricScore, evaluate
from glassworks.surgery import sweep
from glassworks.surgery.choice import SweepChoice, SweepSpec
from glassworks.surgery.estimate import estimate
from glassworks.surgery.families import FAMILIES
from glassworks.surgery.operate import operated
from glassworks.surgery.points import MEDIAN, benchmarks_of, curves_of, name_of, points_of
from glassworks.surgery.record import ROWS, SweepRecord
from glassworks.surgery.rows import COLUMNS, Drawn
from glassworks.surgery.sweep import Sweep, SweepOptions, SweepOrder, run_sweep
from tests.surgery.letters import lettered, letters_file, perplexity

PLANS = "skip,reverse,random,looped:loops=[1,3],skip_one,drop_block"


def order_of(folder: Path, **choice: object) -> SweepOrder:
    return SweepOrder.of(lettered(), SweepChoice(**{"plans": PLANS, "evals": perplexity(folder), "seeds": 2, **choice}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def done(folder: Path) -> Sweep:
    return run_sweep(order_of(folder), SweepOptions(out=folder, tokens_per_piece=48, command="glassworks sweep it"))


def test_each_plan_scores_as_it_does_alone(done: Sweep, folder: Path) -> None:
    order = order_of(folder)
    [prepared] = order.prepared
    rows = done.rows[done.rows["benchmark"] == prepared.name]
    for variant in order.variants[::3]:
        with operated(order.subject, variant.plan):
            alone = evaluate(order.subject, prepared)
        found = rows[(rows["plan"] == str(variant.plan)) & (rows["strategy"] == variant.strategy)]
        for name, score in alone.items():
            together = found.loc[found["metric"] == name, "value"].iloc[0]
            assert together == pytest.approx(score.value, rel=1e-5), f"{variant.plan} {name}"


def test_normalised_scores_put_the_whole_model_at_one_and_chance_at_zero(done: Sweep, folder: Path) -> None:
    [prepared] = order_of(folder).prepared
    rows = done.rows[done.rows["main"] & (done.rows["benchmark"] == prepared.name)]
    full = rows[rows["strategy"] == "full"].iloc[0]
    # The model is random, so it is no better than chance: no scale, and no number that pretends to one.
    assert full["value"] > full["chance"]
    assert rows["normalised"].isna().all()
    assert (done.rows.loc[done.rows["benchmark"] == MEDIAN, "documents"] == 0).all()
    by_hand = Drawn.of([MetricScore.mean(np.array([1.0, 3.0]), higher_is_better=True)])
    assert by_hand.interval(0, MetricScore.mean(np.array([1.0, 3.0]), higher_is_better=True)).mean == 2.0


def test_pieces_order_of_work_and_a_second_run_change_no_number(done: Sweep, folder: Path, tmp_path: Path) -> None:
    other = run_sweep(order_of(folder), SweepOptions(out=tmp_path, tokens_per_piece=500, schedule="layers"))
    numbers = ["value", "low", "high"]
    pd.testing.assert_frame_equal(other.rows[numbers], done.rows[numbers], rtol=1e-5)
    again = run_sweep(order_of(folder), SweepOptions(out=folder, tokens_per_piece=7, command="glassworks sweep it"))
    assert again.run.path == done.run.path
    pd.testing.assert_frame_equal(again.rows, done.rows)
    assert again.run.read_json("pieces.json") == {"tokens_per_piece": 48}


class Stop:
    """Interrupts at the n-th piece of news."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


def test_stopped_anywhere_and_taken_up_again_the_rows_are_the_same(
    done: Sweep, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SECONDS_BETWEEN_NEWS", 0.0)
    order = order_of(folder)
    pieces: list[int] = []
    one_piece = len(order.plans)
    for after in (3, one_piece + 3, one_piece + 3):
        with pytest.raises(KeyboardInterrupt):
            run_sweep(order, SweepOptions(out=tmp_path, tokens_per_piece=48, listeners=(Stop(after),)))
        [run] = (tmp_path / "runs" / "sweep").iterdir()
        pieces.append(len(list((run / "pieces").glob("*.npz"))))
        assert not (run / "manifest.json").exists()
    assert pieces == [0, 1, 2]
    heard: list[Progressed] = []

    def hear(event: Event) -> None:
        if isinstance(event, Progressed):
            heard.append(event)

    resumed = run_sweep(order, SweepOptions(out=tmp_path, listeners=(hear,)))
    pd.testing.assert_frame_equal(resumed.rows, done.rows, check_exact=True)
    # What was done before is neither done again nor counted in the time that is left.
    assert heard[-1].done == heard[-1].total < sum(len(item.ids) for item in order.prepared[0].items) * len(order.plans)
    assert RunFolder.open(resumed.run.path).verify() == []


KILLED = """
import sys
from pathlib import Path
from tests.surgery.test_sweep import SweepOptions, order_of, run_sweep
folder = Path(sys.argv[1])
order = order_of(folder)
print("ready", flush=True)
run_sweep(order, SweepOptions(out=folder / "killed", tokens_per_piece=16, command="x"))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_killed_outright_and_taken_up_again_the_rows_are_the_same(folder: Path) -> None:
    pieces = folder / "killed" / "runs" / "sweep"
    command = [sys.executable, "-c", KILLED, str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == "ready\n"
        while not list(pieces.glob("*/pieces/*.npz")):
            time.sleep(0.005)
        work.send_signal(signal.SIGKILL)
    assert work.returncode == -signal.SIGKILL
    assert not list(pieces.glob("*/manifest.json")), "killed in the middle"
    options = SweepOptions(out=folder / "killed", tokens_per_piece=16)
    whole = run_sweep(order_of(folder), SweepOptions(out=folder / "whole", tokens_per_piece=16))
    pd.testing.assert_frame_equal(run_sweep(order_of(folder), options).rows, whole.rows, check_exact=True)


def test_a_damaged_piece_is_named(folder: Path, tmp_path: Path) -> None:
    options = SweepOptions(out=tmp_path, tokens_per_piece=48)
    first = run_sweep(order_of(folder, plans="skip"), options)
    piece = sorted((first.run.path / "pieces").glob("*.npz"))[0]
    piece.write_bytes(piece.read_bytes()[:50])
    with pytest.raises(BrokenFile) as caught:
        run_sweep(order_of(folder, plans="skip"), options)
    assert piece.name in str(caught.value)


def test_equal_choices_share_a_folder_and_others_do_not(folder: Path) -> None:
    def digest(**choice: object) -> str:
        return order_of(folder, **choice).spec.digest()

    assert digest() == digest()
    assert len({digest(), digest(seeds=3), digest(protect=[2]), digest(limit=3), digest(plans="skip")}) == 5


def test_protected_layers_stay_and_are_noted(folder: Path) -> None:
    order = order_of(folder, plans="skip,reverse,random", protect=[3])
    assert all(variant.plan.keeps(3) for variant in order.variants)
    assert {variant.facts()["protected"] for variant in order.variants if variant.start == 0} == {"3"}
    with pytest.raises(InvalidInput, match="no layer 9"):
        order_of(folder, protect=[9])


def test_an_interval_needs_a_mean_of_documents() -> None:
    nats = np.array([1.0, 2.0, 4.0])
    mean = MetricScore.mean(nats, higher_is_better=False)
    low, high = (getattr(Drawn.of([mean]).interval(0, mean), end) for end in ("low", "high"))
    assert low < mean.value < high
    # A perplexity is the exponential of a mean: so are the ends of its interval.
    interval = Drawn.of([mean.exponential()]).interval(0, mean.exponential())
    assert (interval.low, interval.high) == pytest.approx((np.exp(low), np.exp(high)))
    other = MetricScore(0.123, nats, higher_is_better=True)
    assert np.isnan(Drawn.of([other]).interval(0, other).low)


@pytest.mark.slow
def test_the_report_is_made_from_the_folder_alone(done: Sweep, tmp_path: Path) -> None:
    record = SweepRecord.open(done.run.path)
    assert list(pd.read_parquet(done.run.path / ROWS).columns) == list(COLUMNS)
    assert isinstance(record.spec, SweepSpec)
    assert record.seconds > 0
    record.write_report()
    page = record.report.read_text()
    names = {path.stem for path in (done.run.path / "figures").glob("*.png")}
    assert names == set(record.figures)
    assert {"loops", "drop_block"} <= names
    for said in ("glassworks sweep it", "的方案", "not better than chance", "asked for"):
        assert said in page, said
    assert RunFolder.open(done.run.path).verify() == []
    assert record.save(tmp_path / "x.csv").read_text().startswith("strategy,")
    assert "report.html" in record._repr_html_()
    with pytest.raises(NotFound):
        SweepRecord.open(letters_file(tmp_path).parent)


def test_curves_hold_one_point_a_place_and_take_the_usual_loops(done: Sweep) -> None:
    [benchmark] = benchmarks_of(done.rows)
    found = {curve.strategy: curve for curve in curves_of(points_of(done.rows, benchmark))}
    assert set(found) == {"skip", "reverse", "random", "looped", "looped_best"}
    assert {len(points) for points in found["random"].at(lambda point: point.affected).values()} == {2}
    assert {point.loops for point in found["looped"].points} == {3}
    best = found["looped_best"].points
    assert all(
        point.value <= min(p.value for p in found["looped"].points if p.affected == point.affected) for point in best
    )


def test_an_estimate_scores_nothing_and_counts_as_the_sweep_does(done: Sweep, folder: Path) -> None:
    found = estimate(order_of(folder), SweepOptions(tokens_per_piece=48))
    assert (found.asked, found.done, found.plans) == (done.cost.asked, done.cost.done, done.cost.plans)
    assert found.done < found.asked
    assert found.seconds > 0
    assert found.peak_bytes > 0


def test_every_family_has_a_name_for_people() -> None:
    strategies = {v.strategy for kind in FAMILIES.kinds for v in FAMILIES.parse({"kind": kind}).variants(6)}
    assert [one for one in strategies | {"sum", "middle_repeat_scaled"} if name_of(one).template == "{name}"] == []
