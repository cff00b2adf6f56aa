"""What the stage measured of E-ABS and its rivals, settings in words, and files: shards, damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.io import save_arrays, save_csv
from robustgen.papers.e_abs.loading import CURVE, load_attacks, load_curve
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import BOUND, CORRECT, PER_POINT, AttackStudy, Curve

Altered = Callable[..., AttackStudy]
PER_IMAGE = {
    **dict.fromkeys(("labels", "indices", "natural_logits", *CORRECT, *BOUND), 0),
    **dict.fromkeys(PER_POINT, 1),
}


@pytest.fixture
def study(measured: Measured) -> AttackStudy:
    assert measured.mnist.e_abs is not None
    return measured.mnist.e_abs


def test_attacks_and_radii(study: AttackStudy, measured: Measured) -> None:
    assert study.norms == ["linf", "l2"]
    assert study.main_eps("linf") == 0.1
    assert study.attacks("l2") == ["pgd", "ddn", "cw", "deepfool", "noise", "latent-descent"]
    assert study.attacks("linf") == ["pgd", "deepfool", "noise"]
    assert study.attacks("l2", 99.0) == []
    curve = measured.curve.e_abs
    assert curve is not None
    assert curve.radii("pgd", "l2") == [0.5, 1.5, 3.0, 6.0]
    assert curve.main_eps("l2") == 0.5  # the first in the file
    assert curve.radii("ddn", "l2") == []
    one = curve.at(np.arange(3))
    with pytest.raises(UserError, match=r"'curve-e_abs' has no attack with attack cw, eps 1 .*add it to its"):
        one.point(attack="cw", eps=1)
    with pytest.raises(UserError, match="no such attack in L2 at eps 99"):
        study.worst("l2", 99.0)


def test_an_attack_in_no_norm_has_no_main_radius(altered: Altered, study: AttackStudy) -> None:
    alone = altered(study, norm=["l2"] * study.points)
    assert alone.norms == ["l2"]
    with pytest.raises(UserError, match="no attack in L∞; add one to its options"):
        alone.main_eps("linf")


def test_of_several_points_the_strongest_is_taken(measured: Measured) -> None:
    study = measured.sweeps.restarts
    assert study is not None
    assert study.options(study.point(attack="pgd"))["restarts"] == 50
    assert study.options(study.point(attack="pgd", restarts=20))["restarts"] == 20
    assert study.values("restarts", attack="pgd", norm="linf") == [5, 20, 50]


def test_a_sweep_is_the_largest_set_of_attacks_that_differ_in_one_option(altered: Altered, study: AttackStudy) -> None:
    """All three sweeps in one file, as the quick scale has them: what one varies another has too."""
    draws, restarts = [1, 2, 3, 5, 3, 3, 3, 3, 3], [1, 1, 1, 1, 2, 4, 2, 2, 2]
    steps = [20, 20, 20, 20, 20, 20, 5, 20, 40]
    rows = {name: study.arrays[name][[0] * 9] for name in (*PER_POINT, "attack", "norm", "eps")}
    made = altered(study, draws=draws, restarts=restarts, steps=steps, **rows)
    fixed = {"attack": "pgd", "norm": "linf", "eps": 0.1}
    assert made.swept("draws", **fixed) == {1: 0, 2: 1, 3: 2, 5: 3}
    assert made.swept("restarts", **fixed) == {1: 2, 2: 4, 4: 5}
    assert made.swept("steps", **fixed) == {5: 6, 20: 4, 40: 8}
    assert made.swept("steps", attack="cw") == {}


def test_the_worst_is_never_above_any_attack(altered: Altered, study: AttackStudy) -> None:
    random = np.random.default_rng(0)
    robust = study.natural & (random.random((study.points, len(study.labels))) < 0.6)
    mixed = altered(study, robust=robust)
    for norm in study.norms:
        points = mixed.counted(norm)
        worst = mixed.worst(norm)
        np.testing.assert_array_equal(worst, robust[points].all(0))
        assert all((worst <= mixed.robust(point)).all() for point in points)
        assert (worst <= mixed.natural).all()
        assert (mixed.worst(norm, ours=True) <= worst).all()
    latent = mixed.point(attack="latent-descent", norm="l2")
    assert latent not in mixed.counted("l2")
    assert latent in mixed.counted("l2", ours=True)
    np.testing.assert_array_equal(mixed.worst("l2", ours=True), mixed.worst("l2") & robust[latent])


def test_errors_that_are_not_confirmed_are_of_images_that_are_right(altered: Altered, study: AttackStudy) -> None:
    """By the inference that judges them: what the other one says without attack plays no part."""
    natural, control = np.array([1, 1, 1, 0, 1, 1], bool), np.array([1, 1, 1, 1, 0, 0], bool)
    robust, none = np.array([[1, 0, 1, 0, 0, 1]], bool), np.zeros((1, 6), bool)
    seen, chosen = np.array([[1, 1, 0, 1, 1, 0]], bool), np.array([[0, 1, 0, 1, 0, 1]], bool)
    few = altered(study, natural_correct=natural, control_correct=control, robust=robust, seen=seen, chosen=chosen)
    believed, recurring = few.false_breaks(0), few.by_chance(0)
    assert believed is not None
    assert recurring is not None
    assert (believed.value, believed.n) == (pytest.approx(1 / 3), 3)
    assert (recurring.value, recurring.n) == (pytest.approx(1 / 2), 2)
    assert altered(few, seen=none).false_breaks(0) is None
    assert altered(few, chosen=none).by_chance(0) is None


def test_lengths_of_errors(altered: Altered, study: AttackStudy) -> None:
    """A search's distance is an error whatever the radius; a climb's only where the image was broken."""
    natural, control = np.array([1, 1, 0], bool), np.array([1, 0, 1], bool)  # of which the first decides
    given = {"natural_correct": natural, "control_correct": control, "robust": np.array([[1, 0, 0]] * 2, bool),
             "distance": np.array([[2.0, 1.0, 0.5], [1.5, 1.0, 0.5]])}  # fmt: skip
    two = altered(study, attack=["ddn", "pgd"], norm=["l2", "l2"], eps=[1.5, 1.5], **given)
    np.testing.assert_array_equal(two.errors(0), [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(two.errors(1), [np.inf, 1.0, 0.0])


def test_words(altered: Altered, measured: Measured, study: AttackStudy) -> None:
    words = (
        "PGD, L∞ eps 0.1, 80 steps, best of 5 random starts, EOT 5 samples, latents followed in 5 evaluations; "
        "variational inference from 8000 random candidates and the encoder's, 50 iterations; "
        "errors confirmed by fresh inference; seed 0"
    )
    assert study.method(0) == words
    inference = {**study.config["inference"], "variational": False, "encoder": False}
    exact = altered(study, {"inference": inference, "follow": 0})
    assert exact.method(0) == (
        "PGD, L∞ eps 0.1, 80 steps, best of 5 random starts, full inference each time; "
        "exact inference from 8000 random candidates, 50 iterations; errors confirmed by fresh inference; seed 0"
    )
    assert "confirmed by the mean of 3 fresh inferences" in altered(study, {"runs": 3}).method(0)
    longer = altered(study, {"details": {**study.config["details"], "step": 8.0}})
    assert "best of 5 random starts, steps of 8 times eps / steps, EOT" in longer.method(0)
    assert altered(study, {"details": {"step": 2.5}}).method(0) == words
    cw = study.point(attack="cw", norm="l2")
    assert longer.method(cw) == study.method(cw)  # whose steps are others
    cnn = measured.mnist.cnn
    assert cnn is not None
    points = {attack: cnn.method(cnn.point(attack=attack, norm="l2")) for attack in ("cw", "noise", "deepfool")}
    assert points["cw"] == "CW, L2 eps 1.5, 100 steps, 5 binary searches; seed 0"
    earlier = altered(cnn, {"details": {**cnn.config["details"], "c": 0.1}})
    assert "5 binary searches, the first with c 0.1;" in earlier.method(earlier.point(attack="cw", norm="l2"))
    assert points["noise"] == "noise, L2 eps 1.5, 100 values of σ, 10 draws; seed 0"
    assert points["deepfool"] == "DeepFool, L2 eps 1.5, 100 steps, 10 likeliest classes; seed 0"
    free = measured.gradient_free.study
    assert free is not None
    assert "1 random start, 100 queries a step" in free.method(free.point(attack="estimated"))


def test_models_are_compared_on_common_images(altered: Altered, measured: Measured) -> None:
    e_abs, cnn = measured.mnist.e_abs, measured.mnist.cnn
    assert e_abs is not None
    assert cnn is not None
    made = replace(measured.mnist, e_abs=e_abs.at(np.arange(300)), cnn=cnn.at(np.arange(399, 99, -1)))
    models = made.models
    assert list(models) == ["CNN", "Adv-L∞", "Adv-L2", "ABS", "E-ABS"]
    assert all(np.array_equal(each.indices, np.arange(105, 305)) for each in models.values())
    np.testing.assert_array_equal(models["CNN"].natural, cnn.natural[100:300])
    np.testing.assert_array_equal(models["E-ABS"].robust(0), e_abs.robust(0)[100:300])
    far = altered(e_abs, indices=e_abs.indices + 1000)
    with pytest.raises(UserError, match="share no image"):
        _ = replace(measured.mnist, e_abs=far).models
    assert Comparison().models == {}


def test_kinds_and_who_was_so_attacked(altered: Altered, measured: Measured) -> None:
    made = measured.mnist
    assert made.kinds[0] == "Clean"
    assert [kind for kind in made.kinds if kind.startswith("All")] == ["All L∞", "All L2"]
    assert len(made.kinds) == 11
    assert list(made.correct("L2 latent descent")) == ["ABS", "E-ABS"] == list(made.correct("All L2, with ours"))
    assert made.correct("All L∞, with ours") == {}
    abs_ = made.abs
    assert abs_ is not None
    larger = replace(made, abs=altered(abs_, eps=abs_.arrays["eps"] * 2))
    assert list(larger.correct("All L2")) == ["CNN", "Adv-L∞", "Adv-L2", "E-ABS"]
    assert Comparison().kinds == []
    assert Comparison().main_eps("l2") is None


def test_p_values_are_adjusted_over_the_pairs_of_a_matrix(measured: Measured) -> None:
    raw, adjusted = measured.mnist.raw("All L2"), measured.mnist.tested("All L2")
    assert raw.keys() == adjusted.keys()
    assert len(raw) == 10
    assert all(adjusted[pair] >= raw[pair] for pair in raw)
    least = min(raw, key=raw.__getitem__)
    assert adjusted[least] == pytest.approx(min(1, 10 * raw[least]))
    assert measured.mnist.tested("Clean")["CNN", "E-ABS"] == 1  # both have the same images right
    assert Comparison().tested("Clean") == {}


def test_files_are_read_as_they_were_written(study: AttackStudy, tmp_path: Path) -> None:
    save_arrays(tmp_path / "study.npz", {**study.arrays, "something": np.zeros(3)})
    found = load_attacks(tmp_path, "study")
    assert found.name == "study"
    assert found.has_examples
    for name, values in study.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values)


@pytest.mark.parametrize("folder", ["", "mnist/"])
def test_shards_are_put_together_by_image(altered: Altered, study: AttackStudy, tmp_path: Path, folder: str) -> None:
    parts = (np.arange(200, 400), np.arange(0, 200))
    for shard, rows in enumerate(parts):
        part = {name: study.arrays[name].take(rows, axis) for name, axis in PER_IMAGE.items()}
        part["shown_images"] = study.arrays["shown_images"] + shard * 0.001
        part["example_rows"] = np.array([[2, 3], [1, 3]][shard])
        part |= {name: study.arrays[name][:2] + shard for name in study.arrays if name.startswith("example_")
                 and name != "example_rows"}  # fmt: skip
        config = {"offset": int(rows[0]), "images": 200}
        save_arrays(tmp_path / f"{folder}study.{shard:03}.npz", altered(study, config, **part).arrays)
    found = load_attacks(tmp_path, f"{folder}study")
    for name in PER_IMAGE:
        np.testing.assert_array_equal(found.arrays[name], study.arrays[name])
    # the first images are those of the shard of the first ones, whatever its number
    np.testing.assert_array_equal(found.shown_images, study.shown_images + np.float32(0.001))
    np.testing.assert_array_equal(found.shown_labels, study.shown_labels)
    # of every class the first example: classes 1 and 3 are in the first images, 2 further on
    np.testing.assert_array_equal(found["example_rows"], [1, 202, 3])
    np.testing.assert_array_equal(found["example_losses"][1], study.arrays["example_losses"][0])
    np.testing.assert_array_equal(found["example_losses"][2], study.arrays["example_losses"][1] + 1)


def test_natural_images_alone_are_read_where_they_are_asked_for(
    only: Altered, study: AttackStudy, tmp_path: Path
) -> None:
    save_arrays(tmp_path / "study.npz", only(study, lambda each: np.zeros(len(each.arrays["eps"]), dtype=bool)).arrays)
    found = load_attacks(tmp_path, "study", natural=True).at(np.arange(3))
    np.testing.assert_array_equal(found.natural, study.natural[:3])
    with pytest.raises(UserError, match="no attack or no image in it; give attack-synthesis at least one of each"):
        load_attacks(tmp_path, "study")


def test_what_does_not_belong_together_is_refused(altered: Altered, study: AttackStudy, tmp_path: Path) -> None:
    save_arrays(tmp_path / "study.000.npz", study.arrays)
    save_arrays(tmp_path / "study.001.npz", study.arrays)
    with pytest.raises(UserError, match="occurs twice among its shards"):
        load_attacks(tmp_path, "study")
    other = altered(study, indices=study.indices + 1000)
    without = {name: values for name, values in other.arrays.items() if not name.startswith("bound")}
    save_arrays(tmp_path / "study.001.npz", without)
    with pytest.raises(UserError, match=r"has not the arrays of study\.000\.npz; make the shards again"):
        load_attacks(tmp_path, "study")
    save_arrays(tmp_path / "study.001.npz", altered(other, eps=study.arrays["eps"] * 2).arrays)
    with pytest.raises(UserError, match=r"eps differs from that of study\.000\.npz"):
        load_attacks(tmp_path, "study")


def nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] = np.nan
    return values


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("robust", lambda values: values[:, :-1], "robust has shape"),
        ("natural_logits", lambda values: values[:-1], "natural_logits has shape"),
        ("shown_adversarial", lambda values: values[:, :-1], "shown_adversarial has shape"),
        ("example_losses", lambda values: values[:-1], "example_losses has shape"),
        ("bound", lambda values: values[:-1], "bound has shape"),
        ("natural_logits", nan, "natural_logits holds numbers that are not finite"),
        ("distance", nan, "distance holds numbers that are no distances"),
        ("distance", lambda values: values - 10, "distance holds numbers that are no distances"),
        ("robust", lambda values: values | True, "robust names images that are wrong without attack"),
        ("attack", lambda values: np.full_like(values, "spell"), "attack spell is none of pgd"),
        ("norm", lambda values: np.full_like(values, "l1"), "norm l1 is none of linf, l2"),
    ],
)
def test_damaged_files_are_refused(
    altered: Altered,
    name: str,
    damage: Callable[[np.ndarray], np.ndarray],
    message: str,
    study: AttackStudy,
    tmp_path: Path,
) -> None:
    save_arrays(tmp_path / "study.npz", altered(study, **{name: damage(study.arrays[name])}).arrays)
    with pytest.raises(UserError, match=message):
        load_attacks(tmp_path, "study")


def test_files_without_what_is_needed_are_refused(study: AttackStudy, tmp_path: Path) -> None:
    kept = {name: values for name, values in study.arrays.items() if name not in ("seen", "shown")}
    save_arrays(tmp_path / "study.npz", kept)
    with pytest.raises(UserError, match="holds no array seen, shown; make it with attack-synthesis"):
        load_attacks(tmp_path, "study")
    with pytest.raises(UserError, match=r"not found: .*nothing\.npz"):
        load_attacks(tmp_path, "nothing")


def test_of_equal_checks_the_latest_was_kept() -> None:
    """As training keeps it."""
    curve = Curve("tied", {"accuracy": np.array([0.5, 0.9, 0.9, 0.8]), "epoch": np.array([1, 2, 3, 4])})
    assert (curve.kept("epoch", best=True), curve.kept("epoch", best=False)) == (3, 4)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("models/quick/e-abs/abs.safetensors", "abs"),
        ("models/quick/e-abs/e-abs.safetensors", "e-abs"),
        ("/home/e-abs/models/quick/e-abs/deep/abs.safetensors", "deep/abs"),
        ("/data/e-abs.safetensors", "e-abs"),
        ("abs.safetensors", "abs"),
    ],
)
def test_a_model_is_named_below_the_papers_folder(altered: Altered, study: AttackStudy, model: str, name: str) -> None:
    assert altered(study, {"model": model}).model == name


def test_the_main_point_is_of_the_norms_main_radius(altered: Altered, study: AttackStudy, measured: Measured) -> None:
    assert study.main_point("cw", "l2") == study.point(attack="cw", norm="l2", eps=1.5)
    assert study.main_point("cw", "linf") is None
    restarts = measured.sweeps.restarts
    assert restarts is not None
    assert restarts.main_point("pgd", "linf") == restarts.point(attack="pgd", restarts=50)
    assert restarts.main_point("pgd", "l2") is None  # no attack in that norm
    eps = np.where(study.arrays["attack"] == "pgd", study.arrays["eps"], 99.0)
    assert altered(study, eps=eps).main_point("cw", "l2") is None  # at another radius alone


def test_training_curves(tmp_path: Path) -> None:
    save_csv(tmp_path / "made.csv", ("epoch", *CURVE), [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.8)])
    curve = load_curve(tmp_path, "made")
    assert curve.kept("accuracy", best=True) == 0.9
    assert curve.kept("accuracy", best=False) == 0.8
    save_csv(tmp_path / "empty.csv", CURVE, [])
    save_csv(tmp_path / "other.csv", ("epoch", "loss"), [(1, 2)])
    save_csv(tmp_path / "nan.csv", CURVE, [(float("nan"),)])
    for name, message in (("empty", "it has no rows"), ("other", "not a training curve"), ("nan", "not finite")):
        with pytest.raises(UserError, match=message):
            load_curve(tmp_path, name)
    with pytest.raises(UserError, match=r"training curve not found: .*nothing\.csv"):
        load_curve(tmp_path, "nothing")


def test_bounded_models_are_told_once_by_file(measured: Measured) -> None:
    found = [(each.paper, each.name, each.assumed) for each in measured.bounded]
    papers = [(paper, *model) for paper in measured.tables for model in (("ABS", True), ("E-ABS", False))]
    assert found == [*papers, ("", "AD-ABS", True)]
    same = replace(measured, ablation=replace(measured.ablation, abs=measured.svhn.abs, adv=measured.svhn.e_abs))
    assert [(each.paper, each.name, each.assumed) for each in same.bounded] == found
    alone = replace(same, svhn=Comparison())
    assert [each.name for each in alone.bounded if not each.paper] == ["ABS", "AD-ABS", "ADV-ABS (E-ABS)"]
