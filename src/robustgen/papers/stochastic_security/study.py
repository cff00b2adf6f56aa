"""What was measured at a scale: purified images, robustness under attack, and sampling dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustgen.errors import UserError
from robustgen.io import PathLike, load_arrays
from robustgen.papers.langevin import Defense, Purification
from robustgen.papers.studies import Study, finite
from robustgen.papers.words import pixels


class Dynamics(Study):
    """Samples, energies, exponents, distances and running times of the energy-based models."""

    def has(self, *names: str) -> bool:
        return all(name in self.arrays for name in names)

    def exponents(self) -> dict[str, np.ndarray]:
        """Lyapunov exponents (E, chains) by the separation they were measured at, the reported one first."""
        if not self.has("lyapunov_distances", "lyapunov_by_distance"):
            return {"": self["lyapunov"]}
        names = [f"separation {distance:g} τ√D" for distance in self["lyapunov_distances"]]
        return dict(zip(names, self["lyapunov_by_distance"], strict=True))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale; None where the scale does without."""

    dataset: str  # as people write it
    scale: str
    short: int  # Langevin steps of a short run
    long: int  # and of a long one
    ours: Purification | None = None  # convergent EBM
    twin: Purification | None = None  # non-convergent EBM
    igebm: Purification | None = None
    jem: Purification | None = None
    replicates: Purification | None = None  # convergent EBM, many draws of few images
    main: Defense | None = None  # the attack of Table 2
    steps_ours: Defense | None = None  # sweep over Langevin steps
    steps_twin: Defense | None = None
    linf: Defense | None = None  # sweeps over the radius
    l2: Defense | None = None
    at_linf: Defense | None = None  # classifiers adversarially trained, without purification
    at_l2: Defense | None = None
    attack_steps: Defense | None = None  # a long attack
    draws: Defense | None = None  # sweep over H_adv and H_def
    full_gradient: Defense | None = None
    others: tuple[tuple[str, Defense, Defense], ...] = ()  # data set, ours, adversarially trained: Table 3
    dynamics: Dynamics | None = None

    @property
    def drawn(self) -> Purification | None:
        """The study with the most draws of an image."""
        return self.replicates or self.ours

    @property
    def control(self) -> tuple[Defense, int] | None:
        """The study and grid point of the attack at radius 0: that of Table 2, else that of the sweep over L∞ radii."""
        wanted = {"norm": "linf", "eps": 0.0, "langevin_steps": self.long}
        for study in (self.main, self.linf):
            if study is not None and study.has(**wanted):
                return study, study.point(**wanted)
        return None

    @property
    def eps(self) -> float:
        """The radius of Table 2, L∞ in [0, 1]: the only one of the sweep over Langevin steps, or of Table 2's study."""
        studies = [study for study in (self.steps_ours, self.main) if study is not None]
        found = [[eps for eps in study.values("eps", norm="linf") if eps > 0] for study in studies]
        for radii in found:
            if len(radii) == 1:
                return float(radii[0])
        if not studies:
            raise UserError("no defence study says the tables' radius; name one with --main or --steps-ours")
        raise UserError(
            f"defence study {studies[0].name!r} must hold exactly one positive L∞ radius, that of the tables, not "
            f"{', '.join(map(pixels, found[0])) or 'none'}; other radii belong to the sweeps"
        )


def load_dynamics(folder: PathLike, name: str) -> Dynamics:
    """The study `name` of a folder of dynamics files. Which arrays it holds depends on what was asked for."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path)
    finite(path, arrays)
    return Dynamics(name, arrays)
