"""lm-evaluation-harness' side of scoring: `simple_evaluate` of the same task with its Hugging Face model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.workers.harness import Answer, Work, serve


def choices(folder: Path, options: Mapping[str, Any]) -> Work:
    """From the task's file to its metrics."""
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options["batch"], device="cpu")
    manager = TaskManager(include_defaults=False)
    files = {"validation": str(folder / "commonsense_qa.jsonl")}
    task = {
        "task": "commonsense_qa_four_way", "output_type": "multiple_choice", "dataset_path": "json",
        "dataset_kwargs": {"data_files": files}, "validation_split": "validation", "doc_to_text": "query",
        "doc_to_target": "gold", "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip

    def work() -> Answer:
        found: Any = simple_evaluate(
            model=wrapped, tasks=[dict(task)], task_manager=manager, bootstrap_iters=0, log_samples=True
        )
        samples = sorted(found["samples"][task["task"]], key=lambda sample: sample["doc_id"])
        return {
            "log-probability of each choice": torch.tensor(
                [float(answer[0]) for sample in samples for answer in sample["filtered_resps"]], dtype=torch.float64
            ),
            "right, each document": torch.tensor([float(sample["acc"]) for sample in samples], dtype=torch.float64),
            "accuracy": torch.tensor([found["results"][task["task"]]["acc,none"]], dtype=torch.float64),
        }

    return work


if __name__ == "__main__":
    serve({"choices": choices})
