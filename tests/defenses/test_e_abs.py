"""Inference of latents against the optimum that linear decoders have in closed form, and Eq. 8's gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.defenses.e_abs import AnalysisBySynthesis, Candidates, Inferred, Loss, Options
from robustgen.errors import UserError
from robustgen.models import aae
from robustgen.protocols import Defense
from robustgen.seeding import ImageStreams

K, M, SHAPE = 3, 4, (2, 3, 3)
EXACT = Options(variational=False, candidates=50, iterations=400, encoder=False, beta=0.7)
V = Options(candidates=50, iterations=20)


class Linear(nn.Module):
    """G_k(z) = A_k z + b_k; the encoder is a linear map too, D a linear or, if `gaussian`, log D(z) = −‖z‖²/2."""

    def __init__(self, *, adversarial: bool = False, gaussian: bool = False, classes: int = K) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        size = math.prod(SHAPE)
        self.a = nn.Parameter(0.4 * torch.randn(K, size, M, generator=random, dtype=torch.float64)[:classes])
        self.b = nn.Parameter(torch.rand(K, size, generator=random, dtype=torch.float64)[:classes])
        self.e = nn.Parameter(0.3 * torch.randn(M, size, generator=random, dtype=torch.float64))
        self.d = nn.Parameter(torch.randn(M, generator=random, dtype=torch.float64))
        self.config = SimpleNamespace(latent=M, adversarial=adversarial)
        self.num_classes = classes
        self.gaussian = gaussian
        self.log_variance = -2.0

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x.flatten(1) @ self.e.T)[:, None].expand(-1, self.num_classes, -1)
        return mean, torch.full_like(mean, self.log_variance)

    def decode(self, z: Tensor) -> Tensor:
        return (torch.einsum("kdm,nkm->nkd", self.a, z) + self.b).unflatten(2, SHAPE)

    def log_d(self, z: Tensor) -> Tensor:
        return -z.square().sum(2) / 2 if self.gaussian else F.logsigmoid(z @ self.d)

    def optimum(self, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """argmin_z ‖x − G_k(z)‖² + β/2 ‖z‖², and the minimum."""
        residual = x.flatten(1)[:, None] - self.b
        normal = self.a.mT @ self.a + beta / 2 * torch.eye(M)
        z = torch.linalg.solve(normal, torch.einsum("kdm,nkd->nkm", self.a, residual).transpose(0, 1).mT).mT
        z = z.transpose(0, 1).detach()
        distance = (x[:, None] - self.decode(z)).square().flatten(2).sum(2)
        return z, (distance + beta / 2 * z.square().sum(2)).detach()


def images(n: int = 9) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def streams(n: int = 9, seed: int = 0) -> ImageStreams:
    return ImageStreams(seed, range(n))


def infer(model: nn.Module, options: Options, x: Tensor, **more: object) -> Inferred:
    return AnalysisBySynthesis(model, options).infer(x, streams(len(x)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", ["sum", "mean"])
@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("cache", [1.0, 0.0])
def test_best_candidate_is_the_least_of_plain_losses(cost: str, variational: bool, cache: float) -> None:
    model, x = Linear(adversarial=True), images()
    options = replace(EXACT, cost=cost, variational=variational, cache=cache)  # type: ignore[arg-type]
    loss = Loss(model, options)
    candidates = Candidates(loss, options, x)
    candidates.size, candidates.kept = 7, None if cache == 0 else candidates.kept
    z = candidates.means[:, None].expand(-1, K, -1)
    squares = (x[:, None, None] - model.decode(z)).square().flatten(3)  # (N, J, K, D)
    plain = (squares.mean(3) if cost == "mean" else squares.sum(3)) - options.beta * model.log_d(z)
    least, means = candidates.best(x)
    torch.testing.assert_close(least, plain.amin(1))
    assert torch.equal(means, candidates.means[plain.argmin(1)])


def test_pieces_are_made_anew_where_they_are_not_kept() -> None:
    model, x = Linear(), images()
    kept, anew = (Candidates(Loss(model, o), o, x) for o in (EXACT, replace(EXACT, cache=0.0)))
    assert kept.kept is not None
    assert anew.kept is None
    for a, b in zip(kept.best(x), anew.best(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("encoder", [False, True])
def test_exact_inference_of_a_variational_autoencoder_reaches_the_optimum(encoder: bool) -> None:
    model, x = Linear(), images()
    found = infer(model, replace(EXACT, encoder=encoder), x)
    z, losses = model.optimum(x, EXACT.beta)
    torch.testing.assert_close(found.losses, losses, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.z, z, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.reconstruction, model.decode(found.z))
    assert torch.equal(found.mean, found.z)
    assert not found.log_variance.any()


def test_discriminator_takes_the_place_of_the_divergence() -> None:
    """log D(z) = −‖z‖²/2 makes Eq. 9 and Eq. 2 the same, another D does not."""
    x = images()
    vae, gaussian = (infer(Linear(adversarial=a, gaussian=True), EXACT, x) for a in (False, True))
    torch.testing.assert_close(vae.losses, gaussian.losses)
    model = Linear(adversarial=True)
    found = infer(model, EXACT, x)
    plain = (x[:, None] - model.decode(found.z)).square().flatten(2).sum(2) - EXACT.beta * model.log_d(found.z)
    torch.testing.assert_close(found.losses, plain)
    assert (found.losses - vae.losses).abs().min() > 1e-3


def test_mean_cost_is_the_sum_with_a_larger_beta() -> None:
    model, x = Linear(adversarial=True), images()
    size = math.prod(SHAPE)
    mean = infer(model, replace(EXACT, cost="mean"), x)
    total = infer(model, replace(EXACT, beta=EXACT.beta * size), x)
    torch.testing.assert_close(size * mean.losses, total.losses, rtol=1e-5, atol=1e-5)


def test_variational_inference_nears_the_best_gaussian() -> None:
    """E‖x − Aμ − b − Aσε‖² + β KL is least at Eq. 2's mean and σ² = β / (2 (AᵀA)ᵢᵢ + β)."""
    model, x = Linear(), images(3)
    options = replace(EXACT, variational=True, iterations=3000, lr=0.01)
    found = infer(model, options, x)
    z, _ = model.optimum(x, options.beta)
    variance = options.beta / (2 * model.a.square().sum(1) + options.beta)
    assert (found.mean - z).square().mean().sqrt() < 0.2 * z.square().mean().sqrt()
    torch.testing.assert_close(found.log_variance.mean(0), variance.log().detach(), atol=0.4, rtol=0)


