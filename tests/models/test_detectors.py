from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.models import detectors as detectors_module
from robustgen.models import madry_cnn, madry_resnet, nijkamp, resnet10
from robustgen.models.detectors import Config, Detectors, from_classifier, load_detectors, merged
from robustgen.protocols import DetectorBank

GREY = madry_cnn.Config(size=8, classes=1, widths=(3, 4), hidden=6, mean=(0.3,), std=(0.4,))
COLOUR = madry_cnn.Config(size=8, channels=3, classes=1, widths=(3, 4), hidden=8, mean=(0.3,) * 3, std=(0.4,) * 3)
NORMED = resnet10.Config(size=8, channels=1, classes=1, width=2, mean=(0.3,), std=(0.4,))
UNITS = madry_resnet.Config(size=8, classes=1, units=1, widths=(2, 3, 4, 6))
MEMBERS = pytest.mark.parametrize("member", [GREY, COLOUR, NORMED, UNITS], ids=["grey", "colour", "resnet10", "w32"])
LABELS = (0, 2, 3)


def moved(network: nn.Module) -> nn.Module:
    """The network with batch-norm statistics that are not those of a fresh one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return network.eval()


def networks(member: Any, count: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    return [moved(models.build(member)) for _ in range(count)]


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def images(member: Any, *shape: int) -> Tensor:
    return rand(*shape, member.channels, member.size, member.size)


@pytest.fixture(params=[GREY, COLOUR, NORMED, UNITS], ids=["grey", "colour", "resnet10", "w32"])
def pair(request: pytest.FixtureRequest) -> tuple[Detectors, list[nn.Module]]:
    """Three detectors as one network, and as separate ones."""
    separate = networks(request.param)
    return Detectors.of(separate, LABELS, 4), separate


Pair = tuple[Detectors, list[nn.Module]]


@torch.no_grad()
def test_logits_are_those_of_separate_networks(pair: Pair) -> None:
    detectors, separate = pair
    x, own = images(detectors.config.member, 9), images(detectors.config.member, 3, 9)
    assert isinstance(detectors, DetectorBank)
    assert detectors(x).shape == (9, detectors.num_classes) == (9, 3)
    torch.testing.assert_close(detectors(x), torch.cat([d(x) for d in separate], 1), atol=1e-6, rtol=1e-6)
    alone = torch.stack([d(z)[:, 0] for d, z in zip(separate, own, strict=True)])
    torch.testing.assert_close(detectors.each(own), alone, atol=1e-6, rtol=1e-6)
    repeated = x.expand(3, *x.shape)
    torch.testing.assert_close(detectors.each(repeated), detectors(x).T, atol=1e-6, rtol=1e-6)


def test_input_gradients_are_those_of_separate_networks(pair: Pair) -> None:
    detectors, separate = pair
    own = images(detectors.config.member, 3, 9).requires_grad_()
    (found,) = torch.autograd.grad(detectors.each(own).square().sum(), own)
    alone = sum(d(z).square().sum() for d, z in zip(separate, own, strict=True))
    (expected,) = torch.autograd.grad(alone, own)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    x = images(detectors.config.member, 9).requires_grad_()
    (found,) = torch.autograd.grad(detectors(x).square().sum(), x)
    (expected,) = torch.autograd.grad(sum(d(x).square().sum() for d in separate), x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("through", [True, False], ids=["images too", "images fixed"])
def test_parameter_gradients_are_those_of_separate_networks(pair: Pair, through: bool) -> None:
    detectors, separate = pair
    own = images(detectors.config.member, 3, 9).requires_grad_(through)
    detectors.each(own).square().mean(1).sum().backward()
    for d, z in zip(separate, own.detach(), strict=True):
        d(z).square().mean().backward()
    for name, value in detectors.stack.named_parameters():
        expected = torch.stack([d.get_parameter(name).grad for d in separate])  # type: ignore[misc]
        assert value.grad is not None
        torch.testing.assert_close(value.grad, expected, atol=1e-6, rtol=1e-5)


def test_one_optimiser_of_all_is_one_for_each(pair: Pair) -> None:
    detectors, separate = pair
    own = images(detectors.config.member, 3, 9)
    together = torch.optim.Adam(detectors.parameters(), lr=1e-3)
    (detectors.each(own) - 1).square().mean(1).sum().backward()
    together.step()
    for d, z in zip(separate, own, strict=True):
        single = torch.optim.Adam(d.parameters(), lr=1e-3)
        (d(z) - 1).square().mean().backward()
        single.step()
    with torch.no_grad():
        alone = torch.stack([d(z)[:, 0] for d, z in zip(separate, own, strict=True)])
        torch.testing.assert_close(detectors.each(own), alone, atol=2e-5, rtol=1e-5)


@torch.no_grad()
@MEMBERS
def test_an_image_does_not_depend_on_its_batch(member: Any) -> None:
    detectors = Detectors.of(networks(member), LABELS, 4)
    x, own = images(member, 20), images(member, 3, 20)
    whole, apart = detectors(x), detectors.each(own)
    exact = isinstance(member, madry_cnn.Config)
    for rows in (slice(0, 1), slice(3, 11), slice(11, 20)):
        for found, expected in ((detectors(x[rows]), whole[rows]), (detectors.each(own[:, rows]), apart[:, rows])):
            torch.testing.assert_close(found, expected, atol=0 if exact else 1e-6, rtol=0)


@MEMBERS
def test_nothing_takes_it_out_of_eval_mode(member: Any) -> None:
    detectors = Detectors(Config(labels=(0, 1), classes=2, member=member))
    before = copy.deepcopy(detectors.state_dict())
    detectors.train()
    assert not any(module.training for module in detectors.modules())
    detectors(images(member, 9))
    detectors.each(images(member, 2, 9))
    for name, value in detectors.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


@pytest.mark.parametrize(("member", "strides"), [(GREY, (6 * 16, 16, 1)), (COLOUR, (16 * 8, 1, 8))])
def test_gradients_are_stored_as_their_parameters_are(member: Any, strides: tuple[int, ...]) -> None:
    """Else autograd would copy them in every update."""
    detectors: Any = Detectors.of(networks(member), LABELS, 4)
    detectors.each(images(member, 3, 9)).sum().backward()
    weight = detectors.stack.hidden.weight
    assert weight.stride() == weight.grad.stride() == copy.deepcopy(detectors).stack.hidden.weight.stride() == strides
    assert detectors.member(0).hidden.weight.is_contiguous()


def test_gradients_stop_at_frozen_parameters() -> None:
    detectors = Detectors.of(networks(GREY), LABELS, 4).requires_grad_(False)
    x = images(GREY, 3, 9).requires_grad_()
    detectors.each(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in detectors.parameters())


@torch.no_grad()
def test_a_member_is_a_network_of_its_own(pair: Pair) -> None:
    detectors, separate = pair
    single: Any = detectors.member(1)
    assert not single.training
    assert single.config == detectors.config.member
    for name, value in separate[1].state_dict().items():
        torch.testing.assert_close(single.state_dict()[name], value, atol=0, rtol=0)
    next(single.parameters()).zero_()
    torch.testing.assert_close(detectors.member(1)(images(single.config, 9)), separate[1](images(single.config, 9)))


def test_fresh_members_differ_and_follow_the_seed() -> None:
    config = Config(labels=(0, 1), classes=2, member=GREY)
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(models.build(config))
    x = images(GREY, 9)
    torch.testing.assert_close(made[0](x), made[1](x), atol=0, rtol=0)
    assert not torch.allclose(made[0](x)[:, 0], made[0](x)[:, 1])


@MEMBERS
def test_files_hold_them(member: Any, tmp_path: Path) -> None:
    detectors = Detectors.of(networks(member), LABELS, 4)
    models.save(tmp_path / "d.safetensors", detectors, classes=list("abcd"))
    found: Any = models.load(tmp_path / "d.safetensors", arch="detectors")
    assert found.config == detectors.config
    assert (found.config.size, found.config.channels) == (8, member.channels)
    torch.testing.assert_close(found(images(member, 9)), detectors(images(member, 9)), atol=0, rtol=0)
    models.save(tmp_path / "again.safetensors", found, classes=list("abcd"))
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "d.safetensors").read_bytes()


def write(folder: Path, *groups: tuple[int, ...], member: Any = GREY, classes: int = 4) -> dict[int, nn.Module]:
    """Files of detectors of some labels each; all of them by label."""
    known = {}
    for group in groups:
        part = Detectors.of(networks(member, len(group)), group, classes)
        torch.nn.init.normal_(part.stack.fc.bias)  # type: ignore[union-attr, arg-type]
        models.save(folder / f"{'-'.join(map(str, group))}.safetensors", part, classes=list(range(classes)))
        known |= {label: part.member(k) for k, label in enumerate(group)}
    return known


@torch.no_grad()
def test_folders_are_merged_by_label(tmp_path: Path) -> None:
    known = write(tmp_path, (1, 3), (0,), (2,))
    found = load_detectors(tmp_path, complete=True)
    x = images(GREY, 9)
    assert found.labels == (0, 1, 2, 3)
    torch.testing.assert_close(found(x), torch.cat([known[k](x) for k in range(4)], 1))
    single = load_detectors(str(tmp_path / "1-3.safetensors"))
    assert single.labels == (1, 3)
    torch.testing.assert_close(single(x), found(x)[:, [1, 3]])


def test_incomplete_detectors_are_told(tmp_path: Path) -> None:
    write(tmp_path, (1,), (2,))
    assert load_detectors(tmp_path).labels == (1, 2)
    with pytest.raises(UserError, match="no detectors of the classes 0, 3; train them"):
        load_detectors(tmp_path, complete=True)


def test_a_label_comes_once(tmp_path: Path) -> None:
    write(tmp_path, (0, 1), (1, 2))
    with pytest.raises(UserError, match=r"0-1.safetensors and .*1-2.safetensors both hold the detector of class 1"):
        load_detectors(tmp_path)


@pytest.mark.parametrize("changes", [{"classes": 5}, {"member": NORMED}])
def test_different_detectors_do_not_merge(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, (0,))
    write(tmp_path, (1,), **changes)
    with pytest.raises(UserError, match="differ in architecture or data's classes"):
        load_detectors(tmp_path)


def test_missing_damaged_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model not found"):
        load_detectors(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"no \*\.safetensors file"):
        load_detectors(tmp_path)
    models.save(tmp_path / "f.safetensors", models.build(GREY))
    with pytest.raises(UserError, match="holds a madry_cnn, not the detectors"):
        load_detectors(tmp_path)
    (tmp_path / "f.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_detectors(tmp_path)


@pytest.mark.parametrize(
    ("labels", "member", "message"),
    [
        ((), GREY, "labels must ascend"),
        ((1, 0), GREY, "labels must ascend within 0..3"),
        ((1, 1), GREY, "labels must ascend"),
        ((2, 4), GREY, "labels must ascend"),
        ((-1, 2), GREY, "labels must ascend"),
        ((0,), madry_cnn.Config(classes=3), "one output, not 3"),
    ],
)
def test_detectors_that_do_not_exist(labels: tuple[int, ...], member: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(Config(labels=labels, classes=4, member=member))


def test_members_must_be_alike() -> None:
    with pytest.raises(UserError, match="different architectures"):
        Detectors.of([models.build(GREY), models.build(NORMED)], (0, 1), 2)
    with pytest.raises(UserError, match="labels must ascend"):
        Detectors.of([models.build(GREY)], (4,), 2)
    assert merged([Detectors.of([models.build(GREY)], (1,), 2)], ["a"]).labels == (1,)


@torch.no_grad()
@MEMBERS
def test_parts_of_a_classifier_make_its_logits(member: Any) -> None:
    torch.manual_seed(0)
    f = moved(models.build(type(member)(**{**vars(member), "classes": 5})))
    x = images(member, 9)
    found = from_classifier(f, (1, 4), 5)
    assert found.config == Config(labels=(1, 4), classes=5, member=member)
    torch.testing.assert_close(found(x), f(x)[:, [1, 4]], atol=1e-6, rtol=1e-5)
    assert torch.equal(found.member(1).fc.weight, f.fc.weight[4:])  # type: ignore[union-attr, arg-type, index]


def test_classifiers_without_such_parts() -> None:
    f = models.build(madry_cnn.Config(**{**vars(GREY), "classes": 5}))
    with pytest.raises(UserError, match=r"logits 0..4, not all of \(1, 5\)"):
        from_classifier(f, (1, 5), 6)
    with pytest.raises(UserError, match="nijkamp: its last layer is not"):
        from_classifier(models.build(nijkamp.Config(width=4)), (0,), 1)


@pytest.mark.parametrize("member", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_reach_the_convolutions_channels_last(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its speed on CPUs hangs on: other layouts give the same numbers."""
    seen: list[Tensor] = []
    real = detectors_module.grouped_cnn
    monkeypatch.setattr(detectors_module, "grouped_cnn", lambda stack, x: seen.append(x) or real(stack, x))
    detectors = Detectors.of(networks(member), LABELS, 4)
    x, own = images(member, 9), images(member, 3, 9)
    detectors(x)
    detectors.each(own)
    torch.testing.assert_close(seen[0], x.repeat(1, 3, 1, 1), atol=0, rtol=0)
    torch.testing.assert_close(seen[1], torch.cat(list(own), 1), atol=0, rtol=0)
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen)
