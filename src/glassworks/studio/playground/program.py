"""A network of the playground as a PyTorch program that needs nothing else and prints the losses that the page shows."""

from __future__ import annotations

from itertools import pairwise
from string import Template

from torch import Tensor

from glassworks.studio.playground.address import hash_of_settings
from glassworks.studio.playground.network import Layout
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer
from glassworks.studio.playground.updating import MOMENTUM

_MODULES = {
    "relu": "nn.ReLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
    "linear": "nn.Identity()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "leaky_relu": "nn.LeakyReLU(0.01)",
    "sine": "Sine()",
    "step": "Step()",
}
_FEATURES = {
    "x": "x1",
    "y": "x2",
    "xSquared": "x1 * x1",
    "ySquared": "x2 * x2",
    "xTimesY": "x1 * x2",
    "sinX": "torch.sin(x1)",
    "sinY": "torch.sin(x2)",
    "cosX": "torch.cos(x1)",
    "cosY": "torch.cos(x2)",
}
_OWN_MODULES = {
    "sine": "class Sine(nn.Module):\n    def forward(self, sums):\n        return torch.sin(sums)\n",
    "step": "class Step(nn.Module):\n    def forward(self, sums):\n        return (sums > 0).to(sums.dtype)\n",
}

_PROGRAM = Template('''"""A small network and its training, as set up in the playground of Glassworks. Needs PyTorch only.

$what
Address of the settings: $address
"""

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
$dropout_note
EPOCHS = $epochs
BATCH_SIZE = $batch_size
LEARNING_RATE = $learning_rate
REGULARIZATION, REGULARIZATION_RATE = "$regularization", $regularization_rate

# Points as x1, x2, label, in the order in which they are learned.
TRAIN = torch.tensor($train).reshape(-1, 3)
TEST = torch.tensor($test).reshape(-1, 3)

# One matrix per layer, (out, in + 1); the last column holds the biases.
FIRST_WEIGHTS = [
$first
]
PRESENT_WEIGHTS = [
$present
]


def features(points):
    x1, x2 = points[:, 0], points[:, 1]
    $features


$own_modules
model = nn.Sequential(
$modules
)


def load(matrices):
    layers = [module for module in model if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer, matrix in zip(layers, matrices):
            matrix = torch.tensor(matrix)
            layer.weight.copy_(matrix[:, :-1])
            layer.bias.copy_(matrix[:, -1])


def errors(points):
    """The loss of each point."""
    outputs = model(features(points))
    $loss


def report(what):
    model.eval()
    with torch.no_grad():
        train, test = (errors(points).mean().item() if len(points) else float("nan") for points in (TRAIN, TEST))
    model.train()
    print(f"{what}: training loss {train:.6f}, test loss {test:.6f}")


weights = [module.weight for module in model if isinstance(module, nn.Linear)]
frozen = [torch.zeros_like(weight, dtype=torch.bool) for weight in weights]
optimizer = $optimizer


def update(count):
    """The optimizer's step with the mean gradient of `count` points, then the pull of the regularisation on the weights."""
    before = [weight.detach().clone() for weight in weights]
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= count
    optimizer.step()
    optimizer.zero_grad()
    pull = LEARNING_RATE * REGULARIZATION_RATE
    with torch.no_grad():
        for weight, old, stays in zip(weights, before, frozen):
            if REGULARIZATION == "L2":
                weight -= pull * old
            if REGULARIZATION == "L1":
                weight[stays] = 0.0
                pulled = weight - pull * torch.sign(old)
                # A weight that the pull takes across zero becomes zero and stays it.
                stays |= weight * pulled < 0
                weight.copy_(torch.where(stays, 0.0, pulled))


load(FIRST_WEIGHTS)
report("epoch 0")
count = 0
for epoch in range(1, EPOCHS + 1):
    for start in range(0, len(TRAIN), BATCH_SIZE):
        batch = TRAIN[start : start + BATCH_SIZE]
        errors(batch).sum().backward()
        count += len(batch)
        # Points after the last full batch carry their gradient into the next epoch.
        if (start + len(batch)) % BATCH_SIZE == 0:
            update(count)
            count = 0
    if epoch == EPOCHS or epoch % max(1, EPOCHS // 10) == 0:
        report(f"epoch {epoch}")

load(PRESENT_WEIGHTS)
report("as on the page")
''')


def program(trainer: Trainer) -> str:
    """The program of one network: trains it from its first weights, then shows it as it is now."""
    settings, layout = trainer.settings, trainer.layout
    names = {name for name in layout.activations if name in _OWN_MODULES}
    return _PROGRAM.substitute(
        what=_what(trainer),
        address=hash_of_settings(settings.replaced("points", [])),
        dropout_note="torch.manual_seed(0)  # dropout draws from it\n" if settings.dropout else "",
        epochs=trainer.epoch,
        batch_size=min(settings.batch_size, max(len(trainer.data.train), 1)),
        learning_rate=repr(settings.learning_rate),
        regularization=settings.regularization,
        regularization_rate=repr(settings.regularization_rate),
        train=trainer.data.train.tolist(),
        test=trainer.data.test.tolist(),
        first=_matrices(layout, trainer.first),
        present=_matrices(layout, trainer.weights),
        features=_features(settings),
        own_modules="".join(_OWN_MODULES[name] + "\n\n" for name in sorted(names)).rstrip("\n")
        + ("\n\n" if names else ""),
        modules=_modules(settings, layout),
        loss=_loss(layout),
        optimizer=_optimizer(settings),
    )


def _what(trainer: Trainer) -> str:
    if trainer.settings.dropout:
        return "Training again differs a little: dropout draws other neurons."
    if trainer.is_as_trained and trainer.sample == 0:
        return "Training it again from its first weights ends where the page stood."
    return "Weights, a rate or points were changed on the way, so training again from the first weights ends elsewhere."


def _matrices(layout: Layout, flat: Tensor) -> str:
    return "\n".join(f"    {matrix.tolist()}," for matrix in layout.matrices(flat))


def _features(settings: PlaygroundSettings) -> str:
    if not settings.features:
        return "return points[:, :0]"
    return f"return torch.stack([{', '.join(_FEATURES[name] for name in settings.features)}], 1)"


def _modules(settings: PlaygroundSettings, layout: Layout) -> str:
    lines: list[str] = []
    last = len(layout.activations) - 1
    for place, ((into, out), name) in enumerate(zip(pairwise(layout.sizes), layout.activations, strict=True)):
        lines.append(f"nn.Linear({into}, {out}),")
        if place < last or name != "linear":
            lines.append(f"{_MODULES[name]},")
        if place < last and settings.dropout:
            lines.append(f"nn.Dropout({settings.dropout!r}),")
    return "\n".join(f"    {line}" for line in lines)


def _loss(layout: Layout) -> str:
    if layout.softmax:
        return 'return nn.functional.cross_entropy(outputs, points[:, 2].long(), reduction="none")'
    return "return 0.5 * (outputs[:, 0] - points[:, 2]) ** 2"


def _optimizer(settings: PlaygroundSettings) -> str:
    if settings.optimizer == "adam":
        return "torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)"
    momentum = f", momentum={MOMENTUM}" if settings.optimizer == "momentum" else ""
    return f"torch.optim.SGD(model.parameters(), lr=LEARNING_RATE{momentum})"
