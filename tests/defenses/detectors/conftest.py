from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 3


class ToyNet(nn.Module):
    """Two convolutions with batch norm, dropout-free; `features` as the project's networks have it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, CLASSES)

    def features(self, x):
        first = F.relu(self.bn(self.conv1(x)))
        second = F.relu(self.conv2(first))
        return [first, second, second.mean((2, 3))]

    def forward(self, x):
        return self.fc(self.features(x)[-1])


def draw(n, seed):
    """Noisy 8x8 images of three kinds (bright left, bright right, bright top) with labels."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    patterns = torch.zeros(CLASSES, 1, 8, 8)
    patterns[0, :, :, :4] = patterns[1, :, :, 4:] = patterns[2, :, :4] = 0.5
    images = patterns[labels] + 0.25 + 0.1 * torch.randn(n, 1, 8, 8, generator=source)
    return SimpleNamespace(images=images.clamp(0, 1), labels=labels)


def attack(model, data, eps=0.15, steps=10):
    """Signed gradient ascent of the cross-entropy, enough for a toy."""
    x = data.images.clone()
    for _ in range(steps):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), data.labels, reduction="sum"), x)
        x = (x.detach() + eps / 4 * gradient.sign()).clamp(data.images - eps, data.images + eps).clamp(0, 1)
    return x


@pytest.fixture(scope="session")
def world():
    """A trained toy classifier with its training, validation and test images, natural and attacked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ToyNet()
        train = draw(150, 1)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            F.cross_entropy(model(train.images), train.labels).backward()
            optimiser.step()
    model.eval().requires_grad_(False)
    validation, test = draw(90, 2), draw(90, 3)
    return SimpleNamespace(
        model=model,
        train=train,
        clean=validation.images,
        adversarial=attack(model, validation),
        test=test.images,
        test_adversarial=attack(model, test),
    )


@pytest.fixture
def fitted(world):
    """Fit a detector on the world; returns it."""
    return lambda detector: detector.fit(world.model, world.train, world.clean, world.adversarial)
