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
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import (
    ScoreDefense,
    load_certification,
    load_corrupted,
    load_score_defense,
    load_scores,
)
from robustgen.papers.adp.words import attack_words, defence_words
from robustgen.papers.studies import PER_IMAGE, PER_POINT

Study = Callable[..., ScoreDefense]
Write = Callable[[Measured, Path], None]


@pytest.fixture
def written(right: Measured, tmp_path: Path, write_scale: Write) -> Path:
    write_scale(right, tmp_path)
    return tmp_path


def test_studies_come_back_from_their_files(right: Measured, written: Path) -> None:
    assert right.scores is not None
    assert right.certified is not None
    main = load_score_defense(written / "defense", "main")
    for name in (*PER_IMAGE, *PER_POINT, "attack", "eps", "eot", "purification_steps"):
        np.testing.assert_array_equal(main.arrays[name], right.attacks[0].arrays[name], err_msg=name)
    assert main.sigma == 0.25
    assert main.attacks == ["bpda", "joint-score", "joint-full"]
    assert main.method(1) == right.attacks[0].method(1)
    scores = load_scores(written / "scores", "norms")
    np.testing.assert_array_equal(scores["norm_natural"], right.scores["norm_natural"])
    assert not scores.has("norm_natural", "nothing")
    certified = load_certification(written / "certification", "certified")
    np.testing.assert_array_equal(certified.radii(0.12, "certify"), right.certified.radii(0.12, "certify"))
    corrupted = load_corrupted(written / "corruptions", "adp")
    assert corrupted.sigmas == [0, 0.1, 0.25]


def test_shards_put_together_equal_the_whole(right: Measured, tmp_path: Path) -> None:
    arrays = right.attacks[0].arrays
    for number, rows in enumerate((np.arange(200, 300), np.arange(200))):
        part = {name: array[..., rows] if name in (*PER_IMAGE, *PER_POINT) else array for name, array in arrays.items()}
        config = {**json.loads(str(arrays["config"])), "offset": number}
        save_arrays(tmp_path / f"main.{number:03d}.npz", {**part, "config": np.array(json.dumps(config))})
    whole = load_score_defense(tmp_path, "main")
    for name in (*PER_IMAGE, *PER_POINT):
        np.testing.assert_array_equal(whole.arrays[name], arrays[name], err_msg=name)
    assert whole.sigma == 0.25
    save_arrays(tmp_path / "main.001.npz", {**load_arrays(tmp_path / "main.001.npz"), "sigma": np.array(0.3)})
    with pytest.raises(UserError, match=r"main\.001\.npz: sigma differs from that of main\.000\.npz"):
        load_score_defense(tmp_path, "main")


def test_certificates_come_whole_or_in_shards(right: Measured, tmp_path: Path) -> None:
    assert right.certified is not None
    arrays = right.certified.arrays
    for number, rows in enumerate((np.arange(200, 300), np.arange(200))):
        part = {"labels": arrays["labels"][rows], "indices": arrays["indices"][rows]}
        part |= {name: arrays[name][:, rows] for name in ("counts", "selection_counts")}
        config = {**right.certified.config, "offset": number}
        parts = {**part, "sigmas": arrays["sigmas"], "config": np.array(json.dumps(config))}
        save_arrays(tmp_path / f"adp.{number:03d}.npz", parts)
    whole = load_certification(tmp_path, "adp")
    for name in ("labels", "indices", "counts", "selection_counts", "sigmas"):
        np.testing.assert_array_equal(whole.arrays[name], arrays[name], err_msg=name)
    other = {**right.certified.config, "samples": 7}
    save_arrays(
        tmp_path / "adp.001.npz", {**load_arrays(tmp_path / "adp.001.npz"), "config": np.array(json.dumps(other))}
    )
    with pytest.raises(UserError, match=r"adp\.001\.npz: option samples differs"):
        load_certification(tmp_path, "adp")
    save_arrays(tmp_path / "adp.npz", arrays)
    with pytest.raises(UserError, match="stands beside its own shards"):
        load_certification(tmp_path, "adp")


