"""Pretraining beside the plain recipe and beside the library's trainer: 6 layers of width 384, windows of 256, on a CPU.

Seconds are of the processor, for other work on the machine must not count, and every side runs the same number of
threads. Ours is the pretraining stage's step: the Trainer with its settings. The plain side is nanoGPT's recipe written
from its description: eager, GELU, learned positions, fused scaled dot-product attention, AdamW (0.9, 0.95), clip 1.
"""

import math
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Ratio, alternate, row
from glassworks.core.events import EventLog
from glassworks.tensors.memory import keep_freed_memory
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, StageOptions
from glassworks.training.stages.pretrain import PretrainSpec, small_decoder
from glassworks.training.stages.trainer import arguments
from glassworks.training.stages.windows import NextToken, Windows, stacked

DEPTH, WIDTH, HEADS, LENGTH, BATCH, VOCABULARY, STEPS = 6, 384, 6, 256, 8, 256, 2
TOKENS = BATCH * LENGTH * STEPS
SHAPE = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "context": LENGTH, "feedforward_width": 4 * WIDTH}


class PlainBlock(nn.Module):
    """A GPT-2 block in eager PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attention and feed-forward, each before its norm, added to the stream."""
        b, t, c = x.shape
        q, k, v = (y.view(b, t, HEADS, -1).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainModel(nn.Module):
    """GPT-2's shape with a tied unembedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(PlainBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy((self.norm(x) @ self.tokens.weight.T).flatten(0, 1), targets.flatten())


def plain(data: np.ndarray, bfloat16: bool) -> Callable[[], Any]:
    """Some steps of the plain recipe: windows at random places, as it draws them."""
    model = PlainModel()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def steps() -> None:
        for _ in range(STEPS):
            starts = torch.randint(len(data) - LENGTH, (BATCH,))
            x = torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(np.int64)) for i in starts])
            y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in starts])
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = model(x, y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

    return steps


def ours(data: np.ndarray, folder: Path) -> Callable[[], Any]:
    """Some steps of the pretraining stage: its model, windows and settings."""
    from transformers import Trainer, TrainingArguments

    from glassworks.models.transformer import build_model

    choices = SHAPE | {"vocabulary": VOCABULARY, "feedforward": ("gelu",), "norm": "layer", "positions": "learned"}
    spec = PretrainSpec(model=small_decoder().replaced_all(choices), batch=BATCH, length=LENGTH, steps=10**6)
    desk = Desk(spec, "bench", StageOptions(store=folder, checkpoint_every=10**6), EventLog())
    model = build_model(spec.model, Seed(0))
    windows = Windows(data, LENGTH, spec.steps * BATCH, NextToken(), Seed(0))
    settings = TrainingArguments(**arguments(desk, spec), train_sampling_strategy="sequential")
    return _some_steps(Trainer(model, settings, data_collator=stacked, train_dataset=windows), relaxed=True)


def library(data: np.ndarray, folder: Path, bfloat16: bool) -> Callable[[], Any]:
    """Some steps of the library's trainer on its own model of the same sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH * 2 // 3, max_position_embeddings=LENGTH, tie_word_embeddings=True,
    )  # fmt: skip
    settings = TrainingArguments(
        output_dir=str(folder), max_steps=10**6, per_device_train_batch_size=BATCH, use_cpu=True, bf16=bfloat16,
        report_to="none", disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    windows = Windows(data, LENGTH, 10**6 * BATCH, NextToken(), Seed(0))
    trainer = Trainer(LlamaForCausalLM(config), settings, data_collator=stacked, train_dataset=windows)
    return _some_steps(trainer, relaxed=False)


def _some_steps(trainer: Any, *, relaxed: bool) -> Callable[[], Any]:
    """Runs a few steps of a trainer at a time: its own preparation once, then its own `training_step`."""
    loader = iter(trainer.get_train_dataloader())
    trainer.create_optimizer_and_scheduler(10**6)
    model, optimiser = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    model.train()
    # Set by its own loop, which is left out here.
    trainer.current_gradient_accumulation_steps = 1

    def steps() -> None:
        before = torch.get_float32_matmul_precision()
        if relaxed:
            torch.set_float32_matmul_precision("medium")
        for _ in range(STEPS):
            trainer.training_step(model, next(loader), None)
            trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            trainer.lr_scheduler.step()
            model.zero_grad()
        torch.set_float32_matmul_precision(before)

    return steps


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Ours beside each other side, in turns."""
    keep_freed_memory()
    data = Seed(0).numpy().integers(0, VOCABULARY, 200_000).astype(np.uint16)
    found: list[Ratio] = []
    with _folder() as folder:
        mine = ours(data, folder / "ours")
        for against, target, build in (
            ("nanoGPT's recipe written plainly, float32", 1.2, lambda: plain(data, bfloat16=False)),
            ("nanoGPT's recipe written plainly, bfloat16", 0.0, lambda: plain(data, bfloat16=True)),
            (
                "Trainer with LlamaForCausalLM, float32 (its default)",
                1.3,
                lambda: library(data, folder, bfloat16=False),
            ),
            ("Trainer with LlamaForCausalLM, bf16=True", 0.0, lambda: library(data, folder, bfloat16=True)),
        ):
            times = alternate(mine, build(), runs, clock=time.process_time)
            words = f">= {target}x" if target else "reported"
            speeds = [round(TOKENS / sorted(side)[len(side) // 2]) for side in times]
            facts = {"unit": "CPU s", "tokens/s": speeds, "threads": torch.get_num_threads()}
            found.append(row("pretraining step, 6 layers of 384, T 256", against, (words, target), times, facts))
        found.append(_preparation(mine))
    return found


def _preparation(mine: Callable[[], Any]) -> Ratio:
    """Spelling a text of so many tokens beside learning from them once; asked: at most a tenth."""
    from glassworks.training.stages.tokenizer import TokenizerSpec, made
    from glassworks.training.stages.tokens import tokens_of

    with _folder() as folder:
        path = folder / "text.txt"
        words = Seed(1).numpy().integers(0, 3000, 120_000)
        path.write_text(" ".join(f"w{number:x}" for number in words), encoding="utf-8")
        spec = TokenizerSpec(data=(str(path),), vocabulary=2048)
        began = time.process_time()
        tokens = tokens_of(spec, made(spec, spec.corpus), folder)
        spelled = time.process_time() - began
        count = len(tokens.fit) + len(tokens.held_out)
    began = time.process_time()
    mine()
    learned = (time.process_time() - began) * math.ceil(count / TOKENS)
    facts = {"unit": "CPU s", "tokens": count, "share": round(spelled / learned, 4)}
    return row(
        "data preparation (tokenizer and spelling)",
        "one epoch of training",
        ("<= 10 %", 10.0),
        ([spelled], [learned]),
        facts,
    )


if __name__ == "__main__":
    for one in rows(3):
        print(f"{one.against}: {one.ratio:.2f} ({one.target}) {one.facts}")
