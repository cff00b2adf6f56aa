"""JEM (Grathwohl et al. 2020): a classifier whose logits are also read as an energy, E(x) = −logsumexp_k f(x)_k.

The network is a wide ResNet without normalisation, WRN-28-10 in the paper. It lives on v = 2x − 1 in [−1, 1] and has
no other normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from robustgen.models import wide_resnet
from robustgen.models.energy import energy


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["jem"] = "jem"
    size: int = 32  # side of the square images, pixels
    channels: int = 3  # image channels
    classes: int = 10  # K
    depth: int = 28  # convolutions on the longest path, 6n + 4
    widen: int = 10  # width of the stages in units of base
    base: int = 16  # channels of the stem
    norm: Literal["batch", "none"] = "none"  # batch norm would make energies depend on the batch in training
    dropout: float = 0.0  # probability, between the two convolutions of a block
    slope: float = 0.2  # of LeakyReLU for negative inputs
    tau: float = 0.01  # noise of an SGLD step, in units of v
    step: float = 1.0  # SGLD step size: of the energy's gradient by v, in nats


class JEM(wide_resnet.WideResNet):
    """images (N, C, size, size) in [0, 1] -> logits (N, K).

    As an energy model its sampler is SGLD with a step size that is decoupled from the noise, v ← v − step·∇E(v) + τZ:
    at the published step 1 and τ 0.01 the force is 2·10⁴ times that of Langevin dynamics on E, which samples E at a
    low temperature. `scaled_energy` is what the update descends, step·E; divided by τ²/2 it is the energy U whose
    Langevin dynamics these are, not E.
    """

    config: Config  # type: ignore[assignment]

    def __init__(self, config: Config) -> None:
        if not (config.tau > 0 and config.step > 0):
            raise ValueError(f"tau and step must be positive, not {config.tau} and {config.step}")
        half = (0.5,) * config.channels  # (x − 0.5) / 0.5 = v
        shared = {name: value for name, value in vars(config).items() if name not in ("arch", "tau", "step")}
        super().__init__(wide_resnet.Config(**shared, mean=half, std=half))
        self.config = config
        self.tau = config.tau
        self.step = config.step

    def scaled_energy(self, v: Tensor) -> Tensor:
        """step·E(v) of states v (N, C, H, W) in [−1, 1], (N,)."""
        return self.step * energy(self((v + 1) / 2))


Model = JEM
