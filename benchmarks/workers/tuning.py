"""TRL's side of tuning: its own trainers as its documentation calls them, from a folder with a model to a folder with one."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.workers.harness import Answer, Work, serve
from benchmarks.workers.written import read_lines

disable_progress_bars()


def _shared(options: Mapping[str, Any], out: str) -> dict[str, Any]:
    """The settings of both sides; everything else is as the library has it."""
    return {
        "output_dir": out, "max_steps": options["steps"], "per_device_train_batch_size": options["batch"],
        "learning_rate": options["rate"], "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
        "adam_beta1": 0.9, "adam_beta2": 0.95, "max_grad_norm": 1.0, "bf16": False, "gradient_checkpointing": False,
        "use_cpu": True, "dataloader_pin_memory": False, "seed": 0, "data_seed": 0, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "log_level": "error",
    }  # fmt: skip


def _opened(folder: Path) -> tuple[Any, Any]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "start")
    return model, AutoTokenizer.from_pretrained(folder / "start")


def _trained(trainer: Any, out: str, column: str = "loss") -> Answer:
    # As ours: matrix products may use the processor's own short formats.
    torch.set_float32_matmul_precision("medium")
    trainer.train()
    trainer.save_model(out)
    found = torch.tensor([row[column] for row in trainer.state.log_history if column in row])
    return {f"{column} of each update": found}


def sft(folder: Path, options: Mapping[str, Any]) -> Work:
    """Supervised fine-tuning on answers only."""

    def work() -> Answer:
        with tempfile.TemporaryDirectory() as out:
            model, tokenizer = _opened(folder)
            rows = [
                {"messages": [_said("user", row["prompt"]), _said("assistant", row["chosen"])]}
                for row in read_lines(folder / "learned.jsonl")
            ]
            settings = SFTConfig(**_shared(options, out), max_length=options["length"], assistant_only_loss=True)
            data = Dataset.from_list(rows)
            trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
            return _trained(trainer, out)

    return work


def dpo(folder: Path, options: Mapping[str, Any]) -> Work:
    """Direct preference optimisation."""

    def work() -> Answer:
        with tempfile.TemporaryDirectory() as out:
            model, tokenizer = _opened(folder)
            reference, _ = _opened(folder)
            rows = [
                {
                    "prompt": [_said("user", row["prompt"])],
                    "chosen": [_said("assistant", row["chosen"])],
                    "rejected": [_said("assistant", row["rejected"])],
                }
                for row in read_lines(folder / "learned.jsonl")
            ]
            settings = DPOConfig(**_shared(options, out), max_length=options["length"], beta=0.1)
            trainer = DPOTrainer(
                model=model,
                ref_model=reference,
                args=settings,
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
            )
            return _trained(trainer, out)

    return work


def grpo(folder: Path, options: Mapping[str, Any]) -> Work:
    """Group-relative policy optimisation with a reward for answers of five words."""

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [max(0.0, 1 - abs(len(said[0]["content"].split()) - 5) / 5) for said in completions]

    def work() -> Answer:
        with tempfile.TemporaryDirectory() as out:
            model, tokenizer = _opened(folder)
            rows = [{"prompt": [_said("user", row["prompt"])]} for row in read_lines(folder / "learned.jsonl")]
            settings = GRPOConfig(
                **_shared(options, out), num_generations=options["group"], beta=0.04, top_k=0,
                max_completion_length=options["answer_length"], temperature=options["temperature"],
                scale_rewards="none", loss_type="grpo",
            )  # fmt: skip
            data = Dataset.from_list(rows)
            trainer = GRPOTrainer(
                model=model, reward_funcs=[reward], args=settings, train_dataset=data, processing_class=tokenizer
            )
            return _trained(trainer, out, "reward")

    return work


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


if __name__ == "__main__":
    serve({"sft": sft, "dpo": dpo, "grpo": grpo})
