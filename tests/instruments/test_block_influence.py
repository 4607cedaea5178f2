import numpy as np
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.instruments import BlockInfluence
from tests.families import subject as examined
from tests.families import tiny

BATCH = TokenBatch(torch.tensor([[5, 9, 5, 17, 30], [1, 2, 3, 4, 6]]))


def test_a_layer_that_does_nothing_has_none_and_one_that_turns_back_has_two() -> None:
    model = tiny("llama")
    with torch.no_grad():
        for layer in model.model.layers[:2]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    # Layer 1 now adds nothing; its output is turned round.
    model.model.layers[1].register_forward_hook(lambda module, given, out: -out)
    found = BlockInfluence().read(Subject.of(model), BATCH).values
    np.testing.assert_allclose(found[:2, 0], [0.0, 2.0], atol=1e-6)
    assert 0 < found[2, 1] < found[2, 0] < found[2, 2]


def test_the_interval_is_over_texts_and_over_tokens_of_a_single_one() -> None:
    subject = examined("gpt2")
    both = BlockInfluence().read(subject, BATCH)
    alone = [BlockInfluence().read(subject, TokenBatch(BATCH.ids[i : i + 1])) for i in (0, 1)]
    np.testing.assert_allclose(both.values[:, 0], np.mean([one.values[:, 0] for one in alone], 0))
    assert not both.caveats
    assert "not independent" in alone[0].caveats[0].en
    assert "Mean and 95 % interval over" not in BlockInfluence().draw(both).caption.en
