"""Searches for the smallest change of an image that is an error: noise, decisions alone, gradients, reconstructions.

A `Nearest` stands between search and classifier and keeps, of all images that are asked about, the nearest error. So
what a search returns does not matter, and DeepFool, DDN, CW and the boundary attack can be foolbox's: some of these
return an image that is no error, or a black one, where they fail.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustgen.attacks.following import Task
from robustgen.replicates import check_finite
from robustgen.seeding import ImageStreams, generator

if TYPE_CHECKING:
    from robustgen.attacks.synthesis import Options

SPREAD = 3.0  # standard deviation of a natural image's logits as foolbox's attacks see them


class Nearest(nn.Module):
    """Images (N, C, H, W) -> logits (N, K); it keeps for every image x_i the nearest that is not taken for y_i.

    best (N, C, H, W): these images, x itself where there is none yet. distance (N,): theirs from x in the ball's norm,
    infinite where none is known. Asked about the nearest error again it gives the answer that made it one; that a
    random classifier once takes x itself for an error does not count. Logits are scaled so that those of x have a
    standard deviation of 3 over classes: cross-entropy would not move where the gap between squared errors of images is
    30, and CW's constants are made for the logits of networks.
    Raises UserError where logits are not finite.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.best = task.x
        self.distance = torch.full_like(task.x[:, 0, 0, 0], math.inf)
        with torch.no_grad():
            self.answer = self._asked(task.x)
        deviation = self.answer.std(1, keepdim=True)
        self.scale = SPREAD / deviation.where(deviation > 0, 1)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits, asked = self._asked(images), images.detach()
        again = (asked == self.best).flatten(1).all(1) & self.distance.isfinite()
        logits = torch.where(again[:, None], self.answer, logits)
        distance = self.task.ball.distance(asked, self.task.x)
        error = (logits.detach().argmax(1) != self.task.y) & (distance > 0)
        nearer = error & (distance < self.distance)
        self.distance = torch.where(nearer, distance, self.distance)
        self.best = torch.where(nearer.view(-1, 1, 1, 1), asked.clamp(0, 1), self.best)
        self.answer = torch.where(nearer[:, None], logits.detach(), self.answer)
        return self.scale * logits

    def _asked(self, images: Tensor) -> Tensor:
        logits: Tensor = self.task.following(images)
        check_finite(logits.detach(), "logits under attack", "; train the attacked network again")
        return logits

    @torch.no_grad()
    def wrong(self, images: Tensor) -> Tensor:
        """(N,) bool: which images (N, C, H, W) are not taken for their labels."""
        return self(images).argmax(1) != self.task.y  # type: ignore[no-any-return]

    def part(self, rows: Tensor) -> Nearest:
        """The search of some of the images, by their rows in the batch."""
        part = Nearest.__new__(Nearest)
        nn.Module.__init__(part)
        part.task = self.task.part(rows)
        for name in ("best", "distance", "answer", "scale"):
            setattr(part, name, getattr(self, name)[rows])
        return part.eval()

    def take(self, part: Nearest, rows: Tensor) -> None:
        """Take up what a part has found."""
        for name in ("best", "distance", "answer"):
            setattr(self, name, getattr(self, name).index_copy(0, rows, getattr(part, name)))


def noise(search: Nearest, steps: int, options: Options) -> None:
    """Gaussian noise (Ju & Wagner 2020, Sec. 4.2): of each of `directions` draws v the least of x + σ v, clipped, that
    is an error, σ rising to `sigma` in equal steps. More directions are never worse."""
    task = search.task
    for direction in range(options.directions):
        task.following.renew("noise", direction)
        v = task.streams.normal(task.x.shape[1:], task.x.device).to(task.x)
        found = torch.zeros_like(task.y, dtype=torch.bool)
        for step in range(1, steps + 1):
            found |= search.wrong((task.x + options.sigma * step / steps * v).clamp(0, 1))
            if found.all():
                break


def latent_descent(search: Nearest, steps: int, options: Options) -> None:
    """Schott et al.'s (2018) latent descent: towards the reconstruction of the best wrong class.

    In steps t = 1/steps..1 the image is (1 − t) x + t r, r being the reconstruction at the image before, until it is an
    error; `halvings` of the line from there to x find the nearest error on it. (As in their released code; in their
    text the step is made from the image before.)
    """
    x, y, following = search.task.x, search.task.y, search.task.following
    following.renew("latent-descent")
    there, found = x, torch.zeros_like(y, dtype=torch.bool)
    for step in range(1, steps + 1):
        with torch.no_grad():
            logits = search(there)
        other = logits.scatter(1, y[:, None], -math.inf).argmax(1)
        r = following.reconstructions(there)[torch.arange(len(x), device=x.device), other]
        moved = torch.lerp(x, r.clamp(0, 1), step / steps)
        there = torch.where(found.view(-1, 1, 1, 1), there, moved)
        found |= search.wrong(there)
        if found.all():
            break
    following.renew("halvings")
    low, high = torch.zeros_like(x[:, 0, 0, 0]), torch.ones_like(x[:, 0, 0, 0])
    for _ in range(options.halvings):
        middle = (low + high) / 2
        wrong = search.wrong(torch.lerp(x, there, middle.view(-1, 1, 1, 1)))
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)