def test_a_certificates_cap_is_reached_where_all_copies_agree(right: Measured) -> None:
    assert right.certified is not None
    assert right.certified.cap(0.12, "point") == pytest.approx(2.5758 * 0.12, abs=1e-4)  # the paper's n = 100
    assert 0 < right.certified.cap(0.12, "certify") < right.certified.cap(0.12, "point")


def test_the_best_fixed_step_has_the_most_of_both_accuracies(right: Measured) -> None:
    assert right.scores is not None
    assert right.scores.tuned
    assert right.scores.best_step == 0.1
    quiet = right.deterministic[0]
    assert right.step_words(quiet) == ""  # its steps are adaptive
    assert replace(right, scores=None).step_words(quiet) == ""


@pytest.mark.parametrize(
    ("load", "folder", "name", "array"),
    [
        (load_score_defense, "defense", "main", "sigma"),
        (load_certification, "certification", "certified", "counts"),
        (load_corrupted, "corruptions", "adp", "detection"),
        (load_corrupted, "corruptions", "adp", "source"),
    ],
)
def test_a_file_without_an_array_is_refused(
    load: Callable[..., Any], folder: str, name: str, array: str, written: Path
) -> None:
    path = written / folder / f"{name}.npz"
    arrays = load_arrays(path)
    del arrays[array]
    save_arrays(path, arrays)
    with pytest.raises(UserError, match=f"holds no array {array}"):
        load(written / folder, name)


def test_arrays_that_do_not_fit_are_refused(written: Path) -> None:
    for load, path, name, axis in (
        (load_certification, "certification/certified", "counts", 1),
        (load_corrupted, "corruptions/adp", "correct", 3),
        (load_score_defense, "defense/main", "broken", 1),
    ):
        arrays = load_arrays(written / f"{path}.npz")
        save_arrays(written / f"{path}.npz", {**arrays, name: np.delete(arrays[name], 0, axis)})
        with pytest.raises(UserError, match=f"{name} has shape .* where .* is needed"):
            load(written / Path(path).parent, Path(path).name)


def test_numbers_that_are_not_finite_are_refused(written: Path) -> None:
    arrays = load_arrays(written / "scores/norms.npz")
    arrays["norm_adversarial"][3] = np.nan
    save_arrays(written / "scores/norms.npz", arrays)
    with pytest.raises(UserError, match="norm_adversarial holds numbers that are not finite"):
        load_scores(written / "scores", "norms")


def test_an_unknown_attack_is_named(written: Path) -> None:
    arrays = load_arrays(written / "defense/eot.npz")
    save_arrays(written / "defense/eot.npz", {**arrays, "attack": np.array(["square"] * 4)})
    with pytest.raises(UserError, match="defence study 'eot': attack square is none of full, classifier, bpda"):
        load_score_defense(written / "defense", "eot")


def test_the_first_study_with_an_attack_says_what_it_does(right: Measured, study: Study) -> None:
    other = study("other", [("bpda", 10, 0.1, 15, 0.9, 0.1), ("apgd", 10, 0.1, 15, 0.9, 0.2)])
    for order, name in (((other, *right.attacks), "other"), ((*right.attacks, other), "main")):
        found = replace(right, attacks=order).against("bpda")
        assert found is not None
        assert found.study.name == name
    assert right.against("apgd", noise=False) is None
    blind = right.against("classifier")
    assert blind is not None
    assert blind.study.name == "blind"
    main = study("main", [("classifier", 10, 0.1, 15, 0.9, 0.8)])
    among = replace(right, blind=None, attacks=(main,)).against("classifier")
    assert among is not None
    assert among.study.name == "main"


def test_the_radius_is_the_only_positive_one(right: Measured, bare: Measured, study: Study) -> None:
    assert right.eps == 0.1
    assert replace(bare, raw=right.raw).eps == 0.1
    two = study("two", [("bpda", 10, eps, 15, 0.9, 0.5) for eps in (0.1, 0.2)])
    with pytest.raises(UserError, match=r"'two' must hold exactly one positive L∞ radius.*not 0\.1, 0\.2"):
        _ = replace(bare, attacks=(two,)).eps
    with pytest.raises(UserError, match="--attacks"):
        _ = bare.eps


