"""Test a classifier of your own: accuracy under PGD and HE-PGD, and whether its energy gives the attacks away.

Run from the project's root: `python examples/own_model.py`. Any torch module that maps images in [0, 1] to logits will
do; put the normalisation inside it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from robustgen.attacks.he_pgd import HePGD
from robustgen.attacks.pgd import PGD
from robustgen.data import load_split
from robustgen.defenses.detectors import EnergyDetector, fit_threshold
from robustgen.evaluation.statistics import auc, detection_rates, proportion
from robustgen.stages import fetch

DATA = Path("data/images/example.npz")
EPS, STEP = 16 / 255, 2 / 255


class Yours(nn.Module):
    """A small convolutional network with batch norm."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.body = nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(1024, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body((x - 0.3) / 0.38)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()


def main() -> None:
    torch.manual_seed(0)
    if not DATA.exists():
        fetch.run(fetch.Options(out=DATA, name="digits", size=32, test=0.3, validation=0.2))
    training, validation, test = (load_split(DATA, split) for split in ("train", "validation", "test"))
    model = Yours()
    train(model, training.images, training.labels)

    attacks = {
        "none": lambda x, y: x,
        "PGD": PGD(model, eps=EPS, alpha=STEP, steps=40),
        "HE-PGD": HePGD(model, eps=EPS, alpha=STEP, steps=40, lam=0.9),
    }
    fitted_on = attacks["PGD"](validation.images, validation.labels)
    detector = EnergyDetector().fit(model, training, validation.images, fitted_on)
    threshold = fit_threshold(detector.score(validation.images), detector.score(fitted_on))

    print(f"{'attack':8} {'accuracy':>22} {'flagged':>22} {'AUC':>6}     (95 % intervals, n = {len(test.images)})")
    natural = detector.score(test.images)
    for name, attack in attacks.items():
        attacked = attack(test.images, test.labels)
        accuracy = proportion(int((model(attacked).argmax(1) == test.labels).sum()), len(test.images))
        flagged = detection_rates(natural, detector.score(attacked), threshold).detection
        area = auc(natural, detector.score(attacked)).value
        cells = [f"{100 * e.value:6.1f} % [{100 * e.low:4.1f}, {100 * e.high:5.1f}]" for e in (accuracy, flagged)]
        print(f"{name:8} {cells[0]:>22} {cells[1]:>22} {area:6.3f}")


if __name__ == "__main__":
    main()
