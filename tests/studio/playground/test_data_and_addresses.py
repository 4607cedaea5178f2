"""Old lesson links: the seed's text, the points it gives, the settings that an address means."""

from collections import Counter

import numpy as np
import pytest

from glassworks.core.errors import InvalidSpec
from glassworks.studio.playground.address import hash_of_settings, settings_of_hash
from glassworks.studio.playground.chance import TextChance
from glassworks.studio.playground.data import CURVES, make_data
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer

# Set, first training point, last test point, first weight, last but one number of the network; seed 0.91234, noise 25.
# Recorded from the original's own code (its commit 02469bd) with the package seedrandom 3.0.5.
RECORDED = [
    ("circle", (-0.5070732611224933, -0.3797115543975022, 1), (-1.1596245323691765, 0.7215438736102625, 1), -0.39458824882064836, 0.15569280932302876),
    ("xor", (-2.766057122385376, 1.7770288308926567, -1), (0.7631194277510478, 3.6858550509290557, 1), -0.39458824882064836, 0.15569280932302876),
    ("gauss", (2.0980902360481264, 1.0920909398088958, 1), (-1.6060594061583482, -1.7251036771393535, -1), 0.08426215029414807, 0.4335380667430495),
    ("spiral", (-2.361311267551887, -2.1790238344784565, -1), (1.962240188765132, 0.13816123238900907, -1), 0.4131624821751506, 0.073959852848003),
    ("reg-plane", (2.440087383160563, 0.449870453061914, 0.18566070312377225), (2.240221661733944, 4.176573672392346, 0.7474095727704895), 0.38667038058015746, -0.3673038344844992),
    ("reg-gauss", (2.440087383160563, 0.449870453061914, 0), (2.240221661733944, 4.176573672392346, 0), 0.38667038058015746, -0.3673038344844992),
]  # fmt: skip
LESSON = (
    "#activation=relu&batchSize=10&dataset=spiral&regDataset=reg-plane&learningRate=0.01&regularizationRate=0&noise=25"
    "&networkShape=7,4,3&seed=0.91234&showTestData=true&discretize=false&percTrainData=50&x=true&y=true&xTimesY=true"
    "&xSquared=true&ySquared=true&cosX=false&sinX=true&cosY=false&sinY=true&collectStats=false&problem=classification"
    "&initZero=false&hideText=false"
)


def test_the_chance_of_a_text_is_that_of_the_published_vectors() -> None:
    # RFC 6229, key 0x0102030405, bytes 256 to 262: 1c fc f6 2b 03 ed db.
    assert TextChance("\x01\x02\x03\x04\x05").number() == 0x1CFCF62B03EDDB / 2**56
    # The README of seedrandom, and numbers drawn with the package: a text longer than its key, Chinese, emoji, nothing.
    hello = TextChance("hello.")
    assert (hello.number(), hello.number()) == (0.9282578795792454, 0.3752569768646784)
    known = {
        "0.91234": 0.7786047404704631,
        "": 0.23144008215179881,
        "中文🙂": 0.14235491770751005,
        "x" * 700: 0.36471035744925107,
    }
    assert {text: TextChance(text).number() for text in known} == known


def test_a_copy_goes_on_by_itself() -> None:
    chance = TextChance("a")
    chance.number()
    assert chance.copy().number() == chance.copy().number() == chance.number()


@pytest.mark.parametrize(("name", "first", "last", "weight", "late"), RECORDED)
def test_an_old_seed_gives_the_same_points_and_first_weights(
    name: str, first: tuple[float, ...], last: tuple[float, ...], weight: float, late: float
) -> None:
    read = settings_of_hash(
        f"#problem={'regression' if 'reg' in name else 'classification'}&dataset={name}&regDataset={name}&seed=0.91234&noise=25"
    )
    data = make_data(read.settings)
    assert data.train[0] == pytest.approx(first, abs=1e-14)
    assert data.test[-1] == pytest.approx(last, abs=1e-14)
    numbers = Trainer(read.settings, data).first
    assert (float(numbers[0]), float(numbers[-2]), float(numbers[-1])) == (weight, late, 0.1)


def test_a_lesson_link_opens_as_it_was_meant() -> None:
    read = settings_of_hash(LESSON)
    assert not read.notes
    found = read.settings
    assert (found.activation, found.dataset, found.noise, found.shape) == ("relu", "spiral", 25, (7, 4, 3))
    assert found.features == ("x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY")
    assert (found.learning_rate, found.seed, found.regularization) == (0.01, "0.91234", "none")