@pytest.mark.parametrize("adversarial", [False, True])
def test_gradient_is_that_of_the_written_out_objective(adversarial: bool) -> None:
    model, x = Linear(adversarial=adversarial), images()
    random = torch.Generator().manual_seed(1)
    mean, log_variance = torch.randn(2, 9, K, M, generator=random, dtype=torch.float64).requires_grad_().unbind()
    noise = torch.randn(9, M, generator=random, dtype=torch.float64)
    z = mean + (log_variance / 2).exp() * noise[:, None]
    written = (x[:, None] - model.decode(z)).square().flatten(2).sum(2)
    if adversarial:
        written = written - V.beta * model.log_d(z)
    else:
        q = torch.distributions.Normal(mean, (log_variance / 2).exp())
        standard = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
        written = written + V.beta * torch.distributions.kl_divergence(q, standard).sum(2)
    wanted = torch.stack(torch.autograd.grad(written.sum(), [mean, log_variance]))
    losses, gradient = Loss(model, V).gradient(x, torch.stack([mean, log_variance]), noise)
    torch.testing.assert_close(losses, written)
    torch.testing.assert_close(gradient, wanted)


def test_exact_inference_is_never_worse_than_its_start_and_returns_the_least_it_met() -> None:
    model, x = Linear(adversarial=True), images()
    options = replace(EXACT, lr=3.0)  # overshoots
    losses = [infer(model, replace(options, iterations=n), x).losses for n in (1, 2, 3, 5, 9, 30)]
    torch.testing.assert_close(losses[0], Candidates(Loss(model, options), options, x).best(x)[0])
    for before, after in pairwise(losses):
        assert (after <= before).all()


def test_last_evaluation_updates_nothing() -> None:
    """Two evaluations are one step of Adam, whose length is lr in every coordinate."""
    model, x = Linear(adversarial=True), images()
    start, moved = (infer(model, replace(V, iterations=n, encoder=False), x) for n in (1, 2))
    for name in ("mean", "log_variance"):
        steps = (getattr(moved, name) - getattr(start, name)).abs()
        torch.testing.assert_close(steps, torch.full_like(steps, V.lr), rtol=1e-4, atol=0)
    assert not start.log_variance.any()  # candidates have unit variance


@pytest.mark.parametrize("options", [V, replace(V, variational=False)])
@pytest.mark.parametrize("adversarial", [False, True])
def test_classes_together_are_each_as_alone(options: Options, adversarial: bool) -> None:
    x = images()
    together = infer(Linear(adversarial=adversarial), options, x)
    for k in range(K):
        alone = Linear(adversarial=adversarial, classes=1)
        whole = Linear()
        alone.a.data, alone.b.data = whole.a.data[k : k + 1], whole.b.data[k : k + 1]
        found = infer(alone, options, x)
        torch.testing.assert_close(found.losses[:, 0], together.losses[:, k])
        torch.testing.assert_close(found.z[:, 0], together.z[:, k])


