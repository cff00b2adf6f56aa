"""Searches for the nearest error, where the nearest is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ball import ball_of
from robustgen.attacks.following import Following, Task
from robustgen.attacks.minimal import Nearest
from robustgen.attacks.synthesis import Options, run_attack
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .planes import NETWORKS, SHAPE, Linear, N, images, nearest, planes, run, synthesis


@pytest.mark.parametrize("network", NETWORKS, ids=["linear", "synthesis"])
@pytest.mark.parametrize(
    ("name", "norm", "within", "options"),
    [
        ("deepfool", "linf", 1.05, {}),
        ("deepfool", "l2", 1.05, {}),
        ("ddn", "l2", 1.03, {"steps": 160}),
        ("cw", "l2", 1.05, {"steps": 200, "searches": 8, "follow": 1}),
        ("boundary", "l2", 1.6, {"steps": 3000, "follow": 1}),
    ],
)
def test_smallest_change_is_the_distance_to_the_plane(
    network: nn.Module, name: str, norm: str, within: float, options: dict[str, object]
) -> None:
    x, y = images(network)
    found = run(name, network, x, y, norm=norm, **options)
    bound = nearest(network, x, y, norm)
    assert found.broken_seen.all()
    assert (found.distance >= bound - 1e-6).all()
    assert (found.distance <= within * bound + 1e-3).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_latent_descent_ends_on_the_line_to_the_reconstruction(norm: str) -> None:
    network = synthesis()
    x, y = images(network)
    found = run("latent-descent", network, x, y, norm=norm, halvings=20)
    b, (_, z) = network.model.b.detach(), planes(network, x)  # type: ignore[union-attr]
    behind = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -math.inf).amax(1)
    other = z.scatter(1, y[:, None], -math.inf).argmax(1)
    t = behind / (behind + (b[other] - b[y]).square().sum(1))
    r = b[other].unflatten(1, SHAPE)
    wanted = torch.lerp(x, r, t.view(-1, 1, 1, 1))
    torch.testing.assert_close(found.adversarial, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.distance, ball_of(norm, 1).distance(wanted, x), atol=1e-5, rtol=0)


def test_latent_descent_needs_reconstructions() -> None:
    x, y = images(Linear())
    with pytest.raises(UserError, match="only analysis by synthesis has reconstructions; take another attack"):
        run("latent-descent", Linear(), x, y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_noise_is_never_worse(norm: str) -> None:
    network = Linear()
    x, y = images(network)
    few, more = (run("noise", network, x, y, norm=norm, directions=n).distance for n in (2, 8))
    assert (more <= few).all()
    assert (more < few).any()
    assert (more >= nearest(network, x, y, norm)).all()
    weak, strong = (run("noise", network, x, y, norm=norm, sigma=s, steps=n) for s, n in ((0.005, 1), (0.05, 10)))
    assert (strong.distance <= weak.distance).all()  # the same values of σ, and larger ones
    assert strong.broken_seen.sum() > weak.broken_seen.sum()


def test_boundary_starts_at_given_images_and_gives_up_without_an_error() -> None:
    network = Linear()
    x, y = images(network, 12)
    right = (y == y[0]).nonzero().flatten()
    assert 0 < len(right) < 12
    o = Options(steps=50, seed=7)
    found = run_attack("boundary", network, x, y, range(12), o, starts=x[right])
    assert found.broken_seen.tolist() == (y != y[0]).tolist()
    assert found.distance[right].isinf().all()
    assert torch.equal(found.adversarial[right], x[right])


def test_search_forgets_no_error_and_invents_none() -> None:
    """DDN and CW hand back x or a black image where they fail, DeepFool its last image whatever that is."""

    class Certain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([1 + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], 1)

    x, _ = images(Linear())
    y = torch.zeros(N, dtype=torch.long)
    for name in ("deepfool", "ddn", "cw", "noise", "boundary"):
        found = run(name, Certain(), x, y, norm="l2", steps=5)
        assert found.distance.isinf().all()
        assert not found.broken_seen.any()
        assert torch.equal(found.adversarial, x)


def test_nearest_error_is_not_asked_about_twice() -> None:
    network = synthesis(0.3, variational=True)
    x, y = images(network)
    edge = run("ddn", network, x, y, norm="l2", draws=1).adversarial
    following, streams = Following(network, range(N)), ImageStreams(0, range(N))
    search = Nearest(Task(following=following, x=x, y=y, ball=ball_of("l2", math.inf), streams=streams))
    seen = search.wrong(edge) & (edge != x).flatten(1).any(1)
    assert seen.any()
    for number in range(10):
        following.renew("other", number)
        assert search.wrong(edge)[seen].all()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_searches_do_not_hang_on_the_scale_of_logits(scale: float) -> None:
    network = Linear()
    x, y = images(network)
    wanted = [run(name, network, x, y, norm="l2").distance for name in ("deepfool", "ddn", "cw")]
    network.w.data *= scale
    network.b.data *= scale
    for name, distance in zip(("deepfool", "ddn", "cw"), wanted, strict=True):
        torch.testing.assert_close(run(name, network, x, y, norm="l2").distance, distance, rtol=1e-4, atol=1e-6)