def test_the_control_is_among_the_attacks_where_it_has_no_study(right: Measured, study: Study) -> None:
    zero = study("zero", [("bpda", 10, 0.0, 15, 0.9, 0.9)])
    for found, name in ((replace(right, control_of=zero), "zero"), (replace(right, control_of=None), "main")):
        assert found.control is not None
        assert found.control.study.name == name
    assert replace(right, control_of=None, attacks=right.attacks[1:]).control is None


def test_radii_count_only_where_an_image_is_right(right: Measured) -> None:
    assert right.certified is not None
    for kind in ("certify", "point", "renyi"):
        radii = right.certified.radii(0.12, kind)
        assert (radii[:270] > 0).all()
        assert (radii[270:] == 0).all()
    assert right.certified.radii(0.12, "certify").mean() < right.certified.radii(0.12, "point").mean()
    with pytest.raises(UserError, match=r"certification 'certified' has no sigma 0\.5"):
        right.certified.radii(0.5, "certify")


def test_noise_levels_of_the_corruptions(right: Measured, bare: Measured) -> None:
    assert right.noise_levels() == (0.25, 0.1)
    assert bare.noise_levels() == (None, None)
    assert replace(right, attacks=()).noise_levels() == (0.25, 0.1)  # the largest
    assert right.small is not None
    assert replace(right, attacks=(right.small,)).noise_levels() == (0.1, None)
    plain, detecting = right.corruptions(0.25), right.corruptions(0.25, detection=True)
    assert plain is not None
    assert detecting is not None
    assert (plain.row, detecting.row) == (0, 1)
    assert right.corruptions(0.1, detection=True) is None
    assert right.corruptions(None) is None


def test_attacks_in_words(right: Measured) -> None:
    config = right.attacks[0].config
    point = {"attack": "bpda", "purification_steps": 10, "norm": "linf", "eps": 8 / 255, "eot": 15}
    assert attack_words(config, point, 0.25) == (
        "BPDA, L∞ eps 8/255, step 2/255, 40 updates, 1 random start, EOT 15 draws (mean of their losses' gradients), "
        "predictions by 10 draws, breaks confirmed by as many fresh ones, ADP of σ 0.25, T 10, λ 0.05, δ 1e-05, seed 3"
    )
    quiet = attack_words(config, {**point, "attack": "spsa"}, 0.0)
    assert "EOT" not in quiet
    assert "fresh" not in quiet
    assert "1280 queries an update of 1 draw each" in quiet
    assert "∇L at x" in attack_words({**config, "at": "image"}, {**point, "attack": "joint-score"}, 0.25)
    assert "step 16/255 at first" in attack_words(config, {**point, "attack": "apgd"}, 0.25)
    assert "step" not in attack_words(config, {**point, "eps": 0.0}, 0.25)
    assert "fresh" in attack_words({**config, "random": True}, point, 0.0)  # Langevin noise alone


def test_defences_in_words() -> None:
    fixed = {"defense": {"step": 0.05, "draws": 10}}
    assert defence_words(fixed, 0.0, 4) == "ADP of σ 0, T 4, fixed step α 0.05"
    released = {"defense": {"fidelity": "released", "draws": 10, "lam": 0.05}, "score_arch": "ncsnv2"}
    assert "δ 0.001, the released code's choices" in defence_words(released, 0.25, 10)
    langevin = {"defense": {"updates": "langevin", "draws": 1, "temperature": 0.5}, "score_arch": "nijkamp"}
    assert defence_words(langevin, 0.0, 100) == (
        "purification by nijkamp of σ 0, T 100, λ 0.05, δ 1e-05, Langevin updates of temperature 0.5 (Eq. 6: 1)"
    )
    assert defence_words(fixed, 0.25, 4, 10) == "ADP of σ 0.25, T 4, S 10, fixed step α 0.05"