@pytest.mark.parametrize("options", [V, replace(V, variational=False), replace(V, draws=3)])
def test_results_depend_on_image_and_seed_but_not_on_batch_or_order(options: Options) -> None:
    x, order = images(11), [3, 5, 8, 0, 1, 9, 12, 7, 2, 4, 6]
    defense = AnalysisBySynthesis(Linear(adversarial=True), options)
    whole = defense.predict(x, order)
    assert torch.equal(whole, defense.predict(x, order))
    parts = AnalysisBySynthesis(defense.model, replace(options, batch=2)).predict(x, order)
    torch.testing.assert_close(parts, whole)
    for row in (0, 7):
        torch.testing.assert_close(defense.predict(x[row : row + 1], order[row : row + 1])[0], whole[row])
    other = AnalysisBySynthesis(defense.model, replace(options, seed=1, candidates=1000)).predict(x, order)
    assert (other != whole).any()
    moved = defense.predict(x, [index + 1 for index in order])
    assert torch.equal(moved, whole) != options.variational


def test_network_s_results_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    defense = AnalysisBySynthesis(small(), V)
    x = torch.rand(19, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = defense.predict(x, range(19))
    for rows in (slice(0, 1), slice(4, 7), slice(5, 19)):
        found = defense.predict(x[rows], range(19)[rows])
        torch.testing.assert_close(found, whole[rows], rtol=1e-4, atol=1e-4)


def small(**config: object) -> aae.Model:
    """An autoencoder of 8 x 8 images that spreads its latents over them."""
    shape = {"channels": (6, 8), "kernels": (3, 3), "strides": (2, 2), "paddings": (1, 1)}
    back = {"channels": (8, 6, 1), "kernels": (4, 4, 1), "strides": (1, 2, 1), "paddings": (0, 1, 0)}
    sizes = {f"encoder_{name}": value for name, value in shape.items()}
    sizes |= {f"decoder_{name}": value for name, value in back.items()}
    return aae.Model(aae.Config(size=8, classes=4, latent=5, neurons=(12, 6), **sizes, **config))  # type: ignore[arg-type]


def test_decoders_laid_out_for_inference_lead_to_the_same_losses() -> None:
    class Plain(nn.Module):
        """The autoencoder as one that is not known to be of its kind."""

        def __init__(self, model: aae.Model) -> None:
            super().__init__()
            self.config, self.num_classes = model.config, model.num_classes
            self.encode, self.decode, self.log_d = model.encode, model.decode, model.log_d

    torch.manual_seed(0)
    model = small().double().eval()
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, plain = (infer(each, V, x) for each in (model, Plain(model)))
    torch.testing.assert_close(ours.losses, plain.losses)
    torch.testing.assert_close(ours.z, plain.z)


def test_new_weights_count_once_the_module_is_moved() -> None:
    torch.manual_seed(0)
    model = small()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    defense = AnalysisBySynthesis(model, V)
    before = defense(x)
    model.load_state_dict(small().state_dict())
    fresh = AnalysisBySynthesis(model, V)(x)
    assert not torch.equal(before, fresh)
    assert torch.equal(defense.to("cpu")(x), fresh)


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("variational", [False, True])
def test_all_eight_combinations_infer(adversarial: bool, shared: bool, variational: bool) -> None:
    torch.manual_seed(0)
    model = small(adversarial=adversarial, shared=shared)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start, end = (infer(model, replace(V, variational=variational, iterations=n), x) for n in (1, 60))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert end.losses.shape == (3, 4)
    assert end.reconstruction.shape == (3, 4, 1, 8, 8)
    assert end.losses.mean() < start.losses.mean()


def told(x: Tensor, mean: Tensor, log_variance: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """An encoder that gives each of the images x its mean and log-variance (N, K, M), whoever they come with."""

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        rows = (images[:, None] == x).flatten(2).all(2).int().argmax(1)
        return mean[rows], log_variance[rows]

    return encode


def test_encoder_is_a_candidate_of_every_class() -> None:
    x = images()
    model = Linear()
    z, losses = model.optimum(x, 0.7)
    model.encode = told(x, z, torch.zeros_like(z))  # type: ignore[method-assign]
    with_it, without = (infer(model, replace(EXACT, iterations=1, encoder=e), x) for e in (True, False))
    torch.testing.assert_close(with_it.z, z)
    torch.testing.assert_close(with_it.losses, losses)
    assert (without.losses > losses).all()


def test_a_better_encoder_is_taken_from_among_thousands_of_candidates() -> None:
    """One sample each would make the least of 8000 scores look better than any encoder."""
    x, model = images(), Linear(adversarial=True)
    z, _ = model.optimum(x, V.beta)
    model.encode = told(x, z, torch.full_like(z, -8.0))  # type: ignore[method-assign]
    found = infer(model, replace(V, candidates=8000, iterations=1), x)
    assert torch.equal(found.mean, z)
    assert (found.log_variance == -8.0).all()


def test_encoder_that_is_worse_than_the_candidates_is_not_taken() -> None:
    x, model = images(), Linear()
    model.encode = lambda images: (torch.full((len(images), K, M), 50.0, dtype=x.dtype),) * 2  # type: ignore[assignment]
    for options in (replace(V, iterations=1), replace(V, iterations=1, variational=False)):
        with_it, without = (infer(model, replace(options, encoder=e), x) for e in (True, False))
        assert torch.equal(with_it.losses, without.losses)


def test_variance_of_the_encoder_is_where_optimisation_starts() -> None:
    x, model = images(), Linear(adversarial=True)
    model.e.data = torch.linalg.pinv(model.a[0].detach())
    found = infer(model, replace(V, candidates=1, iterations=1), x)
    mean, _ = model.encode(x)
    taken = found.log_variance == model.log_variance
    assert taken.any()
    assert torch.equal(found.mean[taken], mean[taken])


def test_start_goes_on_without_candidates() -> None:
    model, x = Linear(adversarial=True), images()
    defense = AnalysisBySynthesis(model, replace(EXACT, iterations=60))
    found = defense.infer(x, streams())
    defense._candidates = None
    again = defense.infer(x, streams(), found, iterations=20)
    assert defense._candidates is None
    assert (again.losses <= found.losses).all()
    near = (x + 0.01).clamp(0, 1)
    few = defense.infer(near, streams(), again, iterations=20)
    torch.testing.assert_close(few.losses, defense.infer(near, streams(), iterations=400).losses, rtol=1e-3, atol=1e-3)
    parts = AnalysisBySynthesis(model, replace(EXACT, batch=2)).infer(near, streams(), again, iterations=20)
    assert torch.equal(parts.losses, few.losses)


def test_runs_are_independent_inferences_in_successive_rows() -> None:
    model, x = Linear(adversarial=True), images(3)
    defense = AnalysisBySynthesis(model, V)
    three = defense.infer(x, streams(3), runs=3)
    assert three.losses.shape == (9, K)
    assert (three.losses.unflatten(0, (3, 3)).std(1) > 0).all()
    torch.testing.assert_close(defense.logits(x, three), -three.losses.unflatten(0, (3, 3)).mean(1))
    once = defense.infer(x, streams(3))
    ahead = defense.infer(x, streams(3), once, runs=2, iterations=1)
    assert torch.equal(ahead.mean, once.mean.repeat_interleave(2, 0))
    exact = AnalysisBySynthesis(model, EXACT)
    assert not exact.random
    rows = exact.infer(x, streams(3), runs=2).losses.unflatten(0, (3, 2))
    assert torch.equal(rows[:, 0], rows[:, 1])


def test_draws_average_over_samples_of_the_same_distribution() -> None:
    model, x = Linear(adversarial=True), images(3)
    defense = AnalysisBySynthesis(model, replace(V, draws=400))
    assert defense.draws == 400
    assert AnalysisBySynthesis(model, replace(EXACT, draws=400)).draws == 1
    many = defense.infer(x, streams(3))
    torch.testing.assert_close(many.mean, defense.infer(x, streams(3), draws=1).mean)
    torch.testing.assert_close(many.reconstruction, model.decode(many.mean).detach(), atol=0.2, rtol=0)
    spread = (model.a.square().sum(1) * many.log_variance.exp()).sum(2)
    expected = (x[:, None] - model.decode(many.mean)).square().flatten(2).sum(2) + spread
    penalty = -torch.stack([model.log_d(many.mean)]).mean(0)
    torch.testing.assert_close(many.losses, (expected + penalty).detach(), rtol=0.15, atol=0.15)


@pytest.mark.parametrize("options", [EXACT, V, replace(V, draws=4), replace(EXACT, cost="mean")])
def test_gradient_of_a_logit_is_twice_the_residual(options: Options) -> None:
    model, x = Linear(adversarial=True), images()
    defense = AnalysisBySynthesis(model, options)
    found = defense.infer(x, streams(), runs=2)
    leaf = x.clone().requires_grad_()
    logits = defense.logits(leaf, found)
    assert torch.equal(logits, -found.losses.unflatten(0, (9, 2)).mean(1))
    for k in range(K):
        (gradient,) = torch.autograd.grad(-logits[:, k].sum(), leaf, retain_graph=True)
        wanted = 2 * (x - found.reconstruction[:, k].unflatten(0, (9, 2)).mean(1))
        torch.testing.assert_close(gradient, wanted / (math.prod(SHAPE) if options.cost == "mean" else 1))


def test_gradient_is_that_of_the_loss_optimised_anew() -> None:
    """The envelope theorem: with z* held, the derivative of the minimum."""
    model, x = Linear(adversarial=True), images(2)
    defense = AnalysisBySynthesis(model, replace(EXACT, iterations=1500))
    leaf = x.clone().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    logits = defense(leaf)
    step = 1e-3
    with torch.no_grad():
        numeric = (defense(x + step * direction) - defense(x - step * direction)) / (2 * step)
    for k in range(K):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)
        torch.testing.assert_close((gradient * direction).flatten(1).sum(1), numeric[:, k], rtol=1e-3, atol=1e-3)


def test_it_is_a_defence_that_is_its_own_classifier() -> None:
    x = images()
    defense = AnalysisBySynthesis(Linear(adversarial=True), V)
    assert isinstance(defense, Defense)
    assert defense.classifier is defense
    assert defense.purify(x) is x
    assert torch.equal(defense(x), defense.predict(x, range(9)))
    assert not defense.predict(x.clone().requires_grad_(), range(9)).requires_grad
    assert len(list(defense.modules())) == 2


def test_candidates_follow_the_weights_to_another_type() -> None:
    x = images()
    defense = AnalysisBySynthesis(Linear(), EXACT)
    double = defense(x)
    single = defense.float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("part", "what"), [("a", "candidates"), ("d", "candidates"), ("e", "the encoder's latents")])
