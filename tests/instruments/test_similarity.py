import numpy as np
import torch

from glassworks.anatomy import Site, TokenBatch, capture
from glassworks.instruments import Similarity
from glassworks.instruments.similarity import DEFINITIONS, unbiased_hsic
from tests.families import subject as examined
from tests.instruments.test_sinks import BATCH, planted


def named(values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(DEFINITIONS, values, strict=True))


def slow_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, term by term."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def test_the_unbiased_estimator_is_the_published_one_and_is_zero_for_unrelated_rows() -> None:
    rows = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    grams = rows @ rows.mT
    found = unbiased_hsic(grams, grams)
    for i in range(2):
        for j in range(2):
            np.testing.assert_allclose(found[i, j], slow_hsic(rows[i].numpy(), rows[j].numpy()))
    # Six rows of width 40: the usual estimator would call them half alike.
    many = torch.randn(400, 2, 6, 40, generator=torch.Generator().manual_seed(1)).double()
    values = [unbiased_hsic(pair[:1] @ pair[:1].mT, pair[1:] @ pair[1:].mT) for pair in many]
    assert abs(float(torch.stack(values).mean())) < 1.0
    assert float(torch.stack([unbiased_hsic(p[:1] @ p[:1].mT, p[:1] @ p[:1].mT) for p in many]).mean()) > 30


def test_one_long_token_decides_the_flat_cosine_and_no_other() -> None:
    found = named(Similarity().read(planted(), BATCH).values)
    # Between layers 1 and 2 the planted sink is there on both sides; states are the embedding, then layers 0 to 4.
    assert found["flat"][2, 3] > 0.999
    assert found["per_token_no_sinks"][2, 3] < found["flat"][2, 3]
    assert found["flat"][2, 4] < 0.5
    assert found["per_token_no_sinks"][2, 4] > 0.8
    assert np.isnan(found["angular_distance"]).sum() == 0


def test_the_definitions_are_what_they_say_on_a_public_model() -> None:
    subject = examined("gpt2")
    batch = TokenBatch(
        torch.tensor([[3, 7, 1, 7, 9, 2], [4, 4, 8, 0, 0, 0]]), torch.tensor([[1] * 6, [1] * 3 + [0] * 3]).bool()
    )
    found = named(Similarity().read(subject, batch).values)
    seen = capture(subject, batch, [Site("in", 0), Site("out", 2)])
    texts = [
        tuple(seen[name][row][batch.real[row]].double().numpy() for name in ("layers.0.in", "layers.2.out"))
        for row in (0, 1)
    ]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    np.testing.assert_allclose(found["flat"][0, 3], np.mean([cosine(a, b) for a, b in texts]))
    tokens = [cosine(x, y) for a, b in texts for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found["per_token"][0, 3], np.mean(tokens))
    angles = [np.arccos(cosine(a[-1], b[-1])) / np.pi for a, b in texts]
    np.testing.assert_allclose(found["angular_distance"][0, 3], np.mean(angles))
    first, last = (np.concatenate([text[i] for text in texts]) for i in (0, 1))
    expected = slow_hsic(first, last) / np.sqrt(slow_hsic(first, first) * slow_hsic(last, last))
    np.testing.assert_allclose(found["cka"][0, 3], expected)
    for name in DEFINITIONS:
        np.testing.assert_allclose(np.diagonal(found[name]), name != "angular_distance", atol=1e-6)


def test_minibatches_reach_over_texts_and_three_tokens_have_no_cka() -> None:
    subject = examined("llama")
    small = Similarity(minibatch=5)
    whole = named(small.read(subject, BATCH).values)
    assert not np.isnan(whole["cka"]).any()
    alone = named(small.read(subject, TokenBatch(BATCH.ids[:1, :3])).values)
    assert np.isnan(alone["cka"]).all()
    assert not np.isnan(alone["per_token"]).any()
