from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustgen import cli, io, models
from robustgen.attacks import synthesis
from robustgen.data import load_split
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.defenses.e_abs import Options as Inference
from robustgen.errors import UserError
from robustgen.evaluation.e_abs_bound import Bounds
from robustgen.models import aae, encoder_cnn, madry_cnn
from robustgen.options import recorded
from robustgen.seeding import derive
from robustgen.stages import attack_synthesis as stage
from robustgen.stages import evaluation
from robustgen.training.aae import Recipe, train_autoencoder
from robustgen.training.classifier import Images

ENCODER: dict[str, Any] = {
    "size": 8,
    "classes": 4,
    "encoder_channels": (6, 8),
    "encoder_kernels": (3, 4),
    "encoder_strides": (2, 1),
    "encoder_paddings": (1, 0),
}
DECODER: dict[str, Any] = {
    "latent": 3,
    "decoder_channels": (8, 6, 1),
    "decoder_kernels": (4, 4, 1),
    "decoder_strides": (1, 2, 1),
    "decoder_paddings": (0, 1, 0),
    "neurons": (12, 6),
}
CNN = "--model cnn.safetensors --data data.npz --images 7 --batch 3 --seed 2"
AAE = (
    "--model aae.safetensors --data data.npz --images 7 --batch 3 --seed 2 --inference.candidates 20 "
    "--inference.iterations 5 --follow 2 --draws 2"
)
PGD = "--attack pgd --norm linf --eps 0.1 --steps 3"
MIXED = (
    "--attack pgd pgd pgd deepfool deepfool ddn noise --norm linf linf l2 linf linf l2 l2 "
    "--eps 0.1 0.1 0.8 0.05 0.2 0.6 1.0 --steps 3 3 3 8 8 8 10 --restarts 1 3 2 1 1 1 1"
)
EVERY = (
    "--attack pgd estimated deepfool ddn cw noise boundary --norm linf l2 linf l2 l2 l2 l2 "
    "--eps 0.1 1.5 0.12 0.8 1 3 1.2 --steps 3 2 8 8 6 10 40 --details.queries 4 --details.searches 3 "
    "--details.directions 2 --details.c 1 --details.lr 0.1 --details.sigma 2"
)
PER_IMAGE = {"natural_correct": 0, "control_correct": 0, "natural_logits": 0, "labels": 0, "indices": 0}
PER_POINT = {"robust": 1, "seen": 1, "distance": 1}
GRID = {"attack", "norm", "eps", "steps", "restarts", "draws"}
SHOWN = {"shown", "shown_images", "shown_adversarial", "shown_predicted"}
EXAMPLES = {f"example_{name}" for name in ("rows", "images", "reconstructions", "losses")}

Stage = Callable[[str], dict[str, np.ndarray]]


