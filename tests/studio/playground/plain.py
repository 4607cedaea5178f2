"""The playground's training written as plainly as PyTorch allows: modules, autograd, one loop. Slow, and the oracle."""

import torch
from torch import Tensor, nn

from glassworks.studio.playground.data import Data
from glassworks.studio.playground.settings import PlaygroundSettings


class Function(nn.Module):
    """A module of a function of its input."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, sums: Tensor) -> Tensor:
        """What the layer says; a step has no slope anywhere."""
        return torch.sin(sums) if self.name == "sine" else (sums > 0).to(sums.dtype) + 0 * sums


MODULES = {
    "relu": nn.ReLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "linear": nn.Identity(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "sine": Function("sine"),
    "step": Function("step"),
}


def features(points: Tensor, names: tuple[str, ...]) -> Tensor:
    """The inputs of points, one column each."""
    x, y = points[:, 0], points[:, 1]
    known = {
        "x": x, "y": y, "xSquared": x**2, "ySquared": y**2, "xTimesY": x * y,
        "sinX": x.sin(), "sinY": y.sin(), "cosX": x.cos(), "cosY": y.cos(),
    }  # fmt: skip
    return torch.stack([known[name] for name in names], 1)


class Plain:
    """A network that begins with the weights it is given and learns epoch by epoch."""

    def __init__(self, settings: PlaygroundSettings, data: Data, first: list[Tensor]) -> None:
        self.settings, self.data = settings, data
        self.linears = [nn.Linear(m.shape[1] - 1, m.shape[0], dtype=torch.float64) for m in first]
        for linear, matrix in zip(self.linears, first, strict=True):
            linear.weight.data.copy_(matrix[:, :-1])
            linear.bias.data.copy_(matrix[:, -1])
        layers: list[nn.Module] = []
        for linear, name in zip(self.linears, settings.hidden, strict=False):
            layers += [linear, MODULES[name]]
        last = nn.Tanh() if settings.problem == "classification" and settings.outputs == 1 else nn.Identity()
        self.model = nn.Sequential(*layers, self.linears[-1], last)
        rate = settings.learning_rate
        self.optimizer: torch.optim.Optimizer = {
            "sgd": lambda: torch.optim.SGD(self.model.parameters(), lr=rate),
            "momentum": lambda: torch.optim.SGD(self.model.parameters(), lr=rate, momentum=0.9),
            "adam": lambda: torch.optim.Adam(self.model.parameters(), lr=rate),
        }[settings.optimizer]()
        self.dead = [torch.zeros_like(linear.weight, dtype=torch.bool) for linear in self.linears]
        self.waiting = 0

    def loss(self, rows: Tensor) -> Tensor:
        """The summed loss."""
        outputs = self.model(features(rows[:, :2], self.settings.features))
        if self.settings.outputs > 1:
            return nn.functional.cross_entropy(outputs, rows[:, 2].long(), reduction="sum")
        return 0.5 * ((outputs[:, 0] - rows[:, 2]) ** 2).sum()

    def epoch(self) -> None:
        """Every training point once."""
        rows, size = torch.from_numpy(self.data.train), self.settings.batch_size
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            self.loss(batch).backward()
            self.waiting += len(batch)
            if len(batch) == size:
                self.update()

    def update(self) -> None:
        """The optimizer's step with the mean over what waited, then the regularisation, as the original orders them."""
        before = [linear.weight.detach().clone() for linear in self.linears]
        for parameter in self.model.parameters():
            assert parameter.grad is not None
            parameter.grad /= self.waiting
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.waiting = 0
        pull = self.settings.learning_rate * self.settings.regularization_rate
        for linear, old, dead in zip(self.linears, before, self.dead, strict=True):
            weight = linear.weight.data
            if self.settings.regularization == "L2":
                weight -= pull * old
            if self.settings.regularization == "L1":
                weight[dead] = 0
                pulled = weight - pull * old.sign()
                dead |= weight * pulled < 0
                weight.copy_(pulled)
                weight[dead] = 0

    def weights(self) -> Tensor:
        """All weights and biases in the engine's order."""
        return torch.cat([torch.cat([one.weight.data, one.bias.data[:, None]], 1).flatten() for one in self.linears])

    def losses(self) -> tuple[float, float]:
        """Means over training and test points."""
        with torch.no_grad():
            train, test = (torch.from_numpy(rows) for rows in (self.data.train, self.data.test))
            return float(self.loss(train)) / len(train), float(self.loss(test)) / len(test)
