from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import cli, io, models
from robustgen.attacks.ball import ball_of
from robustgen.attacks.eot import EotAttack, Outcome
from robustgen.attacks.registry import EOT_ATTACKS
from robustgen.data import load_split
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.stages import defend_score, evaluation

MODELS = "--classifier classifier.safetensors --score score.safetensors"
COMMON = "--data data.npz --images 6 --steps 2 --batch 4 --seed 5 --defense.steps 2"
BASE = f"{MODELS} {COMMON} --queries 4"
POINT = "--attacks bpda --linf 0.3 --eot 2 --verify 3"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds a data file with the labels its classifier gives, and models that purify or cannot."""
    folder = tmp_path_factory.mktemp("defend-score")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        network("classifier", arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
        network("score", arch="ncsnv2", width=2, levels=4, sigma_first=2)
        network("ebm", arch="nijkamp", width=2, tau=0.05)
        network("wide", arch="ncsnv2", width=2, levels=4, sigma_first=2, size=16)
        for name in ("score", "classifier"):  # as a training that diverged would leave them
            lost = models.load(f"{name}.safetensors")
            with torch.no_grad():
                next(lost.parameters()).fill_(float("nan"))
            models.save(f"lost-{name}.safetensors", lost)
        relabel(write_data(Path("data.npz")))
        write_data(Path("wide.npz"), size=16)
    return folder


@pytest.fixture
def run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, np.ndarray]]:
    """run(options): the stage in a copy of that folder; what it wrote to out.npz."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def once(options: str) -> dict[str, np.ndarray]:
        cli.run("defend-score", shlex.split(f"{options} --out out.npz"))
        return io.load_arrays("out.npz")

    return once


