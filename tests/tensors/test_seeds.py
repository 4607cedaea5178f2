import torch

from glassworks.tensors.seeds import Seed


def test_equal_names_give_equal_streams_and_different_names_different_ones():
    def draw(seed: Seed) -> torch.Tensor:
        return torch.rand(7, generator=seed.generator())

    assert torch.equal(draw(Seed(3).child("batch", 1)), draw(Seed(3).child("batch", 1)))
    others = [Seed(3), Seed(4).child("batch", 1), Seed(3).child("batch", 2), Seed(3).child("batch", "1", "x")]
    assert all(not torch.equal(draw(Seed(3).child("batch", 1)), draw(other)) for other in others)
    assert Seed(3).numpy().integers(1000) == Seed(3).numpy().integers(1000)


def test_a_child_is_the_same_on_every_machine():
    assert Seed(0).child("data").value == Seed(0).child("data").value
    assert 0 <= Seed(0).child("data").value < 2**63


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(3, generator=Seed(1).child("x").generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_of_any_size_starts_a_generator():
    for value in (-(2**80), -1, 2**64, 10**30):
        assert torch.rand(1, generator=Seed(value).generator()).isfinite()
        assert Seed(value).numpy().integers(1000) == Seed(value).numpy().integers(1000)
    assert Seed(2**64).generator().initial_seed() != Seed(2**65).generator().initial_seed()
    assert Seed(7).generator().initial_seed() == 7
