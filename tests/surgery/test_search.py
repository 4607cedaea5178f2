"""Searching for plans: a planted optimum is found, stopped searches go on, and what is chosen is judged elsewhere."""

import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.events import Progressed
from glassworks.core.runs import RunFolder
from glassworks.surgery import Plan, operated
from glassworks.surgery.candidates import Room, mutated, random_plan, removals, removed_in_order
from glassworks.surgery.search import SearchOptions, SearchOrder, influence_order, search
from glassworks.surgery.specs import FOUND, INFLUENCE, SKIP, WHOLE, Beam, Evolution, SearchSpec
from glassworks.surgery.texts import Split
from glassworks.tensors.seeds import Seed
from tests import families

DEPTH, IDLE = 7, (1, 2, 5)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A model of seven layers of which three do nothing at all."""
    model = families.tiny("llama", layers=DEPTH)
    with torch.no_grad():
        for layer in IDLE:
            for name in ("self_attn.o_proj", "mlp.down_proj"):
                model.get_submodule(f"model.layers.{layer}.{name}").weight.zero_()
    return Subject.of(model)


@pytest.fixture(scope="module")
def split() -> Split:
    ids = torch.randint(0, 61, (32, 40), generator=Seed(0).generator())
    # Two pieces to race on.
    return Split.of_windows(ids[:24, :33], ids[24:])


OPTIMUM = Plan.of(number for number in range(DEPTH) if number not in IDLE)


@pytest.mark.parametrize("method", [None, Beam(width=2)])
def test_removal_finds_the_layers_that_do_nothing(subject: Subject, split: Split, method: Beam | None) -> None:
    choice = SearchSpec(budget=3) if method is None else SearchSpec(budget=3, method=method, racing=False)
    found = search(SearchOrder.of(subject, choice, split))
    assert found.best[DEPTH - len(IDLE)] == OPTIMUM
    assert sorted(found.best) == [3, 4, 5, 6]
    assert found.scores["kl"][FOUND][4].value == pytest.approx(0, abs=1e-6)
    assert found.scores["kl"][FOUND][3].value > 0.1, "a layer that does something was missed"
    assert set(found.influence[:3]) == set(IDLE)
    # Skip-middle leaves out layers 3 and 4, which do work; random weights know no language, so either may be ahead.
    better = found.advantage(SKIP, 5)
    assert better.low < better.mean < better.high
    assert better.count == len(split.held_out)
    with pytest.raises(UnknownName):
        found.advantage(SKIP, 4)


@pytest.mark.slow
def test_evolution_finds_them_too_and_more_rounds_are_never_worse(subject: Subject, split: Split) -> None:
    method = Evolution(generations=8, offspring=12, mutations=("drop",), patience=8)
    found = search(SearchOrder.of(subject, SearchSpec(budget=4, method=method), split))
    assert found.best == {4: OPTIMUM}
    fits = [one.fit for one in found.history]
    assert fits == sorted(fits, reverse=True)
    assert found.history[-1].tried < 35 + 1, "no more plans than there are to choose 4 layers of 7, and none twice"


@pytest.mark.slow
def test_a_stopped_search_goes_on_and_ends_alike(subject: Subject, split: Split, tmp_path) -> None:
    choice = SearchSpec(budget=4, objective="nll")
    whole = search(SearchOrder.of(subject, choice, split))

    class Killed(Exception): ...

    heard: list[Progressed] = []

    def kill(event: object) -> None:
        if isinstance(event, Progressed):
            heard.append(event)
            if len(heard) == 3:
                raise Killed

    order = SearchOrder.of(subject, choice, split)
    with pytest.raises(Killed):
        search(order, SearchOptions(tmp_path, (kill,)))
    found = search(order, SearchOptions(tmp_path))
    assert found.best == whole.best
    assert [one.fit for one in found.history] == [one.fit for one in whole.history]
    computed: list[object] = []
    search(
        order,
        SearchOptions(tmp_path, (lambda event: computed.append(event) if isinstance(event, Progressed) else None,)),
    )
    assert not computed, "a finished search computes nothing"
    folder = RunFolder.open(found.folder.path)
    assert folder.verify() == []
    assert folder.read_json("plans.json")["plans"][-2]["plan"]
    assert folder.read_json("plans.json")["plans"][0]["plan"] == str(found.best[4])


def test_what_is_chosen_is_judged_on_other_text_as_the_plan_alone_would_be(subject: Subject, split: Split) -> None:
    found = search(SearchOrder.of(subject, SearchSpec(budget=5, protect=(1, 2)), split))
    assert found.best[6] == Plan.parse("0..4 6", DEPTH), "layers 1 and 2 do nothing, but were to stay"
    with operated(subject, found.best[5]), torch.no_grad():
        ids = torch.tensor([item.ids for item in split.held_out])
        targets = torch.tensor([item.targets for item in split.held_out])
        loss = torch.nn.functional.cross_entropy(subject.forward(TokenBatch(ids)).flatten(0, 1), targets.flatten())
    assert found.scores["nll"][FOUND][5].value == pytest.approx(float(loss), rel=1e-5)
    measured = found.measurement()
    assert measured.at(metric="nll", plans=FOUND, layer_runs=5, quantity="value").values == pytest.approx(float(loss))
    cost = measured.at(metric="cost", layer_runs=5, quantity="value").at(plans=FOUND).values
    whole = measured.at(metric="nll", plans=WHOLE, layer_runs=DEPTH, quantity="value").values
    assert cost == pytest.approx(float(loss) - float(whole), rel=1e-4)
    assert set(measured.coords["plans"]) == {FOUND, SKIP, INFLUENCE, WHOLE}
    assert "found by search" in found.figure().svg()
    assert influence_order(subject, split.fit)[:3] == found.influence[:3]


def test_candidates_stay_in_their_room() -> None:
    room = Room(6, 5, frozenset({0, 5}))
    assert removals(Plan.parse("0 1x2 2 5", 6), room) == [Plan.parse("0 1 2 5", 6), Plan.parse("0 1x2 5", 6)]
    assert [str(plan) for plan in removed_in_order(5, (3, 1, 0), 3)] == ["0..2 4", "0 2 4"]
    chance = np.random.default_rng(0)
    plans = [random_plan(room, chance) for _ in range(4)]
    seen: set[str] = set()
    for _ in range(200):
        plans.append(
            mutated(plans[int(chance.integers(len(plans)))], room, ("drop", "swap", "duplicate", "group"), chance)
        )
    for plan in plans:
        plan.check(6)
        assert plan.layer_runs == 5
        assert plan.executions.count(0) == plan.executions.count(5) == 1
        seen |= {"twice" if len(set(plan.executions)) < 5 else "once", "in rows" if plan.is_sequential else "grouped"}
        seen.add("ordered" if list(plan.executions) == sorted(plan.executions) else "disordered")
    assert seen == {"twice", "once", "in rows", "grouped", "ordered", "disordered"}
    assert random_plan(Room(3, 5), chance).layer_runs == 5, "a budget above the depth is met by running layers twice"


def test_what_cannot_be_searched_is_said(subject: Subject, split: Split) -> None:
    with pytest.raises(InvalidInput, match="ends below"):
        SearchOrder.of(subject, SearchSpec(budget=DEPTH), split)
    with pytest.raises(InvalidInput, match="protected"):
        SearchOrder.of(subject, SearchSpec(budget=2, protect=(0, 1, 2)), split)
    with pytest.raises(InvalidInput, match="no layer 9"):
        SearchOrder.of(subject, SearchSpec(budget=4, protect=(9,)), split)
    with pytest.raises(InvalidInput, match="5 layer runs"):
        search(SearchOrder.of(subject, SearchSpec(budget=4, method=Evolution(start=("0..4",))), split))
