"""The attacker who goes on from known latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustgen.attacks.following import Following, Synthesis
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.defenses.e_abs import Options as Inference
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .planes import Decoders, Linear, N, images, synthesis

EXACT = Inference(variational=False, candidates=20, iterations=300, beta=0.5)


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
    with pytest.raises(UserError, match="2 images, but 5 indices; give one for each"):
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