def taught(data: Path) -> nn.Module:
    """A classifier that names most of the images rightly."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = models.build(encoder_cnn.Config(**ENCODER, dropout=0.0))
    train = load_split(data, "train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(train.images), train.labels).backward()
        optimizer.step()
    return model.eval()


def autoencoders(data: Path, recipe: Recipe) -> nn.Module:
    """Networks whose inference names most of the images rightly."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = models.build(aae.Config(**ENCODER, **DECODER))
    train, validation = (load_split(data, split) for split in ("train", "validation"))
    assert isinstance(model, aae.AAE)
    sets = (Images(each.images, each.labels) for each in (train, validation))
    return train_autoencoder(model, *sets, recipe)[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, a classifier, autoencoders, and spoilt ones."""
    root = tmp_path_factory.mktemp("attack-synthesis")
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    cnn = taught(root / "data.npz")
    models.save(root / "cnn.safetensors", cnn, training={"epochs": 30})
    recipe = Recipe(epochs=15, batch=32, lr=0.01, noise=0.05)
    model = autoencoders(root / "data.npz", recipe)
    models.save(root / "aae.safetensors", model, training=recorded(recipe))
    models.save(root / "unrecorded.safetensors", model)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = madry_cnn.Config(size=8, channels=1, classes=4, widths=(2, 4), hidden=8)
        models.save(root / "madry.safetensors", models.build(config))
    cnn.fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt-cnn.safetensors", cnn)
    model.decoder.fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt-aae.safetensors", model, training=recorded(recipe))
    return root


@pytest.fixture
def run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """run(options): the arrays that the stage writes, in a folder that holds what `built` does."""
    for file in built.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)

    def call(options: str) -> dict[str, np.ndarray]:
        cli.run("attack-synthesis", shlex.split(f"{options} --out out.npz"))
        return io.load_arrays("out.npz")

    return call


def network(options: Inference | None = None) -> nn.Module:
    """The classifier, or with `options` the inference, that the stage attacks with --seed 2."""
    if options is None:
        return models.load("cnn.safetensors")
    return AnalysisBySynthesis(models.load("aae.safetensors"), options)


INFERENCE = Inference(candidates=20, iterations=5, seed=2)


def test_file_is_what_it_says(run: Stage) -> None:
    found = run(f"{AAE} {MIXED} --offset 4 --shown 2 --bound")
    assert set(found) == GRID | {*PER_IMAGE, *PER_POINT} | SHOWN | EXAMPLES | {"bound", "bound_reason", "config"}
    assert found["attack"].tolist() == ["pgd"] * 3 + ["deepfool"] * 2 + ["ddn", "noise"]
    assert found["norm"].tolist() == ["linf", "linf", "l2", "linf", "linf", "l2", "l2"]
    assert found["eps"].tolist() == [0.1, 0.1, 0.8, 0.05, 0.2, 0.6, 1.0]
    assert [found[name].tolist() for name in ("steps", "restarts")] == [[3, 3, 3, 8, 8, 8, 10], [1, 3, 2, 1, 1, 1, 1]]
    assert found["draws"].tolist() == [2] * 7
    test = load_split("data.npz", "test")
    assert found["labels"].tolist() == test.labels[4:11].tolist()
    assert found["indices"].tolist() == list(range(4, 11))
    shapes = {"robust": (7, 7), "seen": (7, 7), "distance": (7, 7), "natural_logits": (7, 4), "shown_predicted": (7, 2)}
    assert {name: found[name].shape for name in shapes} == shapes
    assert found["shown_adversarial"].shape == (7, 2, 1, 8, 8)
    kinds = {"robust": bool, "natural_correct": bool, "distance": np.float32, "natural_logits": np.float32}
    assert {name: found[name].dtype for name in kinds} == {name: np.dtype(kind) for name, kind in kinds.items()}
    assert found["natural_correct"].tolist() == (found["natural_logits"].argmax(1) == found["labels"]).tolist()
    assert found["shown"].tolist() == np.flatnonzero(found["natural_correct"])[:2].tolist()
    np.testing.assert_array_equal(found["shown_images"], test.images[4:11][found["shown"]])
    config = json.loads(str(found["config"]))
    assert config["trained"]["epochs"] == 15
    assert [config["arch"], config["inference"]["candidates"], config["details"]["c"]] == ["aae", 20, 0.001]


def test_inference_is_that_of_the_models_training(run: Stage) -> None:
    found = run(f"{AAE} {PGD}")
    test = load_split("data.npz", "test", limit=7)
    indices = test.indices.tolist()
    for name, stream in (("natural_correct", "natural"), ("control_correct", "control")):
        logits = synthesis.fresh_logits(network(INFERENCE), test.images, indices, seed=derive(2, stream))
        assert found[name].tolist() == (logits.argmax(1) == test.labels).tolist()
        if stream == "natural":
            np.testing.assert_allclose(found["natural_logits"], logits, rtol=1e-5)
    _, header = io.load_weights("aae.safetensors")
    assert header["training"]["beta"] == INFERENCE.beta
    changed = {"training": {**header["training"], "beta": 9.0, "cost": "mean"}}
    models.save("changed.safetensors", models.load("aae.safetensors"), **changed)
    other = run(f"{AAE} {PGD} --model changed.safetensors")["natural_logits"]
    options = Inference(**{**vars(INFERENCE), "beta": 9.0, "cost": "mean"})
    logits = synthesis.fresh_logits(network(options), test.images, indices, seed=derive(2, "natural"))
    np.testing.assert_allclose(other, logits, rtol=1e-5)


def test_natural_images_that_fresh_inference_gets_wrong_are_errors_at_no_distance(run: Stage) -> None:
    poor = "--inference.candidates 2 --inference.iterations 1 --inference.no-encoder --images 32 --batch 32"
    found = run(f"{AAE} {poor} --attack pgd noise --norm l2 --eps 0.1 --steps 2 --runs 2")
    control = found["natural_correct"] & ~found["control_correct"]
    assert control.any()
    assert not found["robust"][:, control].any()
    assert not found["distance"][:, control].any()
    assert found["seen"][:, control].all()
    assert found["robust"].any()
    test = load_split("data.npz", "test")
    options = Inference(**{**vars(INFERENCE), "candidates": 2, "iterations": 1, "encoder": False})
    logits = synthesis.fresh_logits(
        network(options), test.images, test.indices.tolist(), runs=2, seed=derive(2, "natural")
    )
    np.testing.assert_allclose(found["natural_logits"], logits, rtol=1e-5)


@pytest.mark.parametrize("base", [CNN, AAE, f"{AAE} --inference.no-variational"], ids=["cnn", "aae", "exact"])
def test_outcomes_are_what_they_say(run: Stage, base: str) -> None:
    found = run(f"{base} {MIXED} --images 16 --batch 16 --shown 16")
    right = found["natural_correct"] & found["control_correct"]
    assert right.sum() > 8
    assert not (found["robust"] & ~right).any()
    assert (~found["robust"] & right).any()
    assert found["robust"].any()
    for g, (name, norm, eps) in enumerate(
        zip(*(found[key].tolist() for key in ("attack", "norm", "eps")), strict=True)
    ):
        rows, change = found["shown"], found["shown_adversarial"][g] - found["shown_images"]
        length = np.abs(change).max((1, 2, 3)) if norm == "linf" else np.sqrt(np.square(change).sum((1, 2, 3)))
        finite = np.isfinite(found["distance"][g, rows])
        np.testing.assert_allclose(length[finite], found["distance"][g, rows][finite], atol=1e-5)
        assert not length[~finite].any()
        wrong = found["shown_predicted"][g] != found["labels"][rows]
        if name == "pgd":
            assert (found["distance"][g] <= eps + 1e-6).all()
            assert wrong.tolist() == (~found["robust"][g, rows]).tolist()
        else:
            assert wrong.tolist() == (finite | ~right[rows]).tolist()
            assert found["robust"][g].tolist() == (right & (found["distance"][g] > eps)).tolist()
        if "cnn" in base and name != "deepfool":
            np.testing.assert_array_equal(found["seen"][g], ~found["robust"][g])


def test_attacker_of_a_random_classifier_sees_errors_that_are_none(run: Stage) -> None:
    found = run(f"{AAE} --images 32 --batch 32 --attack noise pgd --norm l2 --eps 1.0 0.5 --steps 40 3 --draws 1")
    false = found["seen"] & found["robust"]
    assert false.any()
    assert not (found["seen"][0] & found["robust"][0] & (found["distance"][0] <= 1.0)).any()


def test_search_is_judged_at_every_radius(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    radii = [0.0, 0.05, 0.1, 0.2, 0.4]
    found = run(f"{AAE} --batch 7 --attack deepfool --norm linf --steps 8 --eps {' '.join(map(str, radii))}")
    assert calls == ["deepfool"]
    assert (found["robust"][1:] <= found["robust"][:-1]).all()
    assert (found["seen"][1:] >= found["seen"][:-1]).all()
    assert found["robust"][0].sum() > found["robust"][-1].sum()
    assert (found["distance"] == found["distance"][0]).all()


def test_shared_runs_are_not_redone(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    found = run(f"{CNN} {MIXED} --batch 7 --steps 2 --restarts 1 3 1 1 3 1 1")
    assert [calls.count(name) for name in ("deepfool", "ddn", "noise")] == [1, 1, 1]
    assert 2 <= calls.count("pgd") <= 4  # three restarts in one norm at most, one in the other
    assert found["restarts"].tolist() == [1, 3, 1, 1, 1, 1, 1]
    assert (found["robust"][1] <= found["robust"][0]).all()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attacks that are run, one name a call."""
    calls: list[str] = []
    real = synthesis.run_attack

    def call(name: str, *args: Any, **options: Any) -> Any:
        calls.append(name)
        return real(name, *args, **options)

    monkeypatch.setattr(synthesis, "run_attack", call)
    return calls


def test_restarts_attack_what_stands(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[int] = []
    real = synthesis.run_attack

    def call(name: str, model: nn.Module, x: Any, *args: Any, **options: Any) -> Any:
        attacked.append(len(x))
        return real(name, model, x, *args, **options)

    monkeypatch.setattr(synthesis, "run_attack", call)
    options = f"{AAE} --images 24 --batch 24 --attack pgd --norm linf --eps 0.12 --steps 2"
    found = run(f"{options} --restarts 1 2 4")
    standing = (found["natural_correct"] & found["control_correct"]).sum()
    assert attacked[:3] == [standing, found["robust"][0].sum(), found["robust"][1].sum()]
    assert found["robust"][0].sum() > found["robust"][2].sum()
    one = run(f"{options} --restarts 1")
    for name in PER_POINT:
        np.testing.assert_array_equal(one[name][0], found[name][0])


@pytest.mark.parametrize("base", [CNN, AAE], ids=["cnn", "aae"])
def test_no_radius_is_the_control(run: Stage, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    found = run(f"{base} --images 16 --attack pgd estimated ddn --norm l2 --eps 0 --steps 3 --restarts 4 --runs 2")
    right = found["natural_correct"] & found["control_correct"]
    np.testing.assert_array_equal(found["robust"], np.tile(right, (3, 1)))
    np.testing.assert_array_equal(found["seen"], ~found["robust"])
    assert not found["distance"][:2].any()
    np.testing.assert_array_equal(found["shown_adversarial"][0], found["shown_images"])
    assert len([name for name in calls if name != "ddn"]) <= 2 * 6


@pytest.mark.parametrize("base", [CNN, AAE], ids=["cnn", "aae"])
def test_batches_and_shards_do_not_matter(run: Stage, base: str) -> None:
    options = f"{base} {EVERY} --restarts 2"
    if base == AAE:
        for name, value in (("attack", "latent-descent"), ("norm", "l2"), ("eps", "1"), ("steps", "6")):
            options = options.replace(f" --{name} ", f" --{name} {value} ", 1)
        options += " --bound --inference.draws 2 --runs 2"
    whole = run(f"{options} --batch 7")
    right = whole["natural_correct"] & whole["control_correct"]
    print(whole["distance"], right, whole["robust"])
    assert (whole["robust"].any(1) & (whole["robust"].sum(1) < right.sum())).sum() > 4  # attacks break some
    single = run(f"{options} --batch 1")
    for name in set(whole) - {"config"}:
        np.testing.assert_array_equal(single[name], whole[name], err_msg=name)
    shards = [run(f"{options} --offset {offset} --images {count}") for offset, count in ((0, 4), (4, 3))]
    axes = {**PER_IMAGE, **PER_POINT, **({"bound": 0, "bound_reason": 0} if base == AAE else {})}
    for name, axis in axes.items():
        merged = np.concatenate([each[name] for each in shards], axis=axis)
        np.testing.assert_array_equal(merged, whole[name], err_msg=name)


def test_interruption_loses_one_batch(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    options = f"{AAE} {MIXED} --bound"
    run(options)
    whole = Path("out.npz").read_bytes()
    Path("out.npz").unlink()
    real, asked = stage.outcome, 0

    def breaking(*args: Any) -> np.ndarray:
        nonlocal asked
        asked += 1
        if asked in (3, 8):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stage, "outcome", breaking)
    before = 3 * 3  # natural images, control and bounds of three batches
    for kept in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            run(options)
        assert len(list(evaluation.FOLDER.rglob("*.npz"))) == before + kept
    assert not Path("out.npz").exists()
    run(options)
    assert Path("out.npz").read_bytes() == whole
    assert not list(evaluation.FOLDER.rglob("*.npz"))


def test_bound_is_that_of_exact_inference(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --bound")
    test = load_split("data.npz", "test", limit=7)
    bound = Bounds(models.load("aae.safetensors"), INFERENCE)(test.images, test.labels)
    np.testing.assert_allclose(found["bound"], bound.eps, rtol=1e-4)
    assert found["bound_reason"].tolist() == list(bound.reasons)
    assert (found["bound"] > 0).any()
    exact = run(f"{AAE} {PGD} --bound --inference.no-variational")
    np.testing.assert_array_equal(exact["bound"], found["bound"])
    np.testing.assert_array_equal(np.isnan(exact["bound"]), ~exact["natural_correct"])


def test_examples_are_the_first_of_their_classes(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --images 3 --inference.iterations 40")
    assert found["example_rows"].tolist() == [found["labels"].tolist().index(k) for k in sorted(set(found["labels"]))]
    np.testing.assert_array_equal(
        found["example_images"], load_split("data.npz", "test").images[found["example_rows"]].numpy()
    )
    assert found["example_reconstructions"].shape == (3, 4, 1, 8, 8)
    distance = np.square(found["example_images"][:, None] - found["example_reconstructions"]).sum((2, 3, 4))
    assert (found["example_losses"] >= distance - 1e-4).all()
    assert (
        found["example_losses"].argmin(1).tolist() == found["natural_logits"][found["example_rows"]].argmax(1).tolist()
    )


def test_what_draws_nothing_averages_nothing(run: Stage) -> None:
    for base in (CNN, f"{AAE} --inference.no-variational"):
        found = run(f"{base} {PGD} --draws 7 --runs 2")
        assert found["draws"].tolist() == [1]
        np.testing.assert_array_equal(found["control_correct"], found["natural_correct"])
    assert not EXAMPLES & set(run(f"{CNN} {PGD}"))


def test_steps_are_the_papers_where_none_are_given(run: Stage) -> None:
    names = ("pgd", "deepfool", "ddn")
    found = run(f"{CNN} --images 2 --attack {' '.join(names)} --norm l2 --eps 0.2")
    assert found["steps"].tolist() == [synthesis.ATTACKS[name].steps for name in names]


def test_details_reach_their_attack(run: Stage) -> None:
    boundary = f"{CNN} --attack boundary --norm l2 --eps 1 --steps 5"
    distances = [run(f"{boundary}{more}")["distance"] for more in ("", " --starts 0", " --details.tries 1")]
    right = np.isfinite(distances[0][0]) & (distances[0][0] > 0)
    assert right.any()
    assert (distances[0] != distances[1]).any()
    assert (distances[0] != distances[2]).any()
    noise = f"{CNN} --images 16 --attack noise --norm l2 --eps 1 --steps 20"
    few, many = (run(f"{noise} --details.directions {count}")["distance"] for count in (1, 5))
    assert (many <= few).all()
    assert (many < few).any()


def test_no_image_shown(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --shown 0")
    assert found["shown_adversarial"].shape == (1, 0, 1, 8, 8)
    assert found["shown_predicted"].shape == (1, 0)


def test_same_command_gives_the_same_file(run: Stage) -> None:
    run(f"{AAE} {MIXED}")
    first = Path("out.npz").read_bytes()
    run(f"{AAE} {MIXED}")
    assert Path("out.npz").read_bytes() == first


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        (CNN, "--attack fgsm", "unknown attack 'fgsm'; known are pgd, deepfool"),
        (CNN, "--attack ddn", "ddn is an attack in l2, not linf"),
        (CNN, "--attack", "attack has 0"),
        (CNN, "--eps", "eps has 0"),
        (
            CNN,
            "--attack pgd ddn --norm linf l2 --eps 0.1 0.2 0.3",
            "belong together, but attack has 2, norm has 2, eps",
        ),
        (CNN, "--steps 1 2 --eps 0.1 0.2 0.3", "steps has 2; give each 3 values, or one"),
        (CNN, "--eps -0.1", "an attack needs eps >= 0"),
        (CNN, "--attack deepfool --eps -0.1", "an attack needs eps >= 0"),
        (CNN, "--restarts 0", "restarts >= 1"),
        (CNN, "--steps 0", "an attack needs steps"),
        (CNN, "--draws 0", "draws >= 1"),
        (CNN, "--follow -1", "an attacker needs follow >= 0"),
        (CNN, "--details.queries 3", "an even number of queries"),
        (CNN, "--batch 0", "batch is 0"),
        (CNN, "--runs 0", "runs 0"),
        (CNN, "--shown -1", "shown -1"),
        (CNN, "--starts -1", "starts -1"),
        (CNN, "--images 33", "data.npz holds 32 test images, not the 33"),
        (CNN, "--data wide.npz", "wide.npz: images are 1x16x16"),
        (AAE, "--data wide.npz", "wide.npz: images are 1x16x16"),
        (CNN, "--data none.npz", "array file not found: none.npz; make it with"),
        (CNN, "--model none.safetensors", "model not found: none.safetensors; make it with"),
        (CNN, "--arch aae", "cnn.safetensors holds a encoder_cnn, not the aae"),
        (CNN, "--bound", "ε* is a bound of autoencoders, but cnn.safetensors holds a encoder_cnn; leave it out"),
        (CNN, "--model madry.safetensors --bound", "madry.safetensors holds a madry_cnn; leave it out"),
        (CNN, "--attack latent-descent", "latent-descent is an attack on autoencoders, but cnn.safetensors"),
        (AAE, "--model unrecorded.safetensors", "does not say with which beta and cost it was trained; make it with"),
        (AAE, "--inference.candidates 0", "inference needs candidates"),
        (CNN, "--model spoilt-cnn.safetensors", "logits are NaN or infinite for 3 of 3 images; train"),
        (AAE, "--model spoilt-aae.safetensors", "are NaN or infinite for"),
        (AAE, "--model spoilt-aae.safetensors --bound", "are NaN or infinite for"),
    ],
)
def test_what_the_user_can_mend(base: str, options: str, message: str, run: Stage) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{base} {PGD} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