def test_weights_that_are_not_finite_are_refused(part: str, what: str) -> None:
    model = Linear(adversarial=True)
    getattr(model, part).data[0] = math.nan
    with pytest.raises(UserError, match=rf"{what} are NaN or infinite for \d+ of \d+ \w+; train the autoencoder again"):
        AnalysisBySynthesis(model, V)(images())


def test_networks_that_are_not_finite_are_refused() -> None:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for broken in ("decoder.norms.0.running_var", "decoder.fc.weight", "encoder.norms.0.bias", "mean.weight"):
        model = small()
        model.load_state_dict({**model.state_dict(), broken: model.state_dict()[broken] * math.nan})
        for options in (V, replace(V, variational=False)):
            with pytest.raises(UserError, match=r"NaN or infinite .* train the autoencoder again"):
                AnalysisBySynthesis(model, options)(x)


def test_divergence_on_the_way_is_refused() -> None:
    model, x = Linear(adversarial=True), images()
    defense = AnalysisBySynthesis(model, V)
    start = defense.infer(x, streams())
    model.b.data[1, 0] = math.nan
    with pytest.raises(UserError, match="losses of the classes are NaN or infinite for 9 of 9 images"):
        defense.infer(x, streams(), start)


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing() -> None:
    sizes: list[int] = []

    class Limited(Linear):
        most = 17

        def decode(self, z: Tensor) -> Tensor:
            sizes.append(len(z))
            if len(z) > self.most:
                raise torch.OutOfMemoryError("too many")
            return super().decode(z)

    x, model = images(17), Limited(adversarial=True)
    defense = AnalysisBySynthesis(model, replace(V, batch=17))
    whole = defense.infer(x, streams(17))
    sizes.clear()
    model.most = 8
    torch.testing.assert_close(defense.infer(x, streams(17)).losses, whole.losses)
    assert max(sizes) == 17
    assert sizes[-1] == 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"candidates": 0}, "candidates, compared, iterations, draws and batch >= 1"),
        ({"iterations": 0}, "candidates, compared, iterations, draws and batch >= 1"),
        ({"lr": 0.0}, "lr > 0"),
        ({"beta": -1.0}, "beta >= 0"),
        ({"beta": math.nan}, "beta >= 0"),
        ({"cost": "median"}, "sum or mean"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"draws": 0}, {"iterations": 0}])
def test_counts_of_a_call_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="iterations, draws and runs >= 1"):
        AnalysisBySynthesis(Linear(), V).infer(images(), streams(), **wrong)  # type: ignore[arg-type]
