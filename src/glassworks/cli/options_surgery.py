"""The options of `glassworks surgery` and `glassworks sweep`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from glassworks.cli.arguments import (
    Bits,
    Chance,
    Device,
    DeviceMap,
    Dtype,
    Estimate,
    ExecutorText,
    Json,
    Lang,
    MaxMemory,
    Offline,
    Offload,
    Out,
    PromptTokens,
    Source,
    TrustRemoteCode,
    argument,
)
from glassworks.core.text import say

Limit = Annotated[int | None, argument(say("Documents of each benchmark; all, if not given."), metavar="N")]
Stack = Annotated[
    str | None, argument(say("Of an encoder-decoder: encoder or decoder (the default)."), metavar="encoder|decoder")
]


@dataclass(frozen=True)
class Surgery:
    """Runs a model's layers by a plan."""

    source: Source
    plan: Annotated[
        str,
        argument(
            say(
                "Which layers run, in which order: 0..3 (4 | 5 | 6)x3 7..11 runs 0 to 3, three times the mean of 4, 5, 6, then 7 to 11. Also a saved plan.json or a mergekit .yml file."
            ),
            metavar="PLAN",
        ),
    ]
    prompt: Annotated[
        str | None, argument(say("A text to go on from; of an encoder-decoder, what it reads."), metavar="TEXT")
    ] = None
    tokens: PromptTokens = None
    new_tokens: Annotated[int, argument(say("At most so many tokens are written."), silent=False, metavar="N")] = 40
    temperature: Annotated[
        float, argument(say("0 takes the likeliest token; above, tokens are drawn."), silent=False, metavar="T")
    ] = 0.0
    seed: Chance = 0
    eval: Annotated[
        str | None,
        argument(say("Benchmarks with commas between, e.g. ppl,arc_easy:limit=50."), metavar="NAMES"),
    ] = None
    limit: Limit = None
    stack: Stack = None
    cache: Annotated[
        Literal["exact", "mean"],
        argument(
            say("exact: a slot for every execution of a layer; mean: one average for parallel layers, as published."),
            silent=False,
        ),
    ] = "exact"
    check_cache: Annotated[
        bool, argument(say("Compares the written tokens with one pass over the whole text, without a cache."))
    ] = False
    protect: Annotated[
        str,
        argument(
            say("Refuses a plan that drops or moves these layers: auto (those of the attention sink), 2,11, or none."),
            silent=False,
            metavar="LAYERS",
        ),
    ] = "none"
    save: Annotated[
        str | None, argument(say("Writes the plan to this file, with the model that it is for."), metavar="FILE")
    ] = None
    estimate: Estimate = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    device_map: DeviceMap = None
    max_memory: MaxMemory = None
    offload: Offload = None
    bits: Bits = None
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Sweep:
    """Scores many plans of a model's layers."""

    source: Source
    plans: Annotated[
        str,
        argument(
            say(
                "Families of plans with commas between, each at every start: painters (the published set), or e.g. skip,reverse,looped:loops=[2,3],repeat_block."
            ),
            silent=False,
            metavar="NAMES",
        ),
    ] = "painters"
    eval: Annotated[
        str,
        argument(say("Benchmarks with commas between, e.g. ppl,arc_easy:limit=50."), silent=False, metavar="NAMES"),
    ] = "ppl"
    limit: Limit = None
    seeds: Annotated[int, argument(say("Random orders for each start."), silent=False, metavar="N")] = 10
    protect: Annotated[
        str,
        argument(
            say("Layers that stay in their place: auto (those that write or erase the attention sink), 2,11, or none."),
            silent=False,
            metavar="LAYERS",
        ),
    ] = "none"
    stack: Stack = None
    schedule: Annotated[
        Literal["depth", "layers"],
        argument(
            say("depth: least memory; layers: each layer for all plans that need it next, fewest loads of weights."),
            silent=False,
        ),
    ] = "depth"
    tokens_per_piece: Annotated[
        int | None,
        argument(say("Tokens run together, and the most that a stop can lose; default 512."), metavar="N"),
    ] = None
    executor: ExecutorText = None
    dry_run: Annotated[bool, argument(say("Lists the plans and estimates time and memory; scores nothing."))] = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None
