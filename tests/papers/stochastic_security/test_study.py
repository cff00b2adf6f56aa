from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.papers.langevin import Defense, load_defense, load_purification
from robustgen.papers.settings import blind_words
from robustgen.papers.stochastic_security.study import Measured, load_dynamics
from robustgen.papers.studies import PER_IMAGE, PER_POINT, shared

Point = Callable[..., Defense]


def shard(arrays: dict[str, np.ndarray], rows: Any, **options: Any) -> dict[str, np.ndarray]:
    """Some of the images of a defence study, with some options of its own."""
    part = {name: values[..., rows] if name in (*PER_IMAGE, *PER_POINT) else values for name, values in arrays.items()}
    config = json.loads(str(arrays["config"])) | options
    return {**part, "config": np.array(json.dumps(config))}


@pytest.fixture
def folder(right: Measured, tmp_path: Path) -> Callable[..., Path]:
    """folder(rows of each shard, options of the second): the folder of a study `main` in shards."""

    def save(*parts: Any, **options: Any) -> Path:
        assert right.main is not None
        for number, rows in enumerate(parts):
            given = {
                "offset": int(np.min(rows)),
                "images": len(rows),
                "out": f"{number}",
                **(options if number else {}),
            }
            save_arrays(tmp_path / f"main.{number:03d}.npz", shard(right.main.arrays, rows, **given))
        return tmp_path

    return save


def test_shards_put_together_equal_the_whole(right: Measured, folder: Callable[..., Path]) -> None:
    assert right.main is not None
    loaded = load_defense(folder(np.arange(250, 400), np.arange(100), np.arange(100, 250)), "main")
    for name in (*PER_IMAGE, *PER_POINT, "eps", "norm", "draws", "verify", "langevin_steps"):
        np.testing.assert_array_equal(loaded.arrays[name], right.main.arrays[name], err_msg=name)
    assert loaded.method(1) == right.main.method(1)


def test_overlapping_shards_are_refused(folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"main\.000\.npz: image 104 occurs twice among its shards"):
        load_defense(folder(np.arange(100), np.arange(99, 200)), "main")


def test_shards_of_other_evaluations_are_refused(folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"main\.001\.npz: option restarts differs from that of main\.000\.npz"):
        load_defense(folder(np.arange(10), np.arange(10, 20), restarts=5), "main")


def test_shards_with_an_option_less_are_refused(folder: Callable[..., Path]) -> None:
    root = folder(np.arange(10), np.arange(10, 20))
    arrays = load_arrays(root / "main.000.npz")
    save_arrays(root / "main.000.npz", shard(arrays, np.arange(10), eta=0.5))
    with pytest.raises(UserError, match="option eta differs"):
        load_defense(root, "main")


def test_shards_of_another_grid_are_refused(folder: Callable[..., Path]) -> None:
    root = folder(np.arange(10), np.arange(10, 20))
    arrays = load_arrays(root / "main.001.npz")
    save_arrays(root / "main.001.npz", {**arrays, "eps": arrays["eps"] + 0.1})
    with pytest.raises(UserError, match=r"main\.001\.npz: eps differs .* one grid"):
        load_defense(root, "main")


def test_a_whole_study_beside_shards_is_refused(folder: Callable[..., Path]) -> None:
    root = folder(np.arange(10))
    assert len(load_defense(root, "main").labels) == 10
    save_arrays(root / "main.npz", load_arrays(root / "main.000.npz"))
    with pytest.raises(UserError, match=r"main\.npz stands beside its own shards \(main\.000\.npz"):
        load_defense(root, "main")


def test_names_that_only_begin_alike_are_no_shards(right: Measured, written: Path) -> None:
    assert right.linf is not None
    save_arrays(written / "defense/linf.extra.npz", {"x": np.zeros(1)})
    np.testing.assert_array_equal(
        load_defense(written / "defense", "linf").arrays["broken"], right.linf.arrays["broken"]
    )


def test_studies_come_back_from_their_files(right: Measured, written: Path) -> None:
    assert right.ours is not None
    assert right.dynamics is not None
    ours = load_purification(written / "purification", "convergent")
    np.testing.assert_array_equal(ours.draws, right.ours.draws)
    assert ours.method(100, attacked=True) == right.ours.method(100, attacked=True)
    sampled = load_dynamics(written / "dynamics", "dynamics")
    np.testing.assert_array_equal(sampled["lyapunov"], right.dynamics["lyapunov"])
    assert sampled.config["fid_images"] == 300
    assert not sampled.has("lyapunov", "nothing")


@pytest.mark.parametrize(
    ("load", "kind"), [(load_purification, "purification"), (load_defense, "defense"), (load_dynamics, "dynamics")]
)
def test_a_missing_study_says_how_to_make_it(load: Callable[..., Any], kind: str, written: Path) -> None:
    with pytest.raises(UserError, match=rf"array file not found: .*{kind}/none\.npz; make it with"):
        load(written / kind, "none")