def network(name: str, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        models.save(f"{name}.safetensors", models.build(config))


def relabel(path: Path) -> None:
    """Give the test images the labels that the classifier gives them, but the first another one."""
    arrays = io.load_arrays(path)
    with torch.no_grad():
        labels = models.load("classifier.safetensors")(load_split(path, "test").images).argmax(1).numpy()
    labels[0] = (labels[0] + 1) % 4
    io.save_arrays(path, {**arrays, "test_labels": labels})


def test_file_is_what_it_says(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    names = list(EOT_ATTACKS)
    small = "--images 3 --offset 4 --steps 1 --defense.steps 1"
    found = run(f"{BASE} --attacks {' '.join(names)} --linf 3/10 --l2 0.9 --eot 2 --verify 3 {small}")
    assert found["attack"].tolist() == [name for name in names for _ in range(2)]
    assert found["norm"].tolist() == ["linf", "l2"] * 7
    assert found["eps"].tolist() == [0.3, 0.9] * 7
    assert found["eps"].dtype == np.float64
    for name, value in {"purification_steps": 1, "eot": 2}.items():
        assert found[name].tolist() == [value] * 14, name
        assert found[name].dtype == np.int64, name
    images = load_split("data.npz", "test")
    assert found["indices"].tolist() == list(range(4, 7))
    assert found["labels"].tolist() == images.labels[4:7].tolist()
    kinds = {"natural_correct": bool, "broken": bool} | dict.fromkeys(
        ("broken_step", "broken_restart", "checks"), np.int64
    )
    for name, kind in kinds.items():
        assert found[name].shape == (14, 3), name
        assert found[name].dtype == kind, name
    assert found["adversarial"].dtype == np.float32
    for norm, eps, states in zip(found["norm"], found["eps"], found["adversarial"], strict=True):
        distance = ball_of(str(norm), float(eps)).distance(torch.from_numpy(states), images.images[4:7])
        assert float(distance.max()) <= eps + 1e-5
    assert not (found["broken"] & ~found["natural_correct"]).any()
    assert (found["natural_correct"] == found["natural_correct"][0]).all()  # one verdict for all attacks
    config = json.loads(str(found["config"]))
    assert float(found["sigma"]) == adp.sigma_of(load_split("data.npz", "train").images) == config["sigma"]
    assert config["defense"]["sigma"] is None
    assert config["random"] is True
    assert config["attacks"] == names
    assert config["score_config"]["width"] == 2


def test_attacks_break_and_the_control_does_not(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --attacks classifier bpda --linf 0 0.9 --eot 2 --verify 3 --defense.sigma 0.02 --steps 4")
    assert found["natural_correct"][0].sum() >= 4
    assert not found["broken"][found["eps"] == 0].any()
    assert (found["broken"][found["eps"] == 0.9].sum(1) >= 1).all()


def test_natural_images_are_judged_once_a_defence(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    check = EotAttack.large_sample

    def counted(self: EotAttack, x: torch.Tensor, streams: Any) -> torch.Tensor:
        asked.append((len(x), self.options.verify))
        return check(self, x, streams)

    monkeypatch.setattr(EotAttack, "large_sample", counted)
    steps = "--purification-steps 0 2 --steps 0 --images 3"
    found = run(f"{BASE} {steps} --attacks bpda full joint-full --linf 0 --eot 2 3 --verify 3 --defense.sigma 0.1")
    assert found["purification_steps"].tolist() == [0, 0, 2, 2] * 3
    assert found["eot"].tolist() == [2, 3] * 6
    assert not found["natural_correct"][:, 0].any()
    assert sum(n for n, _ in asked) == 2 * 3 + found["checks"].sum()
    assert {verify for _, verify in asked} == {3}


def test_deterministic_defence_is_asked_once(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[int] = set()
    purify = adp.ADP.purify_draws

    def counted(self: adp.ADP, x: torch.Tensor, draws: int, streams: Any) -> torch.Tensor:
        asked.add(draws)
        return purify(self, x, draws, streams)

    monkeypatch.setattr(adp.ADP, "purify_draws", counted)
    small = "--images 3 --steps 1 --defense.sigma 0 --defense.step 0.05"
    options = f"--attacks bpda spsa --linf 0.3 --eot 5 --verify 7 --query-draws 2 {small}"
    found = run(f"{BASE} {options}")
    assert asked == {1}
    assert found["eot"].tolist() == [1, 1]
    assert float(found["sigma"]) == 0
    config = json.loads(str(found["config"]))
    assert (config["random"], config["verified"], config["verify"]) == (False, 1, 7)
    np.testing.assert_array_equal(found["checks"] > 0, found["broken"])  # what is certain is confirmed at once
    asked.clear()
    run(f"{BASE} {options} --defense.updates langevin")
    assert asked == {2, 5, 7}


def test_judges_by_the_draws_of_the_defence_unless_told(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[int] = set()
    check = EotAttack.large_sample

    def counted(self: EotAttack, x: torch.Tensor, streams: Any) -> torch.Tensor:
        asked.add(self.options.verify)
        return check(self, x, streams)

    monkeypatch.setattr(EotAttack, "large_sample", counted)
    own = f"{BASE} --attacks bpda --linf 0.3 --eot 2 --steps 1 --defense.draws 5 --defense.steps 1"
    for options, judged in (("--images 3", 5), ("--images 3 --verify 4", 4)):
        asked.clear()
        config = json.loads(str(run(f"{own} {options}")["config"]))
        assert asked == {judged}
        assert config["verified"] == judged
        assert config["verify"] == (4 if "verify" in options else None)


def test_classifier_alone_is_attacked_without_draws(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    alone = f"--classifier classifier.safetensors {COMMON}"
    found = run(f"{alone} --attacks classifier bpda --linf 0.3 --eot 15")
    assert json.loads(str(found["config"]))["verified"] == 1
    assert found["purification_steps"].tolist() == [0, 0]
    assert found["eot"].tolist() == [1, 1]
    assert float(found["sigma"]) == 0
    assert json.loads(str(found["config"]))["score_config"] is None
    labels = torch.from_numpy(found["labels"])
    with torch.no_grad():
        for broken, states in zip(found["broken"], found["adversarial"], strict=True):
            wrong = models.load("classifier.safetensors")(torch.from_numpy(states)).argmax(1) != labels
            np.testing.assert_array_equal(wrong.numpy(), broken | ~found["natural_correct"][0])


def test_energy_model_purifies_too(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    options = "--score ebm.safetensors --defense.sigma 0 --defense.updates langevin --defense.step 0.0003125"
    found = run(f"{BASE} {POINT} {options} --attacks joint-score apgd --purification-steps 0 3")
    assert np.isfinite(found["adversarial"]).all()
    assert json.loads(str(found["config"]))["score_config"]["tau"] == 0.05


def test_options_reach_the_attacks_that_have_them(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    options = defend_score.Options(
        classifier=Path("classifier.safetensors"),
        score=Path("score.safetensors"),
        data=Path("data.npz"),
        out=Path("out.npz"),
        images=2,
        defense=adp.Options(sigma=0.1, steps=1),
        attacks=tuple(EOT_ATTACKS),
        linf=(0.1,),
        eot=(4,),
        verify=5,
        steps=6,
        step=0.5,
        expectation="combined",
        queries=8,
        query_draws=2,
        spsa_delta=0.03,
        weight=0.25,
        at="image",
        loss="cw",
        restarts=2,
        batch=3,
        seed=9,
    )
    setting = defend_score.Setting(options, "cpu", evaluation.shard(options.data, 0, 2))
    attacks = {point.attack: setting.attack(point) for point in defend_score.grid(options)}
    for attack in attacks.values():
        o = attack.options
        assert (o.steps, o.draws, o.verify, o.restarts, o.seed, o.eps, attack.batch) == (6, 4, 5, 2, 9, 0.1, 3)
    assert {attacks[name].options.expectation for name in ("bpda", "full", "joint-score")} == {"combined"}
    assert [attacks[name].options.gradient for name in ("bpda", "full")] == ["bpda", "full"]
    assert (attacks["joint-full"].options.weight, attacks["joint-full"].options.at) == (0.25, "image")
    assert (attacks["spsa"].options.queries, attacks["spsa"].options.query_draws) == (8, 2)
    assert (attacks["spsa"].options.delta, attacks["spsa"].options.step) == (0.03, 0.5)
    assert attacks["apgd"].options.loss == attacks["spsa"].options.loss == "cw"
    assert len({id(attack.model) for attack in attacks.values()}) == 1


def test_shards_and_batches_only_share_the_work(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    points = f"{BASE} --attacks bpda spsa --linf 0.3 --eot 2 --verify 3 --defense.sigma 0.1 --defense.steps 1"
    whole = run(f"{points} --images 4")
    parts = [run(f"{points} --images 2 --batch 1"), run(f"{points} --offset 2 --images 2 --batch 3")]
    for name in ("natural_correct", "broken", "broken_step", "broken_restart", "checks", "adversarial"):
        joined = np.concatenate([part[name] for part in parts], axis=1)
        assert (np.abs(joined.astype(float) - whole[name].astype(float)) > 1e-6).mean() < 0.01, name
    np.testing.assert_array_equal(np.concatenate([part["indices"] for part in parts]), whole["indices"])


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the evaluation be interrupted after so many batches; the sizes of the batches that were begun."""
    begun: list[int] = []
    evaluate = EotAttack.evaluate

    def counted(self: EotAttack, x: torch.Tensor, *args: Any, **options: Any) -> Outcome:
        if len(begun) == after:
            raise KeyboardInterrupt
        begun.append(len(x))
        return evaluate(self, x, *args, **options)

    monkeypatch.setattr(EotAttack, "evaluate", counted)
    return begun


def test_interrupted_run_goes_on_where_it_was(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = f"{BASE} {POINT} --attacks bpda joint-score --steps 1 --defense.steps 1 --images 3 --batch 2"
    run(points)
    expected = Path("out.npz").read_bytes()
    Path("out.npz").unlink()
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(points)
    assert not Path("out.npz").exists()
    with monkeypatch.context() as patch:  # another defence does not meet what this one left
        begun = interrupt(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(f"{points} --defense.lam 0.1")
        assert len(begun) == 1
    begun = interrupt(monkeypatch, 1000)
    run(points)
    assert len(begun) == 4 - 3
    assert Path("out.npz").read_bytes() == expected
    assert len(list(evaluation.FOLDER.rglob("*.npz"))) == 1  # the other defence's


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"{POINT} --classifier none.safetensors", "model not found: none.safetensors; make it with"),
        (f"{POINT} --score none.safetensors", "model not found: none.safetensors; make it with"),
        (
            f"{POINT} --score classifier.safetensors",
            "holds a resnet10, which has no score; give a model made by train-",
        ),
        (f"{POINT} --score-arch nijkamp", "score.safetensors holds a ncsnv2, not the nijkamp that was asked for"),
        (f"{POINT} --score wide.safetensors", "images are 1x8x8 where the score model in wide.safetensors needs"),
        (f"{POINT} --data wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8 with 4 classes"),
        (f"{POINT} --score lost-score.safetensors", "the score is NaN or infinite for"),
        (f"{POINT} --classifier lost-classifier.safetensors", "logits are NaN or infinite for"),
        (f"{POINT} --data none.npz", "array file not found: none.npz; make it with"),
        (f"{POINT} --attacks bpda pgd", "unknown attack 'pgd'; known are classifier, bpda, joint-score"),
        (f"{POINT} --score None --attacks joint-full", "joint-full needs the model that purifies; give score"),
        (f"{POINT} --score None --purification-steps 3", "purification steps need a model to follow; give score"),
        ("--attacks bpda --eot 2", "the grid is empty; give at least one value to attacks, eot, and linf"),
        (f"{POINT} --eot 2 0", "eot is (2, 0), verify 3, batch 4; give at least 1"),
        (f"{POINT} --verify 0", "eot is (2,), verify 0, batch 4; give at least 1"),
        (f"{POINT} --batch 0", "verify 3, batch 0; give at least 1"),
        (f"{POINT} --purification-steps 2 -1", "purification_steps are (2, -1); give steps >= 0"),
        (f"{POINT} --linf -1", "eps >= 0"),
        (f"{POINT} --step 0", "bpda_eot needs step > 0"),
        (f"{POINT} --attacks spsa --queries 3", "spsa needs an even number of queries"),
        (f"{POINT} --attacks full --expectation vote", "a vote needs each draw's own gradient"),
        (f"{POINT} --images 33", "data.npz holds 32 test images, not the 33 that offset and images ask for"),
        (f"{POINT} --defense.lam 0", "ADP needs"),
        (f"{POINT} --device tpu", "unknown device 'tpu'"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
