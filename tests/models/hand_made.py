"""Small models that do what other people's models do."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class InPlace(nn.Module):
    """Writes over what `first` and `norm` returned, in two ways."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.relu(self.first(pixels))
        y = self.norm(x)
        y += 1
        return self.head(y.mean(dim=(2, 3)))


class Several(nn.Module):
    """Calls `shared` twice, takes a keyword, and has a part that returns several things."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.pair = Pair()
        self.named = Named()
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.shared(self.shared(x))
        first, second = self.pair(x, scale=torch.tensor(3.0))
        return self.named(first + second)


class Pair(nn.Module):
    def forward(self, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return x, scale * x


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"loss": None, "logits": x, "hidden": 2 * x}


class Checkpointed(nn.Module):
    """Runs its body under activation checkpointing."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        body = checkpoint(self.body, x, use_reentrant=self.reentrant)
        assert isinstance(body, Tensor)
        return self.head(body)


class Noisy(nn.Module):
    """Draws numbers and moves a buffer in every mode, as no module should."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.linear(x.flatten(1)[:, :4] + torch.randn(4))


def small_net(width: int = 4, classes: int = 3) -> nn.Module:
    """What a user's factory makes."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def not_a_module() -> int:
    """A factory that is none."""
    return 3


class Wrapped(nn.Module):
    """Returns an object with logits, of a linear layer whose output is not the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"logits": 2 * self.linear(pixels.flatten(1))}