def deepfool(search: Nearest, steps: int, options: Options) -> None:
    """DeepFool (Moosavi-Dezfooli et al. 2016), foolbox's; towards the nearest of the `candidates` likeliest classes."""
    from foolbox.attacks.deepfool import L2DeepFoolAttack, LinfDeepFoolAttack

    kind = {"l2": L2DeepFoolAttack, "linf": LinfDeepFoolAttack}[options.norm]
    attack = kind(steps=steps, candidates=options.candidates, overshoot=options.overshoot)
    last = attack.run(foolbox_model(search), search.task.x, search.task.y)
    search.wrong(last)  # it has not asked about it


def ddn(search: Nearest, steps: int, options: Options) -> None:
    """Decoupled direction and norm (Rony et al. 2019), foolbox's, which draws a direction where the gradient is 0."""
    from foolbox.attacks.ddn import DDNAttack

    attack = DDNAttack(init_epsilon=options.init_eps, steps=steps, gamma=options.gamma)
    with Randomness(search.task.streams, search.task.x, generator(options.seed, "ddn")):
        attack.run(foolbox_model(search), search.task.x, search.task.y)


def cw(search: Nearest, steps: int, options: Options) -> None:
    """Carlini & Wagner (2017), foolbox's: `searches` values of the constant, the first of them c, `steps` each.

    Without its early end, which looks at the loss of the whole batch.
    """
    from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack

    attack = L2CarliniWagnerAttack(
        binary_search_steps=options.searches,
        steps=steps,
        stepsize=options.lr,
        initial_const=options.c,
        abort_early=False,
    )
    attack.run(foolbox_model(search), search.task.x, search.task.y)


def boundary(search: Nearest, steps: int, options: Options) -> None:
    """The boundary attack (Brendel et al. 2018), foolbox's, which sees decisions only.

    An image starts at the first of `tries` random images that is not taken for its label, of `starts` (J, C, H, W) or
    uniform noise; one without is given up. The nearest error on the line to x, in 1/50ths, is where foolbox begins. All
    images are offered the same directions, from a stream of their own, and none counts as converged: otherwise who
    shares the batch would matter.
    """
    from foolbox.attacks.boundary_attack import BoundaryAttack

    start = _start(search, options.tries)
    rows = search.distance.isfinite().nonzero().flatten()
    if not len(rows):
        return
    part = search.part(rows)
    part.task.following.renew("line")
    for step in range(1, 50):
        part.wrong(torch.lerp(part.task.x, start[rows], step / 50))
    attack = BoundaryAttack(steps=steps, source_step_convergance=0)
    shared = generator(options.seed, "boundary")
    with Randomness(part.task.streams, part.task.x, shared), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)  # of images whose record is short
        attack.run(foolbox_model(part), part.task.x, part.task.y, starting_points=part.best)
    search.take(part, rows)


def _start(search: Nearest, tries: int) -> Tensor:
    """(N, C, H, W): for each image the first random one that is an error; where none is, any."""
    task, x = search.task, search.task.x
    pool = None if task.starts is None else task.starts.to(x)
    start, found = x, torch.zeros_like(task.y, dtype=torch.bool)
    for number in range(tries):
        task.following.renew("start", number)
        if pool is None:
            images = task.streams.uniform(x.shape[1:], x.device).to(x)
        else:
            images = pool[(task.streams.uniform((), x.device) * len(pool)).long()]
        start = torch.where(found.view(-1, 1, 1, 1), start, images)
        found |= search.wrong(start)
        if found.all():
            break
    return start


def foolbox_model(search: Nearest) -> Any:
    """The search as foolbox calls it, which would move the modules in it to a device; a `Task` is none."""
    from foolbox.models.pytorch import PyTorchModel

    return PyTorchModel(search, bounds=(0, 1), device=search.task.x.device)


class Randomness(TorchFunctionMode):
    """Inside this context what foolbox draws without a generator depends on the image, not on who shares its batch.

    Draws shaped as images x (N, C, H, W) come from their streams, others, which serve the whole batch, from a stream
    that is the same for any batch. Draws that name a generator are the classifier's own.
    """

    def __init__(self, streams: ImageStreams, x: Tensor, shared: torch.Generator) -> None:
        super().__init__()
        self.streams = streams
        self.x = x
        self.shared = shared

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.rand, torch.randn) or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        shape = tuple(args[0] if args and isinstance(args[0], tuple | list) else args)
        if shape == tuple(self.x.shape):
            drawn = (self.streams.uniform if func is torch.rand else self.streams.normal)(shape[1:])
        else:
            drawn = func(shape, generator=self.shared)
        return drawn.to(self.x)
