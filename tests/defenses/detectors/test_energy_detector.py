import pytest
import torch
from torch import nn

from robustgen.defenses.detectors import EnergyDetector
from robustgen.defenses.detectors.energy import TEMPERATURES, _auc
from robustgen.errors import UserError
from robustgen.evaluation.statistics import auc
from robustgen.models.energy import energy


class Logits(nn.Module):
    """The first pixels are the logits, times 20."""

    def forward(self, x):
        return 20 * x.flatten(1)[:, :3]


def images(logits):
    return (torch.tensor(logits, dtype=torch.float32) / 20).reshape(-1, 3, 1, 1)


def test_paper_score_is_the_energy(fitted, world):
    torch.testing.assert_close(fitted(EnergyDetector()).score(world.test), energy(world.model(world.test)))


def test_low_energy_scores_low(world):
    likely, unlikely = images([[10, 10, 10]]), images([[1, 1, 1]])
    detector = EnergyDetector().fit(Logits(), world.train, unlikely, likely)
    assert detector.score(likely) < detector.score(unlikely)


def test_released_temperature_has_the_greatest_validation_auc(fitted, world):
    detector = fitted(EnergyDetector(fidelity="released"))
    areas = {
        t: auc(energy(world.model(world.clean), t), energy(world.model(world.adversarial), t)).value
        for t in TEMPERATURES
    }
    assert areas[detector.temperature] == max(areas.values())


def test_temperature_follows_what_separates(world):
    # Equal maxima, so low temperatures see nothing; the sums differ, so the highest sees most.
    clean = images([[10, 0, 0], [11, 1, 0], [12, 2, 0]])
    adversarial = images([[10, 10, 9], [11, 10, 9], [12, 9, 9]])
    detector = EnergyDetector(fidelity="released").fit(Logits(), world.train, clean, adversarial)
    assert detector.temperature >= 2
    # All temperatures separate these: the nearest to 1 wins, which is the paper's.
    assert detector.fit(Logits(), world.train, images([[1, 1, 1]]), images([[9, 9, 9]])).temperature == 1


def test_auc_counts_ties_one_half():
    source = torch.Generator().manual_seed(0)
    natural, adversarial = (torch.randint(0, 9, (n,), generator=source).float() for n in (40, 30))
    assert _auc(natural, adversarial) == pytest.approx(auc(natural, adversarial).value, abs=1e-12)


def test_unknown_fidelity():
    with pytest.raises(UserError, match="paper, released"):
        EnergyDetector(fidelity="mine")