@pytest.mark.parametrize(
    ("load", "path", "name"),
    [
        (load_purification, "purification/convergent", "natural_draws"),
        (load_defense, "defense/main", "broken_step"),
    ],
)
def test_a_missing_array_is_named(load: Callable[..., Any], path: str, name: str, written: Path) -> None:
    file = written / f"{path}.npz"
    save_arrays(file, {key: values for key, values in load_arrays(file).items() if key != name})
    with pytest.raises(UserError, match=f"holds no array {name}"):
        load(file.parent, file.stem)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (
            "purification/convergent",
            {"steps": np.array([0, 10])},
            r"natural_logits has shape \(3, 400\) where \(2, 400",
        ),
        ("purification/convergent", {"natural_draws": np.zeros((3, 4, 4))}, r"natural_draws has shape \(3,\)"),
        ("purification/convergent", {"natural_draws": np.full((400, 4, 4), np.nan)}, "numbers that are not finite"),
        ("defense/main", {"eps": np.array([0.1])}, r"langevin_steps has shape \(2,\) where \(1,\)"),
        ("defense/main", {"broken": np.zeros((2, 9), bool)}, r"broken has shape \(2, 9\) where \(2, 400\)"),
        ("defense/main", {"norm": np.array(["linf", "l1"])}, "norm l1 is none of linf, l2"),
        ("dynamics/dynamics", {"etas": np.array([np.inf])}, "etas holds numbers that are not finite"),
    ],
)
def test_a_malformed_study_is_named_with_its_fault(
    path: str, change: dict[str, np.ndarray], message: str, written: Path
) -> None:
    file = written / f"{path}.npz"
    save_arrays(file, {**load_arrays(file), **change})
    load: Callable[..., Any] = {"purification": load_purification, "defense": load_defense, "dynamics": load_dynamics}[
        path.split("/")[0]
    ]
    with pytest.raises(UserError, match=message):
        load(file.parent, file.stem)


def test_accuracy_by_steps(right: Measured) -> None:
    assert right.ours is not None
    assert right.ours.correct(100, attacked=False).mean() == 0.9
    assert right.ours.correct(100, attacked=True).mean() == 0.7
    assert not right.ours.correct(0, attacked=True).any()
    with pytest.raises(UserError, match=r"'convergent' has no images after 7 Langevin steps \(it has 0, 10, 100\)"):
        right.ours.correct(7, attacked=True)


def test_grid_points_are_found_by_their_options(point: Point) -> None:
    study = point(
        "s",
        [
            (100, "linf", 8 / 255, 4, 16, 1, 0.5),
            (100, "linf", 8 / 255, 8, 16, 1, 0.4),
            (100, "linf", 8 / 255, 8, 2, 1, 0.3),
            (100, "l2", 0.5, 8, 16, 1, 0.2),
        ],
    )
    assert study.point(norm="linf") == 1
    assert study.point(norm="linf", draws=4) == 0
    assert study.point(norm="l2") == 3
    assert study.values("eps") == [8 / 255, 0.5]
    assert study.values("draws", norm="linf", verify=16) == [4, 8]
    assert study.has(eps=np.float32(8 / 255))
    assert not study.has(norm="l2", eps=8 / 255)
    with pytest.raises(
        UserError, match=r"has no grid point with norm l2, draws 4 \(it has norm l2, linf; draws 4, 8\)"
    ):
        study.point(norm="l2", draws=4)


def test_zero_radius_is_no_small_radius(point: Point) -> None:
    study = point("s", [(1, "linf", 0.0, 1, 1, 1, 1), (1, "linf", 1e-9, 1, 1, 1, 1)])
    assert study.point(eps=0.0) == 0


def test_robust_is_right_and_unbroken(point: Point) -> None:
    study = point("s", [(100, "linf", 0.1, 4, 16, 0.9, 0.25)])
    assert study.natural(0).sum() == 18
    assert study.robust(0).sum() == 5
    assert study.broken(0).sum() == 13


def test_updates_count_through_restarts(point: Point) -> None:
    study = point("s", [(100, "linf", 0.1, 4, 16, 1, 0)], n=4, restarts=3)
    study.arrays["broken"][0, 3] = False
    study.arrays["broken_step"][0] = [0, 5, 20, -1]
    study.arrays["broken_restart"][0] = [0, 1, 2, -1]
    assert study.updates_to_break(0).tolist() == [0, 25, 60, -1]


