"""Detectors d_k of single classes (GAT, Yin et al. 2020): L networks of one architecture and one output as one network.

Every parameter and buffer is that of the members stacked along a new first axis, so that an optimiser which works on
coordinates (Adam, SGD) treats each detector as if it were alone. Members of the kind `madry_cnn` run as grouped
convolutions, others by `torch.func`. Batch norm keeps its running statistics, in training and attack too (App. A.2,
as the released code has it): these networks know no training mode.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from robustgen import models
from robustgen.errors import UserError
from robustgen.models.grouped import grouped_cnn, lay_out
from robustgen.models.madry_cnn import MadryCNN
from robustgen.replicates import in_company


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["detectors"] = "detectors"
    labels: tuple[int, ...]  # classes whose detectors these are, ascending
    classes: int  # K, of the data
    member: Any  # architecture of one detector, with one output; in a file's header a dict

    def __post_init__(self) -> None:
        if isinstance(self.member, dict):
            values = {name: tuple(v) if isinstance(v, list) else v for name, v in self.member.items()}
            object.__setattr__(self, "member", models.config_type(str(values["arch"]))(**values))

    @property
    def size(self) -> int:
        """Side of the square images, pixels."""
        return cast(int, self.member.size)

    @property
    def channels(self) -> int:
        """Image channels."""
        return cast(int, self.member.channels)


class Detectors(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, L), z_{d_k} of the L classes `labels`; always in eval mode."""

    def __init__(self, config: Config, members: Sequence[nn.Module] | None = None) -> None:
        """Copies of `members`, or fresh ones drawn from torch's global generator."""
        super().__init__()
        check(config)
        self.config = config
        self.labels = config.labels
        self.num_classes = len(config.labels)
        self.stack = stacked(members or [models.build(config.member) for _ in config.labels])
        if isinstance(self.stack, MadryCNN):
            lay_out(self.stack)
        self.eval()

    @classmethod
    def of(cls, members: Sequence[nn.Module], labels: Sequence[int], classes: int) -> Self:
        """Copies of separate networks with one output, in the order of their labels; UserError where they differ."""
        configs: list[Any] = [each.config for each in members]
        if any(each != configs[0] for each in configs):
            raise UserError("detectors of different architectures cannot be one network; train them with equal options")
        try:
            return cls(Config(labels=tuple(labels), classes=classes, member=configs[0]), members)
        except ValueError as error:
            raise UserError(f"no detectors have these options: {error}") from error

    def member(self, k: int) -> nn.Module:
        """Detector k, a position among `labels`, as a separate network in eval mode, weights copied."""
        values = [
            value.detach()[k].clone(memory_format=torch.contiguous_format) for _, _, value in _tensors(self.stack)
        ]
        return _with(self.stack, values)

    def forward(self, x: Tensor) -> Tensor:
        """Every detector on the same images."""
        return in_company(self._shared, x)

    def each(self, x: Tensor) -> Tensor:
        """Detector l on its own images: x (L, M, C, H, W) in [0, 1] -> logits (L, M)."""
        side_by_side = x.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2)  # channels last, one copy
        return in_company(self._own, side_by_side).T

    def _shared(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, L)."""
        if isinstance(self.stack, MadryCNN):
            return grouped_cnn(self.stack, _repeated(x, len(self.labels)))
        return self._mapped(x, None)

    def _own(self, x: Tensor) -> Tensor:
        """(M, L·C, H, W), detector by detector -> (M, L)."""
        if isinstance(self.stack, MadryCNN):
            return grouped_cnn(self.stack, x)
        return self._mapped(x.unflatten(1, (len(self.labels), -1)).transpose(0, 1), 0)

    def _mapped(self, x: Tensor, axis: int | None) -> Tensor:
        """Logits (N, L); `axis` of x is the detectors', None if they share it."""

        def single(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
            return cast(Tensor, functional_call(self.stack, tensors, (images,)))[:, 0]

        tensors = dict(self.stack.named_parameters()) | dict(self.stack.named_buffers())
        return vmap(single, in_dims=(0, axis), out_dims=1)(tensors, x)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch norm is frozen."""
        return super().train(False)

    def to(self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any) -> Self:
        """As of any module, but without memory format: stacked kernels have five axes, and forward lays them out."""
        return super().to(*args, **kwargs)


Model = Detectors


def check(config: Config) -> None:
    """Raise ValueError where there are no such detectors."""
    labels = config.labels
    if not labels or list(labels) != sorted(set(labels)) or labels[0] < 0 or labels[-1] >= config.classes:
        raise ValueError(f"labels must ascend within 0..{config.classes - 1}, not {labels}")
    if config.member.classes != 1:
        raise ValueError(f"a detector has one output, not {config.member.classes}; set its classes to 1")


def stacked(members: Sequence[nn.Module]) -> nn.Module:
    """One network whose parameters and buffers are those of the members along a new first axis, in eval mode."""
    sources = [[value.detach() for _, _, value in _tensors(each)] for each in members]
    return _with(members[0], [torch.stack(values) for values in zip(*sources, strict=True)])


def _with(network: nn.Module, values: Sequence[Tensor]) -> nn.Module:
    """A copy of the network, in eval mode, that has these parameters and buffers in place of its own."""
    kept = {id(value): value for _, _, value in _tensors(network)}  # not worth copying
    changed = copy.deepcopy(network, kept)
    for (owner, name, old), new in zip(_tensors(changed), values, strict=True):
        if isinstance(old, nn.Parameter):
            owner._parameters[name] = nn.Parameter(new, requires_grad=old.requires_grad)
        else:
            owner._buffers[name] = new
    return changed.eval()


def _tensors(network: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Every parameter and buffer with its owner and its name there."""
    return [
        (owner, name, value)
        for owner in network.modules()
        for name, value in (*owner._parameters.items(), *owner._buffers.items())
        if value is not None
    ]


def _repeated(x: Tensor, count: int) -> Tensor:
    """Images (N, C, H, W) once for each of `count` networks, (N, count·C, H, W), channels last."""
    repeated = x.permute(0, 2, 3, 1)[..., None, :].expand(-1, -1, -1, count, -1)
    return repeated.flatten(3).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def from_classifier(f: nn.Module, labels: Sequence[int], classes: int) -> Detectors:
    """Where fine-tuning starts (App. A.2): for each label k the part of the classifier that makes its logit k.

    Raises UserError where f has no last layer `fc`, or no such logits.
    """
    last = getattr(f, "fc", None)
    config: Any = f.config
    if not isinstance(last, nn.Linear):
        raise UserError(f"detectors cannot start from a {config.arch}: its last layer is not a linear one called fc")
    if not all(0 <= k < last.out_features for k in labels):
        raise UserError(f"the classifier has logits 0..{last.out_features - 1}, not all of {tuple(labels)}")
    member = replace(config, classes=1)
    parts = []
    for k in labels:
        part: Any = copy.deepcopy(f)
        part.config, part.num_classes = member, 1
        part.fc = nn.Linear(last.in_features, 1, bias=last.bias is not None).to(last.weight)
        part.fc.load_state_dict({name: value[k : k + 1] for name, value in last.state_dict().items()})
        parts.append(part)
    return Detectors.of(parts, labels, classes)


def load_detectors(
    path: str | PathLike[str], device: str | torch.device = "cpu", *, complete: bool = False
) -> Detectors:
    """The detectors in a file, or in all files of a folder (one class or some each), by label, on `device`.

    `complete` asks for a detector of every class 0..K-1. Raises UserError where there is nothing, files are damaged,
    hold something else, detectors of one label twice or of different architectures, or classes are missing.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(source.glob("*.safetensors"))
        if not files:
            raise UserError(f"no detectors in {source}: no *.safetensors file; train them or get them with `dvc pull`")
        found = merged([_loaded(file, device) for file in files], [str(file) for file in files])
    else:
        found = _loaded(source, device)
    missing = sorted(set(range(found.config.classes)) - set(found.labels))
    if complete and missing:
        raise UserError(f"{source} has no detectors of the classes {', '.join(map(str, missing))}; train them too")
    return found


def _loaded(file: Path, device: str | torch.device) -> Detectors:
    return cast(Detectors, models.load(file, str(device), arch="detectors"))


def merged(parts: Sequence[Detectors], names: Sequence[str]) -> Detectors:
    """The detectors of several networks as one, ordered by label; `names` are theirs in messages.

    Raises UserError for a label that comes twice and for different architectures or numbers of classes.
    """
    first = parts[0].config
    owners: dict[int, tuple[int, int]] = {}
    for i, part in enumerate(parts):
        if (part.config.member, part.config.classes) != (first.member, first.classes):
            raise UserError(f"{names[0]} and {names[i]} hold detectors that differ in architecture or data's classes")
        for position, label in enumerate(part.labels):
            if label in owners:
                raise UserError(f"{names[owners[label][0]]} and {names[i]} both hold the detector of class {label}")
            owners[label] = (i, position)
    labels = sorted(owners)
    members = [parts[owners[label][0]].member(owners[label][1]) for label in labels]
    return Detectors.of(members, labels, first.classes)
