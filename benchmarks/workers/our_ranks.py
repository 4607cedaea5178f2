"""One process of a pretraining: ours or plain torch, alone or under torch's launcher; leaves the clock after every step."""

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_post_hook

from glassworks.core.events import Event, EventLog, StepDone
from glassworks.models.transformer import build_model
from glassworks.tensors.memory import keep_freed_memory
from glassworks.tensors.processes import world
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import StageOptions, run_stage
from glassworks.training.stages.pretrain import PretrainSpec, small_decoder

# The vocabulary is that of bytes with the signs of a chat.
LENGTH, BATCH, VOCABULARY = 256, 16, 262
TOKENS = BATCH * LENGTH
SHAPE = {"width": 384, "depth": 6, "heads": 6, "context": LENGTH, "feedforward_width": 1024, "vocabulary": VOCABULARY}


class Clock:
    """Wall time and this process's own seconds at the end of every optimiser step, and the losses that are told of."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def tick(self, *_: object) -> None:
        """Called after each step of any optimiser."""
        self.times.append((time.perf_counter(), time.process_time()))

    def listen(self, event: Event) -> None:
        """Takes a loss from our events; only the first process tells of them."""
        if isinstance(event, StepDone):
            self.losses.append(event.loss)


def ours(folder: Path, steps: int, clock: Clock) -> None:
    """The pretraining stage, as `glassworks train pretrain text.txt --launch N` runs it in each process."""
    spec = PretrainSpec(
        model=small_decoder().replaced_all(SHAPE), data=(str(folder / "text.txt"),), batch=BATCH, length=LENGTH,
        steps=steps, warmup=0.0, schedule="constant", log_every=1, look_every=10**6, samples=0,
    )  # fmt: skip
    events = EventLog()
    events.listen(clock.listen)
    options = StageOptions(store=folder / "store", device=torch.device("cpu"), checkpoint_every=10**6)
    run_stage(spec, options, events)


def plain(folder: Path, steps: int, clock: Clock) -> None:
    """The same model in torch's DDP as its documentation writes it; bfloat16 by autocast, windows at random places."""
    keep_freed_memory()
    size = world().size
    if size > 1:
        dist.init_process_group("gloo")
    model: nn.Module = build_model(small_decoder().replaced_all(SHAPE), Seed(0))
    model.train()
    parallel = DistributedDataParallel(model) if size > 1 else model
    optimiser = torch.optim.AdamW(parallel.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    data = torch.frombuffer(bytearray((folder / "text.txt").read_bytes()), dtype=torch.uint8)
    chance = torch.Generator().manual_seed(world().rank)
    for _ in range(steps):
        starts = torch.randint(len(data) - LENGTH, (BATCH // size,), generator=chance)
        rows = torch.stack([data[start : start + LENGTH] for start in starts]).long()
        with torch.autocast("cpu", torch.bfloat16):
            logits = parallel(input_ids=rows, use_cache=False).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), rows[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parallel.parameters(), 1.0)
        optimiser.step()
        clock.losses.append(float(loss))
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    """`our_ranks SIDE FOLDER STEPS`: runs the side and leaves SIDE-RANK.json in the folder."""
    side, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    clock = Clock()
    rank = world().rank
    ticking = register_optimizer_step_post_hook(clock.tick)
    {"ours": ours, "plain": plain}[side](folder, steps, clock)
    ticking.remove()
    found = {"times": clock.times, "losses": clock.losses}
    (folder / f"{side}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
