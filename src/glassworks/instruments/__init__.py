"""Looks into any transformer: attention maps, head scores (also on random tokens), logit lens, memory recall.

Each with its picture.
"""

from glassworks.core.shelf import Shelf
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Instrument, Reading
from glassworks.instruments.head_scores import HeadScores
from glassworks.instruments.logit_lens import LogitLens
from glassworks.instruments.memory_recall import MemoryMatrix, MemoryRecall
from glassworks.instruments.repeated_tokens import RepeatedTokens

INSTRUMENTS: Shelf[Instrument] = Shelf(
    "instrument", AttentionMaps, HeadScores, RepeatedTokens, LogitLens, MemoryRecall, MemoryMatrix
)

__all__ = [
    "INSTRUMENTS",
    "AttentionMaps",
    "HeadScores",
    "Instrument",
    "LogitLens",
    "MemoryMatrix",
    "MemoryRecall",
    "Reading",
    "RepeatedTokens",
]
