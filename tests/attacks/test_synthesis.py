"""Attacks on classifiers whose decision boundaries are known, and the attacker who goes on from known latents."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ball import ball_of
from robustgen.attacks.following import Following, Synthesis, Task
from robustgen.attacks.minimal import Nearest
from robustgen.attacks.synthesis import (
    ATTACKS,
    Options,
    Outcome,
    check_attack,
    confirmed,
    fresh_logits,
    run_attack,
    settled,
)
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.defenses.e_abs import Options as Inference
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

K, M, SHAPE = 3, 2, (1, 4, 4)
SIZE = math.prod(SHAPE)
N = 5
SEARCHES = [(name, norm) for name, kind in ATTACKS.items() if not kind.radius for norm in kind.norms]
CLIMBS = [(name, norm) for name, kind in ATTACKS.items() if kind.radius for norm in kind.norms]
SHORT = {"boundary": 300, "noise": 40, "cw": 60, "estimated": 10, "pgd": 30}  # steps where the paper's are many


class Linear(nn.Module):
    """W x + b, the boundaries all close to medium grey."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        w = torch.randn(K, SIZE, generator=random, dtype=torch.float64)
        self.w, self.b = nn.Parameter(w), nn.Parameter(-w.sum(1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w.T + self.b


class Decoders(nn.Module):
    """G_k(z) = b_k + a A_k z with unit vectors in A_k; at a = 0 the classes are points, and boundaries planes."""

    def __init__(self, a: float = 0.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(SIZE, K * M, generator=random, dtype=torch.float64)).Q
        self.a = nn.Parameter(a * basis.T.reshape(K, M, SIZE))
        self.b = nn.Parameter(0.5 + 0.4 * (torch.rand(K, SIZE, generator=random, dtype=torch.float64) - 0.5))
        self.config = SimpleNamespace(latent=M, adversarial=False)
        self.num_classes = K

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = x.new_zeros(len(x), K, M)
        return zero, zero

    def decode(self, z: Tensor) -> Tensor:
        return (torch.einsum("nkm,kmd->nkd", z, self.a) + self.b).unflatten(2, SHAPE)

    def log_d(self, z: Tensor) -> Tensor:
        raise AssertionError("only adversarial autoencoders are asked for this")


EXACT = Inference(variational=False, candidates=20, iterations=300, beta=0.5)


def synthesis(a: float = 0.0, **options: object) -> AnalysisBySynthesis:
    # the latents of points are where the encoder has them
    given = {"variational": False, "candidates": 20, "iterations": 60 if a else 1, **options}
    return AnalysisBySynthesis(Decoders(a), Inference(**given))  # type: ignore[arg-type]


def images(network: nn.Module, n: int = N) -> tuple[Tensor, Tensor]:
    """Nearly grey images, and what the network takes them for."""
    x = 0.5 + 0.1 * (torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5)
    with torch.no_grad():
        return x, network(x).argmax(1)


def planes(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and logits (N, K) of a classifier with plane boundaries."""
    if isinstance(network, Linear):
        return network.w.detach(), network(x).detach()
    b = network.model.b.detach()  # type: ignore[union-attr]
    return 2 * b, -(x.flatten(1)[:, None] - b).square().sum(2)  # type: ignore[operator]


def nearest(network: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """(N,) distances of x from the nearest boundary."""
    w, z = planes(network, x)
    normals = w[None] - w[y][:, None]
    length = normals.abs().sum(2) if norm == "linf" else normals.norm(dim=2)
    behind = z.gather(1, y[:, None]) - z
    return (behind / length).scatter(1, y[:, None], math.inf).amin(1)


def run(name: str, network: nn.Module, x: Tensor, y: Tensor, **options: object) -> Outcome:
    given = {"steps": SHORT.get(name), "restarts": 2, "seed": 7, **options}
    return run_attack(name, network, x, y, range(len(x)), Options(**given))  # type: ignore[arg-type]


NETWORKS = [Linear(), synthesis()]


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


@pytest.mark.parametrize("network", NETWORKS, ids=["linear", "synthesis"])
@pytest.mark.parametrize(("name", "beyond"), [("pgd", 1.02), ("estimated", 1.4)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_climb_breaks_an_image_where_the_plane_is_in_the_ball(
    network: nn.Module, name: str, beyond: float, norm: str
) -> None:
    x, y = images(network)
    bound = nearest(network, x, y, norm)
    for row in range(N):
        one, label = x[row : row + 1], y[row : row + 1]
        for factor, broken in ((0.98, False), (beyond, True)):
            found = run(name, network, one, label, norm=norm, eps=factor * float(bound[row]), queries=20, follow=1)
            assert bool(found.broken_seen) == broken


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


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(("name", "norm"), SEARCHES + CLIMBS)
def test_outcome_is_an_error_at_its_distance_and_the_same_in_any_batch(name: str, norm: str, variational: bool) -> None:
    network = synthesis(0.3, variational=variational)
    x, y = images(network)
    options = {"norm": norm, "runs": 2, "draws": 2}
    if ATTACKS[name].radius:
        options |= {"eps": 0.2 if norm == "linf" else 0.8, "queries": 10}
    elif name != "noise":
        options["steps"] = 40
    x[0] = network.model.b[(y[0] + 1) % K].detach().view(SHAPE)  # type: ignore[union-attr, index]
    found = run(name, network, x, y, **options)
    ball = ball_of(norm, 1)
    seen = found.broken_seen
    assert seen[1:].any()
    assert torch.equal(found.adversarial[0], x[0])
    assert seen[0]
    assert found.distance[0] == 0
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    torch.testing.assert_close(ball.distance(found.adversarial, x)[seen], found.distance[seen])
    if not variational:
        assert torch.equal(confirmed(network, found.adversarial, y, range(N))[seen], seen[seen])
    for rows in ([3], [1, 4]):
        o = Options(**{"steps": SHORT.get(name), "restarts": 2, "seed": 7, **options})  # type: ignore[arg-type]
        alone = run_attack(name, network, x[rows], y[rows], rows, o)
        torch.testing.assert_close(alone.adversarial, found.adversarial[rows], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.distance, found.distance[rows], atol=1e-6, rtol=0)
    again = run(name, network, x, y, **options)
    assert torch.equal(again.adversarial, found.adversarial)


@pytest.mark.parametrize(("name", "norm"), SEARCHES + CLIMBS)
def test_network_stays_as_it_was(name: str, norm: str) -> None:
    network = nn.Sequential(nn.Dropout(), Linear()) if name != "latent-descent" else synthesis()
    x, y = images(network.eval())
    network.train()
    run(name, network, x, y, norm=norm, steps=20, **({"eps": 0.1, "queries": 4} if ATTACKS[name].radius else {}))
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["pgd", "estimated"])
def test_zero_radius_is_a_control(name: str) -> None:
    network = synthesis()
    x, y = images(network)
    y[0] = (y[0] + 1) % K
    found = run(name, network, x, y, norm="linf", eps=0.0)
    assert torch.equal(found.adversarial, x)
    assert not found.distance.any()
    assert found.broken_seen.tolist() == [True] + [False] * (N - 1)


def test_caller_may_say_which_images_are_errors() -> None:
    network = Linear()
    x, y = images(network)
    wrong = torch.tensor([True] + [False] * (N - 1))
    found = run_attack("deepfool", network, x, y, range(N), Options(), wrong=wrong)
    assert found.broken_seen.all()
    assert (found.distance > 0).tolist() == (~wrong).tolist()
    assert torch.equal(found.adversarial[0], x[0])
    y[1] = (y[1] + 1) % K  # an error by chance, it seems to the search: it goes on
    none = torch.zeros(N, dtype=torch.bool)
    found = run_attack("ddn", network, x, y, range(N), Options(steps=160), wrong=none)
    assert found.broken_seen.all()
    assert (found.distance > 0).all()


@pytest.mark.parametrize("runs", [1, 3])
def test_following_is_full_inference_where_latents_are_exact(runs: int) -> None:
    network = AnalysisBySynthesis(Decoders(0.5), EXACT)
    x, _ = images(network)
    following = Following(network, range(N), iterations=60, runs=runs)
    for step in range(3):
        moved = (x + 0.02 * step).requires_grad_()
        logits = following(moved)
        full = network(moved)
        torch.testing.assert_close(logits, full, atol=1e-5, rtol=1e-5)
        ours, theirs = (torch.autograd.grad(each[:, 1].sum(), moved)[0] for each in (logits, full))
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_following_goes_on_and_begins_anew() -> None:
    network = synthesis(0.5, iterations=60)
    x, _ = images(network)
    calls: list[tuple[bool, int | None]] = []
    infer = network.infer

    def counted(images: Tensor, streams: ImageStreams, start: object = None, **options: object) -> object:
        calls.append((start is None, options["iterations"]))  # type: ignore[arg-type]
        return infer(images, streams, start, **options)  # type: ignore[arg-type]

    network.infer = counted  # type: ignore[method-assign, assignment]
    following = Following(network, range(N), iterations=4)
    for image in (x, x, x + 0.01):
        following(image)
    following.renew("again")
    following(x)
    assert calls == [(True, None), (False, 4), (True, None)]
    calls.clear()
    always = Following(network, range(N), iterations=0)
    for image in (x, x + 0.01):
        always(image)
    assert calls == [(True, None)] * 2
    with pytest.raises(ValueError, match="2 images for an attacker of 5"):
        following(x[:2])


def test_following_draws_anew_but_repeats_an_answer() -> None:
    network = synthesis(0.5, variational=True)
    assert isinstance(network, Synthesis)
    x, _ = images(network)
    following = Following(network, range(N))
    first = following(x)
    assert torch.equal(following(x), first)
    near = x + 1e-12
    assert (following(near) - first).abs().min() > 1e-6
    same = Following(network, range(N))
    assert torch.equal(same(x), first)
    assert not torch.equal(Following(network, range(N), seed=1)(x), first)
    whole, part = same(near), Following(network, range(N))
    part(x)
    torch.testing.assert_close(part.part(torch.tensor([1, 3]))(near[[1, 3]]), whole[[1, 3]])


@pytest.mark.parametrize("how", ["runs", "draws"])
def test_expectation_steadies_an_attacker(how: str) -> None:
    network = synthesis(0.5, variational=True)
    x, _ = images(network)

    def spread(count: int) -> Tensor:
        found = [Following(network, range(N), seed=seed, **{how: count})(x) for seed in range(30)]  # type: ignore[arg-type]
        return torch.stack(found).std(0).mean()

    assert spread(16) < (0.4 if how == "runs" else 0.9) * spread(1)


def test_plain_classifiers_are_asked_as_they_are() -> None:
    network = Linear()
    x, _ = images(network)
    assert torch.equal(Following(network, range(N), runs=7)(x), network(x))


def test_settled_changes_are_errors_by_fresh_inference() -> None:
    network = synthesis(0.3, variational=True)
    x, y = images(network, 30)
    found = run("deepfool", network, x, y, norm="l2", draws=1)
    assert not confirmed(network, found.adversarial, y, range(30), runs=4)[found.broken_seen].all()
    after = settled(network, found, x, y, range(30), norm="l2", runs=4)
    assert after.broken_seen.any()
    assert confirmed(network, after.adversarial, y, range(30), runs=4)[after.broken_seen].all()
    kept = after.broken_seen
    assert (after.distance[kept] <= 1.5 * found.distance[kept] + 1e-9).all()
    assert (after.distance[kept] >= found.distance[kept] - 1e-9).all()
    assert after.distance[~kept].isinf().all()
    assert torch.equal(after.adversarial[~kept], x[~kept])
    torch.testing.assert_close(ball_of("l2", 1).distance(after.adversarial, x)[kept], after.distance[kept])


def test_confirmation_has_streams_of_its_own() -> None:
    network = synthesis(0.3, variational=True)
    x, y = images(network)
    edge = run("ddn", network, x, y, norm="l2").adversarial.repeat(8, 1, 1, 1)
    labels = y.repeat(8)
    one, same, other = (confirmed(network, edge, labels, range(len(edge)), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("network", [Linear(), synthesis(0.5, variational=True)], ids=["linear", "synthesis"])
def test_fresh_logits_are_the_images_own(network: nn.Module) -> None:
    x, y = images(network, 12)
    logits = fresh_logits(network, x, range(12), runs=2)
    assert logits.shape == (12, K)
    assert not logits.requires_grad
    assert torch.equal(confirmed(network, x, y, range(12), runs=2), logits.argmax(1) != y)
    torch.testing.assert_close(fresh_logits(network, x[3:5], [3, 4], runs=2), logits[3:5])
    if isinstance(network, Linear):
        assert torch.equal(logits, network(x))
    else:
        often = [fresh_logits(network, x, range(12), runs=200, seed=seed) for seed in (0, 1)]
        assert (often[0] - often[1]).abs().mean() < 0.3 * (logits - often[1]).abs().mean()


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
    assert seen.sum() > 1
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


@pytest.mark.parametrize(("name", "norm"), [each for each in SEARCHES + CLIMBS if each[0] != "latent-descent"])
def test_logits_that_are_not_finite_are_refused(name: str, norm: str) -> None:
    class Lost(Linear):
        def forward(self, x: Tensor) -> Tensor:
            moved = ((x - 0.5).abs().flatten(1).amax(1) > 0.0501)[:, None]
            return super().forward(x).masked_fill(moved, math.nan)

    x, y = images(Linear())
    given = {"eps": 0.5, "queries": 4} if ATTACKS[name].radius else {}
    with pytest.raises(UserError, match=r"NaN.*train the attacked network"):
        run(name, Lost(), x, y, norm=norm, steps=20, **given)


def test_options_that_make_no_attack_are_refused() -> None:
    network = Linear()
    x, y = images(network)
    with pytest.raises(UserError, match="unknown attack 'fgsm'; known are pgd, deepfool"):
        check_attack("fgsm", "l2")
    with pytest.raises(UserError, match="ddn is an attack in l2, not linf"):
        run("ddn", network, x, y, norm="linf")
    with pytest.raises(UserError, match="pgd needs eps"):
        run("pgd", network, x, y)
    with pytest.raises(UserError, match="cw finds the smallest change; leave eps out"):
        run("cw", network, x, y, eps=0.1)
    with pytest.raises(UserError, match="unknown norm"):
        Options(norm="l1")  # type: ignore[arg-type]
    for wrong in ({"restarts": 0}, {"steps": 0}, {"candidates": 1}, {"queries": 3}, {"eps": -1.0}, {"gamma": 1.0}):
        with pytest.raises(UserError, match="need"):
            Options(**wrong)  # type: ignore[arg-type]
    for wrong in ({"iterations": -1}, {"runs": 0}, {"draws": 0}):
        with pytest.raises(UserError, match="an attacker needs"):
            Following(network, range(N), **wrong)
    for wrong in ({"follow": -1}, {"runs": 0}, {"draws": 0}):
        with pytest.raises(UserError, match="an attacker needs"):
            Options(**wrong)  # type: ignore[arg-type]