@pytest.mark.parametrize(
    ("given", "field", "meant", "said"),
    [
        ("activation=swish", "activation", "tanh", 1),
        ("dataset=toString", "dataset", "circle", 1),
        ("noise=90", "noise", 50, 1),
        ("noise=80", "noise", 80, 0),
        ("noise=-3", "noise", 0, 1),
        ("batchSize=abc", "batch_size", 10, 1),
        ("batchSize=99999", "batch_size", 1200, 1),
        ("learningRate=0.05", "learning_rate", 0.05, 0),
        ("learningRate=1e999", "learning_rate", 0.03, 1),
        ("networkShape=", "shape", (), 0),
        ("networkShape=99,0", "shape", (32, 1), 1),
        ("networkShape=4,x", "shape", (4, 2), 1),
        ("x_hide=true", "features", ("y",), 0),
        ("y=0", "features", ("x", "y"), 0),
        ("y=false", "features", ("x",), 0),
        ("cosX=true", "features", ("x", "y", "cosX"), 0),
        ("regularization=L1", "regularization", "L1", 0),
        ("regularization=l1", "regularization", "none", 1),
        ("percTrainData=100", "train_percent", 99, 1),
        ("dataset=own&points=1,2,1;3,4;5,6,-1;a,b,c", "points", ((1, 2, 1), (5, 6, -1)), 1),
        ("dataset=own&points=1,2,7", "points", (), 1),
        ("activations=relu,,what,sine", "activations", ("relu", None, None, "sine"), 0),
        ("=&&&%%%=%zz&noise", "noise", 0, 0),
    ],
)
def test_values_that_cannot_be_fall_back_and_say_so(given: str, field: str, meant: object, said: int) -> None:
    read = settings_of_hash(given)
    assert getattr(read.settings, field) == meant
    assert len(read.notes) == said


def test_a_second_network_differs_only_where_the_address_says() -> None:
    read = settings_of_hash("seed=0.1&noise=5&b=true&b_activation=relu&b_networkShape=3&b_noise=50")
    assert read.other == read.settings.replaced_all({"activation": "relu", "shape": [3]})


def test_an_address_written_is_read_back() -> None:
    settings = PlaygroundSettings(
        seed="a&b 中 +", noise=12.5, shape=(), activations=(None, "step"), points=((1, 2, -1), (0.1, -3e-7, 1)),
        dataset="own", optimizer="adam", features=("cosY",), draw=3, dropout=0.25, learning_rate=1e-5, classes=4,
    )  # fmt: skip
    assert settings_of_hash(hash_of_settings(settings)).settings == settings


@pytest.mark.slow
def test_each_draw_of_a_seed_is_another_network_on_the_same_points() -> None:
    settings = [PlaygroundSettings(seed="0.5", draw=draw) for draw in (0, 1, 999_999)]
    trainers = [Trainer(one, make_data(one)) for one in settings]
    assert all((trainers[0].data.train == other.data.train).all() for other in trainers)
    firsts = [trainer.first.tolist() for trainer in trainers]
    assert firsts[0] != firsts[1] != firsts[2]
    # The running chance goes on: the second network begins where the first one ended.
    chance = make_data(settings[0]).chance
    for _ in range(settings[0].weight_count):
        chance.number()
    assert firsts[1][0] == chance.number() - 0.5


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["moons", "curve", "rings", "blobs", "arms"])
def test_the_further_sets_have_the_classes_that_were_asked_for(dataset: str) -> None:
    for classes in (2, 3, 5):
        settings = PlaygroundSettings.parse({"dataset": dataset, "classes": classes, "seed": "0.1", "noise": 5})
        data = make_data(settings)
        labels = Counter(np.concatenate([data.train, data.test])[:, 2].tolist())
        assert sum(labels.values()) == 500
        many = classes > 2 and dataset in ("rings", "blobs", "arms")
        assert set(labels) == (set(range(classes)) if many else {-1, 1})
        assert settings.outputs == (classes if many else 1)


@pytest.mark.slow
def test_points_of_the_set_curve_lie_above_and_below_it() -> None:
    for name, curve in CURVES.items():
        data = make_data(PlaygroundSettings(dataset="curve", curve=name, seed="0.1"))
        assert all((y > curve(x)) == (label == 1) for x, y, label in data.train.tolist())


def test_own_points_keep_their_labels_and_none_at_all_is_possible() -> None:
    two = PlaygroundSettings(dataset="own", points=((1, 2, 0), (3, 4, 1)), seed="s")
    assert sorted(np.concatenate([make_data(two).train, make_data(two).test])[:, 2].tolist()) == [-1, 1]
    four = PlaygroundSettings(dataset="own", points=((1, 2, 0), (3, 4, 3)), seed="s")
    assert four.outputs == 4
    assert len(make_data(PlaygroundSettings(dataset="own")).train) == 0
    with pytest.raises(InvalidSpec, match="name no classes"):
        PlaygroundSettings(dataset="own", points=((1, 2, 0.5),))
