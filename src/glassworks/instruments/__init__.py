"""Looks into any transformer: attention maps, head scores (also on random tokens), logit lens, memory recall.

Each with its picture.
"""

from glassworks.core.shelf import Shelf
from glassworks.instruments.ablation import Ablation
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Instrument, Reading
from glassworks.instruments.block_influence import BlockInfluence
from glassworks.instruments.direct_attribution import DirectAttribution
from glassworks.instruments.head_scores import HeadScores
from glassworks.instruments.lens_depth import LensDepth
from glassworks.instruments.linear_probe import LinearProbe
from glassworks.instruments.logit_lens import LogitLens
from glassworks.instruments.memory_recall import MemoryMatrix, MemoryRecall
from glassworks.instruments.patching import Patching
from glassworks.instruments.repeated_tokens import RepeatedTokens
from glassworks.instruments.similarity import Similarity
from glassworks.instruments.sinks import SinkNorms, Sinks, find_sinks
from glassworks.instruments.tuned_lens import TunedLens, train_tuned_lens

INSTRUMENTS: Shelf[Instrument] = Shelf(
    "instrument",
    AttentionMaps,
    HeadScores,
    RepeatedTokens,
    LogitLens,
    LensDepth,
    TunedLens,
    LinearProbe,
    Similarity,
    BlockInfluence,
    SinkNorms,
    DirectAttribution,
    Patching,
    Ablation,
    MemoryRecall,
    MemoryMatrix,
)

__all__ = [
    "INSTRUMENTS",
    "Ablation",
    "AttentionMaps",
    "BlockInfluence",
    "DirectAttribution",
    "HeadScores",
    "Instrument",
    "LensDepth",
    "LinearProbe",
    "LogitLens",
    "MemoryMatrix",
    "MemoryRecall",
    "Patching",
    "Reading",
    "RepeatedTokens",
    "Similarity",
    "SinkNorms",
    "Sinks",
    "TunedLens",
    "find_sinks",
    "train_tuned_lens",
]
