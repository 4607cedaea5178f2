import pytest

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.experiments.scaling.laws import BESIROGLU, HOFFMANN, PUBLISHED
from glassworks.experiments.scaling.planning import Request, plan
from tests.experiments.scaling.scaling_numbers import LAW


def test_seventy_billion_parameters_on_two_trillion_tokens_take_six_thousand_machines_twelve_days():
    found = plan(Request(parameters=70e9, tokens=2e12, gpu="a100", gpus=6000, utilisation=0.43), BESIROGLU)
    assert found.cost.days == pytest.approx(12, rel=0.02)
    assert found.cost.file_bytes == 140e9
    assert found.cost.text_bytes == pytest.approx(10e12)


@pytest.mark.parametrize("law", PUBLISHED.values())
def test_a_budget_alone_is_split_at_its_lowest_loss(law):
    found = plan(Request(flop=1e21), law)
    assert found.chosen is found.best
    assert found.best.flop == pytest.approx(1e21)
    for parameters in (0.7 * found.best.parameters, 1.4 * found.best.parameters):
        assert plan(Request(flop=1e21, parameters=parameters), law).chosen.loss > found.best.loss


def test_a_model_of_bytes_reads_as_many_bytes_as_tokens():
    found = plan(Request(flop=1e12), LAW)
    assert found.cost.text_bytes == found.best.tokens


def test_hours_of_a_machine_are_operations():
    hours = plan(Request(gpu_hours=1000, gpu="h100", utilisation=0.5), HOFFMANN)
    assert hours.best.flop == pytest.approx(1000 * 3600 * 989e12 * 0.5)
    assert hours.cost.gpu_hours == pytest.approx(1000)


def test_a_size_or_data_alone_ask_for_the_budget_that_they_are_best_for():
    by_size = plan(Request(parameters=7e9), BESIROGLU)
    assert by_size.best.parameters == pytest.approx(7e9)
    by_data = plan(Request(tokens=by_size.best.tokens), BESIROGLU)
    assert by_data.best.parameters == pytest.approx(7e9)


def test_the_more_a_model_is_run_the_smaller_and_the_longer_trained_it_should_be():
    found = [plan(Request(flop=1e23, inference_tokens=tokens), BESIROGLU) for tokens in (1e11, 1e12, 1e13)]
    sizes = [one.running.split.parameters for one in found if one.running]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    for one in found:
        assert one.running is not None
        assert one.running.split.loss == pytest.approx(one.best.loss)
        assert one.running.together <= one.running.of_best
    assert plan(Request(flop=1e23), BESIROGLU).running is None


@pytest.mark.parametrize(
    "request_",
    [
        Request(),
        Request(flop=-1.0),
        Request(flop=float("nan")),
        Request(flop=1e20, gpu_hours=3),
        Request(flop=1e20, parameters=1e9, tokens=1e9),
        Request(flop=1e20, utilisation=1.5),
        Request(flop=1e20, utilisation=0),
        Request(flop=1e20, gpus=0),
        Request(flop=1e20, inference_tokens=-1),
    ],
)
def test_what_cannot_be_planned_is_refused(request_):
    with pytest.raises(InvalidInput):
        plan(request_, HOFFMANN)


def test_an_unknown_machine_is_named_with_the_nearest():
    with pytest.raises(UnknownName) as caught:
        plan(Request(flop=1e20, gpu="h10"), HOFFMANN)
    assert caught.value.nearest == "h100"
