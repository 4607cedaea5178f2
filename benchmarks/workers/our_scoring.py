"""Our side of scoring: a multiple-choice task, from its file to its metrics."""

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.workers.harness import Answer, Work, serve
from benchmarks.workers.written import WORDS, sentence, write_lines, write_model
from glassworks.anatomy import Subject
from glassworks.evaluation.harness import Harness
from glassworks.evaluation.items import score_items

# A task of ours whose file has the fields that the other side's definition names too.
TASK, FILE = "commonsense_qa_four_way", "commonsense_qa.jsonl"


def prepare(folder: Path, options: Mapping[str, Any]) -> Work:
    """Writes a model and a task of random questions, each with four answers of several tokens."""
    write_model(folder, options["width"], options["depth"], 512)
    chance = random.Random(0)
    rows = [
        {
            "query": f"Question: {sentence(chance, 4, 24)}?\nAnswer:",
            # Answers that begin alike would be run as one here, and each alone there.
            "choices": [f"{word} {sentence(chance, 1, 3)}" for word in chance.sample(WORDS, 4)],
            "gold": chance.randrange(4),
        }
        for _ in range(options["documents"])
    ]
    write_lines(folder / FILE, rows)
    return dict


def choices(folder: Path, options: Mapping[str, Any]) -> Work:
    """Finds the task, prepares its items, runs and scores them."""
    os.environ["GLASSWORKS_ASSETS"] = str(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    subject = Subject.of(model, AutoTokenizer.from_pretrained(folder))
    benchmark = Harness(task=TASK, first_token="tokenizer")

    def work() -> Answer:
        prepared: Any = benchmark.prepare(subject)
        scored = score_items(subject, prepared.items)
        accuracy = prepared.score(scored)["acc"]
        return {
            "log-probability of each choice": torch.tensor([one.logprob for one in scored]),
            "right, each document": torch.tensor(accuracy.per_document),
            "accuracy": torch.tensor([accuracy.value]),
        }

    return work


if __name__ == "__main__":
    serve({"prepare": prepare, "choices": choices})
