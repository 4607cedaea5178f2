"""Small specs that between them use every option; each is a model with something of its own to get wrong."""

from glassworks.mixers import Linear, Softmax
from glassworks.models import TransformerSpec

SPECS = {
    "plain": TransformerSpec(vocabulary=13, width=8, depth=2, heads=2, context=24),
    "simplified": TransformerSpec(
        vocabulary=13,
        width=8,
        depth=2,
        heads=1,
        context=24,
        query="identity",
        norm="none",
        feedforward=("none", "linear"),
        positions="random",
    ),
    "llama": TransformerSpec(
        vocabulary=13,
        width=8,
        depth=2,
        heads=4,
        kv_heads=2,
        head_width=4,
        norm="rms",
        feedforward=("swiglu",),
        positions="rotary",
        tie_output=True,
    ),
    "sum": TransformerSpec(
        vocabulary=13,
        width=8,
        depth=2,
        heads=2,
        context=24,
        mixers=(Linear(),),
        positions="sinusoidal",
        feedforward=("gelu",),
        score_scale="none",
    ),
    "hybrid": TransformerSpec(
        vocabulary=13,
        width=8,
        depth=3,
        heads=2,
        kv_heads=1,
        context=24,
        mixers=(Linear(), Softmax(), Linear()),
        positions="rotary",
        rotary_layers=(1,),
        norm_placement="post",
        feedforward_reads="block_input",
        bias=True,
    ),
}