def test_images_are_matched_by_index(point: Point) -> None:
    a, b = point("a", [(1, "linf", 0.1, 1, 1, 1, 1)]), point("b", [(1, "linf", 0.1, 1, 1, 1, 1)])
    b.arrays["indices"] = np.arange(20)[::-1] + 15  # a has 5..24, so 15..24 are shared
    b.arrays["labels"] = b.arrays["indices"] % 7
    a.arrays["labels"] = a.arrays["indices"] % 7
    rows, others = shared(a, b)
    np.testing.assert_array_equal(a.indices[rows], b.indices[others])
    assert sorted(a.indices[rows]) == list(range(15, 25))
    b.arrays["labels"] = b.arrays["labels"] + 1
    with pytest.raises(UserError, match="'a' and 'b' give one image different labels"):
        shared(a, b)
    b.arrays["indices"] = np.arange(20) + 100
    with pytest.raises(UserError, match="'a' and 'b' share no image"):
        shared(a, b)


def test_the_tables_radius(right: Measured, bare: Measured, point: Point) -> None:
    assert right.eps == 0.1
    assert replace(right, main=None).eps == 0.1
    assert replace(right, steps_ours=None).eps == 0.1
    assert replace(right, main=right.linf).eps == 0.1  # of several, that of the sweep over Langevin steps
    with pytest.raises(UserError, match="no defence study says the tables' radius"):
        _ = bare.eps
    two = point("two", [(100, "linf", 0.1, 4, 16, 1, 1), (100, "linf", 4 / 255, 4, 16, 1, 1)])
    with pytest.raises(UserError, match=r"'two' must hold exactly one positive L∞ radius, .* not 4/255, 0\.1"):
        _ = replace(bare, main=two).eps


@pytest.mark.parametrize(
    ("point_values", "options", "text"),
    [
        (
            (1500, "linf", 8 / 255, 15, 150, 1, 1),
            {"steps": 50, "restarts": 5, "tau": 0.01},
            (
                "BPDA+EOT, L∞ eps 8/255, step 2/255, 50 updates, 5 random starts, H_adv 15, breaks confirmed with "
                "H_def 150 fresh draws, 1500 Langevin steps, τ 0.01, mean of logits, seed 3"
            ),
        ),
        (
            (1, "l2", 1.0, 4, 16, 1, 1),
            {"gradient": "full", "average": "log_softmax"},
            (
                "PGD on the full gradient, EOT, L2 eps 1, step 0.25, 20 updates, 1 random start, H_adv 4, breaks "
                "confirmed with H_def 16 fresh draws, 1 Langevin step, τ 0.05, mean of log-softmax, seed 3, through a "
                "piecewise linear energy the exact gradient is that of BPDA, as the Hessian is 0 almost everywhere"
            ),
        ),
        ((0, "linf", 0.1, 1, 1, 1, 1), {}, "PGD, L∞ eps 0.1, step 0.025, 20 updates, 1 random start, seed 3"),
    ],
)
def test_attacks_in_words(point: Point, point_values: tuple[Any, ...], options: dict[str, Any], text: str) -> None:
    assert point("s", [point_values], **options).method(0) == text


def test_blind_attack_in_words(right: Measured) -> None:
    assert right.ours is not None
    attack = "PGD on the base classifier, L∞ eps 0.1, step 0.02, 7 updates"
    defence = "100 Langevin steps, H 16, τ 0.05, mean of logits, seed 3"
    assert right.ours.method(0, attacked=False) == "natural images"
    assert right.ours.method(0, attacked=True) == attack
    assert right.ours.method(100, attacked=False) == f"natural images, {defence}"
    assert right.ours.method(100, attacked=True) == f"{attack}, {defence}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"ebm_arch": "igebm", "ebm_config": {"step": 40.0, "marginal": "sampler"}},
            "step 40, marginal: the class of least energy, which fixes the label, τ 0.05",
        ),
        (
            {"ebm_arch": "igebm", "ebm_config": {"step": 40.0, "marginal": "energy"}, "precision": "bfloat16"},
            "step 40, marginal over classes, precision bfloat16, τ 0.05",
        ),
        ({"ebm_arch": "jem", "ebm_config": {"step": 2.0}}, "H 4, step 2, τ 0.05"),
        ({"ebm_arch": "nijkamp", "ebm_config": {"step": 2.0}}, "H 4, τ 0.05"),
    ],
)
def test_samplers_in_words(options: dict[str, Any], words: str) -> None:
    assert words in blind_words({"tau": 0.05, "seed": 0, **options}, 10, draws=4, attacked=False)


def test_the_blind_attacks_norm_in_words() -> None:
    options = {"attack": {"norm": "l2", "eps": 1.0}, "seed": 0}
    assert blind_words(options, 0, draws=1, attacked=True) == "PGD on the base classifier, L2 eps 1"


def test_settings_that_grid_points_share(point: Point) -> None:
    study = point("s", [(100, "linf", 0.1, 4, 16, 1, 1), (50, "linf", 0.1, 4, 8, 1, 1)])
    assert study.settings([0, 1]) == "N 20, step 0.25 eps, H_adv 4, n 20"
    assert study.settings([0]) == "N 20, step 0.25 eps, H_adv 4, H_def 16, K 100, n 20"
