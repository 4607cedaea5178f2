"""Benchmarks for any model: prepared once, scored under many plans."""

from glassworks.evaluation.base import (
    AnyPrepared,
    Benchmark,
    GenerativePrepared,
    MetricScore,
    Prepared,
    Scores,
    VectorPrepared,
)
from glassworks.evaluation.benchmarks import BENCHMARKS, parse_benchmarks
from glassworks.evaluation.compression import Compressed, bits_of, compress, decompress
from glassworks.evaluation.evaluate import evaluate, item_vectors
from glassworks.evaluation.generate import generate_texts
from glassworks.evaluation.harness import Harness
from glassworks.evaluation.items import Item, ItemBatch, Scored, batches, pool_vectors, read_scores, score_items
from glassworks.evaluation.masked import MaskedLanguage
from glassworks.evaluation.perplexity import Perplexity
from glassworks.evaluation.retrieval import Retrieval
from glassworks.evaluation.scores import Normalised, median_over, normalised
from glassworks.evaluation.titles import Titles

__all__ = [
    "BENCHMARKS",
    "AnyPrepared",
    "Benchmark",
    "Compressed",
    "GenerativePrepared",
    "Harness",
    "Item",
    "ItemBatch",
    "MaskedLanguage",
    "MetricScore",
    "Normalised",
    "Perplexity",
    "Prepared",
    "Retrieval",
    "Scored",
    "Scores",
    "Titles",
    "VectorPrepared",
    "batches",
    "bits_of",
    "compress",
    "decompress",
    "evaluate",
    "generate_texts",
    "item_vectors",
    "median_over",
    "normalised",
    "parse_benchmarks",
    "pool_vectors",
    "read_scores",
    "score_items",
]
