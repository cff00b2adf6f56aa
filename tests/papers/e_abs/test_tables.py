"""Tables beside the paper's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.rows import Row, load_rows, markdown, save_rows
from robustgen.evaluation.statistics import mean, proportion_difference
from robustgen.papers.e_abs import PAPER
from robustgen.papers.e_abs.measured import Ablation, Comparison, Measured, Sensitivity
from robustgen.papers.e_abs.study import AttackStudy, Curve
from robustgen.papers.e_abs.tables import MAKERS, tables
from robustgen.papers.e_abs.tables.comparisons import says
from robustgen.papers.e_abs.words import LEVEL, MODELS, NOT_SIGNIFICANT
from robustgen.papers.reference import reference
from robustgen.papers.tables import NOT_OURS

KNOWN = reference("robustgen.papers.e_abs")
FIVE = {"table1": "MNIST", "table2": "Fashion-MNIST", "table3": "SuperTraffic-10", "table4": "SVHN"}
Cells = dict[tuple[str, str], Row]
Altered = Callable[..., AttackStudy]


def cells(found: Measured, name: str) -> Cells:
    return {(row.row, row.column): row for row in MAKERS[name](found)}


def test_every_artifact_that_is_a_table_has_a_maker(measured: Measured) -> None:
    assert list(tables(measured)) == list(MAKERS)
    assert set(MAKERS) == {artifact.name for artifact in PAPER.artifacts if artifact.kind == "table"}


def test_every_number_of_the_paper_stands_in_a_table(measured: Measured, bare: Measured) -> None:
    beside = {("L2 PGD, small radius", "radius")}  # in the notes of that line
    for found in (measured, bare):
        rows = [row for made in tables(found).values() for row in made]
        shown = {(row.row.split("'s recipe: ")[-1], row.column) for row in rows}
        known = {(line.removeprefix("training: "), column) for _, line, column in KNOWN} - beside
        assert known <= shown
        numbers = {(row.column, row.reference) for row in rows if row.reference is not None}
        assert {(c, number.value) for (_, line, c), number in KNOWN.items() if (line, c) not in beside} <= numbers


def test_every_table_survives_its_files(measured: Measured, bare: Measured, tmp_path: Path) -> None:
    for found in (measured, bare):
        for name, rows in tables(found).items():
            assert rows, name  # the report shows no empty table
            save_rows(tmp_path / f"{name}.csv", rows)
            assert len(load_rows(tmp_path / f"{name}.csv")) == len(rows)
            text = markdown(rows, PAPER.artifact(name).title)
            assert "nan" not in text
            assert text.count("\n|") > 2
            assert {row.scale for row in rows} == {"quick"}
            assert {row.item for row in rows} == {PAPER.artifact(name).item}


def test_tables_are_the_papers_where_nothing_was_run(bare: Measured) -> None:
    alone = {name: rows for name, rows in tables(bare).items() if name not in ("bounds", "sensitivity")}
    assert all(row.value is None for rows in alone.values() for row in rows)
    for name in ("bounds", "sensitivity"):  # of which the paper has no number
        (row,) = MAKERS[name](bare)
        assert (row.row, row.value) == ("not run at this scale", 0)


@pytest.mark.parametrize(("name", "paper"), FIVE.items())
def test_five_models_beside_the_papers(name: str, paper: str, measured: Measured) -> None:
    found, made = cells(measured, name), measured.comparisons[paper]
    for (line, model), row in found.items():
        known = KNOWN.get((paper, line, model))
        if not line.endswith(NOT_OURS):
            assert row.reference == (None if known is None else known.value)
        if row.value is not None:
            assert row.n == 400
            assert row.low is not None
            assert row.low <= row.value
    for model in MODELS:
        right = made.correct("All L2")[model]
        assert found["All L2", model].value == pytest.approx(100 * right.mean())
        single = [row.value for (line, column), row in found.items() if column == model and line.startswith("L2 ")]
        assert (found["All L2", model].value or 0) <= min(value for value in single if value is not None)
        assert f"the paper's number: {paper}" in found["All L2", model].method
    assert ("L2 latent descent", "CNN") not in found
    assert "latent descent" in found["All L2, with ours", "E-ABS"].method
    assert "latent descent" not in found["All L2", "E-ABS"].method


def test_another_inference_may_differ_without_attack(altered: Altered, measured: Measured) -> None:
    e_abs = measured.mnist.e_abs
    assert e_abs is not None
    control = ~e_abs.natural | (np.arange(400) >= 100)  # right where the first is wrong, too
    made = replace(measured.mnist, e_abs=altered(e_abs, control_correct=control))
    found = cells(replace(measured, mnist=made), "table1")
    assert found["Clean", "E-ABS"].value == pytest.approx(99)
    assert found["Clean, by another inference", "E-ABS"].value == pytest.approx(75)
    assert ("Clean, by another inference", "ABS") not in found  # exact inference draws nothing


def test_accuracy_without_attack_may_be_of_more_images(altered: Altered, measured: Measured) -> None:
    e_abs, cnn = measured.mnist.e_abs, measured.mnist.cnn
    assert e_abs is not None
    assert cnn is not None
    some = cnn.at(np.arange(40))
    made = replace(
        measured.mnist, cnn=some, natural=Comparison(cnn=cnn, e_abs=altered(e_abs, natural_correct=[0] * 400))
    )
    found = cells(replace(measured, mnist=made), "table1")
    assert (found["Clean", "CNN"].n, found["L2 PGD", "CNN"].n, found["L2 PGD", "E-ABS"].n) == (400, 40, 40)
    assert found["Clean", "E-ABS"].value == 0 < (found["L2 PGD", "E-ABS"].value or 0)
    assert found["Clean", "ABS"].value is None  # not among those of the other images
    tested = MAKERS["mcnemar"](replace(measured, mnist=made))
    assert {row.n for row in tested if row.row.endswith("Clean, CNN − E-ABS") and row.column == "difference"} == {400}


def test_the_order_of_lines_is_the_papers(measured: Measured) -> None:
    lines = list(dict.fromkeys(row.row for row in MAKERS["table1"](measured)))
    papers = list(dict.fromkeys(line for where, line, column in KNOWN if where == "MNIST" and column == "ABS"))
    assert [line for line in lines if line in papers] == papers
    assert set(lines) - set(papers) == {"Clean, by another inference", "L2 latent descent", "All L2, with ours"}


def test_models_that_were_not_attacked_leave_the_papers_number(measured: Measured) -> None:
    found = cells(replace(measured, mnist=replace(measured.mnist, adv_l2=None)), "table1")
    rows = [row for (_, model), row in found.items() if model == "Adv-L2"]
    assert len(rows) == 11
    assert all(row.value is None and row.dataset == "digits 16×16" for row in rows)


def test_a_small_radius_has_a_line_of_its_own(altered: Altered, measured: Measured) -> None:
    line, traffic = "L2 PGD, small radius", measured.supertraffic
    assert [(r.column, r.value, r.reference) for r in MAKERS["table3"](measured) if r.row == line] == [
        ("E-ABS", None, 85)
    ]
    e_abs = traffic.e_abs
    assert e_abs is not None
    eps = e_abs.arrays["eps"].copy()
    eps[e_abs.points - 1] = 0.2
    attack = e_abs.arrays["attack"].copy()
    attack[e_abs.points - 1] = "pgd"
    small = altered(e_abs, eps=eps, attack=attack)
    found = cells(replace(measured, supertraffic=replace(traffic, e_abs=small)), "table3")
    row = found[line, "E-ABS"]
    assert row.value == pytest.approx(100 * small.robust(small.points - 1).mean())
    assert row.reference == 85
    assert "L2 eps 0.2" in row.method


def test_mcnemar(measured: Measured, bare: Measured) -> None:
    found = cells(measured, "mcnemar")
    line = "MNIST's recipe: All L2, ABS − E-ABS"
    right = measured.mnist.correct("All L2")
    difference = proportion_difference(right["ABS"], right["E-ABS"])
    assert found[line, "difference"].value == pytest.approx(100 * difference.value)
    assert found[line, "p, Holm"].value == measured.mnist.tested("All L2")["ABS", "E-ABS"]
    assert (found[line, "significant"].value, found[line, "significant"].reference) == (1, 1)
    clean = found["MNIST's recipe: Clean, CNN − E-ABS", "significant"]
    assert (clean.value, clean.reference) == (0, None)
    single = found["MNIST's recipe: L∞ PGD, CNN − Adv-L∞", "significant"]
    assert (single.value, single.reference) == (1, None)
    alone = cells(bare, "mcnemar")
    assert {key[1] for key in alone} == {"significant"}
    refused = [line for (line, _), row in alone.items() if row.reference == 0]
    assert len(refused) == sum(map(len, NOT_SIGNIFICANT.values())) == 6
    assert "Fashion-MNIST's recipe: All L2, ABS − E-ABS" in refused
    assert says("SVHN", "All L∞", ("Adv-L∞", "ABS")) is False
    assert says("SVHN", "All L2", ("Adv-L∞", "ABS")) is True
    assert says("SVHN", "L2 CW", ("Adv-L∞", "ABS")) is None


def test_holm_may_take_significance_away(altered: Altered, measured: Measured) -> None:
    """One of ten pairs with p between 0.001 and 0.01 is significant by itself and not among ten."""
    e_abs = measured.mnist.e_abs
    assert e_abs is not None
    natural = np.ones(400, bool)
    same: dict[str, Any] = {
        name: altered(getattr(measured.mnist, name), natural_correct=natural)
        for name in ("cnn", "adv_linf", "adv_l2", "abs")
    }
    worse = natural.copy()
    worse[:8] = False  # p = 2 / 2⁸
    made = replace(measured.mnist, **same, e_abs=altered(e_abs, natural_correct=worse))
    found = cells(replace(measured, mnist=made), "mcnemar")
    line = "MNIST's recipe: Clean, CNN − E-ABS"
    assert found[line, "p"].value == pytest.approx(2 / 2**8)
    assert found[line, "p, Holm"].value == pytest.approx(10 * 2 / 2**8)
    assert found[line, "significant"].value == 0


def test_ablation(measured: Measured) -> None:
    found = cells(measured, "table5")
    assert found["DV-ABS", "PGD-L2"].value == pytest.approx(14)
    assert found["DV-ABS", "PGD-L2"].reference == 14
    assert found["ADV-ABS (E-ABS)", "Clean"].reference == 89.2
    assert "variational" in found["AV-ABS", "Clean"].method
    assert "exact" in found["AD-ABS", "Clean"].method
    part = cells(replace(measured, ablation=replace(measured.ablation, a=None)), "table5")
    assert part["A-ABS", "Clean"].value is None
    assert part["A-ABS", "Clean"].reference == 23.7


def test_sweeps(measured: Measured) -> None:
    found = cells(measured, "table6")
    assert found["L∞ PGD: 1 EOT run", "E-ABS"].value == pytest.approx(60)
    assert found["L∞ PGD: 1 EOT run", "E-ABS"].reference == 57.5
    eot = measured.sweeps.eot
    assert eot is not None
    unconfirmed = found["L∞ PGD: 1 EOT run", "errors not confirmed"]
    assert unconfirmed.value == pytest.approx(100 * 40 / 182)  # 40 images of 382 right ones, 240 of them robust
    assert unconfirmed.n == 182
    starts = cells(measured, "table7")
    assert starts["L∞ PGD: 10 random starts", "E-ABS"].value is None
    assert starts["L∞ PGD: 50 random starts", "E-ABS"].value == pytest.approx(57)
    steps = cells(measured, "table8")
    assert [line for line, column in steps if column == "E-ABS"] == [
        f"L∞ PGD: {count} steps" for count in (0, 10, 30, 50, 100, 200, 500)
    ]
    zero = steps["L∞ PGD: 0 steps", "E-ABS"]
    assert (zero.value, zero.reference) == (95.5, 87.5)
    assert zero.method.startswith("natural images")


def test_gradient_free_attacks_stand_beside_pgd_on_the_same_images(altered: Altered, measured: Measured) -> None:
    found = cells(measured, "gradient-free")
    study = measured.gradient_free.study
    assert study is not None
    difference = found["L∞ PGD, gradient estimation", "points above PGD"]
    assert difference.value == pytest.approx(33)
    assert difference.unit == "points"
    assert found["Boundary attack", "E-ABS"].reference == 92
    assert found["L2 PGD", "E-ABS"].value == found["All L2", "E-ABS"].value
    assert "'s number: SVHN, Table 4" in found["L2 PGD", "E-ABS"].method
    without = altered(study, attack=np.array(["estimated", "estimated", "boundary", "boundary"]))
    alone = cells(replace(measured, gradient_free=replace(measured.gradient_free, study=without)), "gradient-free")
    assert ("L2 PGD", "E-ABS") not in alone
    assert ("Boundary attack", "points above PGD") not in alone


def test_bounds(altered: Altered, measured: Measured, build: Callable[..., Measured]) -> None:
    found = cells(measured, "bounds")
    line, e_abs = "MNIST's recipe: E-ABS", measured.mnist.e_abs
    assert e_abs is not None
    bound = e_abs.arrays["bound"]
    proven = bound[bound > 0]
    assert found[line, "mean ε*"].value == pytest.approx(mean(proven).value)
    assert found[line, "mean ε*"].n == len(proven)
    assert found[line, "share with a bound"].value == pytest.approx(100 * len(proven) / 400)
    outside = "errors below ε*, outside its assumptions"
    exact = ("MNIST's recipe: ABS", "Ablation: AD-ABS")
    assert found[line, outside].value == 0
    assert "they do not refute it" in found[line, outside].method
    assert (line, "attacks below the bound") not in found
    assert all(found[name, "attacks below the bound"].value == 0 for name in exact)
    assert "errors are those of exact inference" in found[exact[0], "attacks below the bound"].method
    assert not [name for name, column in found if column == outside and name in exact]
    assert found[line, "share with ε* above the radius"].value == 0
    broken = cells(build(below_bound=3), "bounds")
    assert broken[line, outside].value == broken[exact[0], "attacks below the bound"].value == 3
    wide = cells(build(bound=2.0), "bounds")
    assert wide[line, "share with ε* above the radius"].value == pytest.approx(100 * len(proven) / 400)
    without = altered(e_abs)
    del without.arrays["bound"]
    only = replace(measured, mnist=Comparison(dataset="digits 16×16", e_abs=without), fashion_mnist=Comparison(),
                   supertraffic=Comparison(), svhn=Comparison(), ablation=Ablation())  # fmt: skip
    assert [row.row for row in MAKERS["bounds"](only)] == ["not run at this scale"]


def test_open_choices(measured: Measured) -> None:
    found = cells(measured, "sensitivity")
    assert [line for line, column in found if column == "Clean"] == [
        "as everywhere", "cost: mean", "follow 0", "5 samples", "100 iterations",
    ]  # fmt: skip
    assert found["cost: mean", "Clean"].value == pytest.approx(93)
    assert all(row.reference is None for row in found.values())
    assert Sensitivity().choices == {}


def test_networks_beside_the_papers(measured: Measured) -> None:
    found = cells(measured, "table9")
    assert found["MNIST's recipe: encoder, layer 3", "kernel"].value == 4
    assert found["MNIST's recipe: encoder, layer 3", "kernel"].reference == 5
    assert found["SVHN's recipe: latents", "dimensions"].reference == 40
    assert found["MNIST's recipe: decoder, layer 5", "channels"].value is None
    assert found["SuperTraffic-10's recipe: images", "side"].reference == 32
    assert found["SuperTraffic-10's recipe: images", "side"].value == 16
    method = found["MNIST's recipe: latents", "dimensions"].method
    assert "dropout 0.2, slope 0.2" in method
    assert "the same encoder in CNN, Adv-L∞, Adv-L2, ABS; the same decoders in ABS" in method
    assert len({row.method for row in found.values() if row.value is not None and row.reference is None}) == 1


def test_svhns_network_may_be_the_ablations(measured: Measured) -> None:
    found = replace(measured, svhn=Comparison(), ablation=replace(measured.ablation, dataset="digits 8×8"))
    row = cells(found, "table9")["SVHN's recipe: latents", "dimensions"]
    assert (row.value, row.dataset) == (10, "digits 8×8")
    recipe = cells(found, "training")["SVHN's recipe: E-ABS", "epochs"]
    assert (recipe.value, recipe.reference) == (500, 800)
    assert cells(found, "training")["SVHN's recipe: CNN", "epochs"].value is None
    assert cells(found, "training")["SVHN's recipe: A-ABS", "β"].value == 1
    assert ("SVHN's recipe: V-ABS", "β") not in cells(found, "training")  # ABS's network


def test_networks_that_no_file_tells_of_leave_the_papers(altered: Altered, measured: Measured) -> None:
    e_abs = altered(measured.mnist.e_abs, {"parameters": {}})
    found = cells(replace(measured, mnist=replace(measured.mnist, e_abs=e_abs)), "table9")
    assert found["MNIST's recipe: latents", "dimensions"].value is None


def test_recipes_and_what_the_encoder_reaches_alone(altered: Altered, measured: Measured) -> None:
    found = cells(measured, "training")
    assert found["MNIST's recipe: CNN", "epochs to a halving"].value == 200
    assert ("MNIST's recipe: CNN", "γ") not in found  # a classifier's gamma is another one
    assert found["MNIST's recipe: E-ABS", "γ"].value == found["MNIST's recipe: E-ABS", "γ"].reference == 10
    assert "squared error: its sum over pixels, the last epoch is kept" in found["MNIST's recipe: E-ABS", "β"].method
    without = altered(measured.mnist.abs, {"parameters": {"shared": False}})
    other = cells(replace(measured, mnist=replace(measured.mnist, abs=without)), "training")
    assert ("MNIST's recipe: ABS", "γ") not in other
    trained = altered(measured.mnist.cnn, {"trained": {"epochs": 7, "batch": 8, "lr": 0.1, "milestones": [], "seed": 3,
                   "adversary": {"norm": "l2", "eps": 1.5, "steps": 4}, "select": "robust"}})  # fmt: skip
    row = cells(replace(measured, mnist=replace(measured.mnist, cnn=trained)), "training")[
        "MNIST's recipe: CNN", "epochs"
    ]
    assert row.value == 7
    assert "adversary: L2 eps 1.5, 4 steps, the epoch of the best robust accuracy is kept, seed 3" in row.method
    columns = {"accuracy": np.array([0.5, 0.9, 0.8])}
    curved = replace(measured, curves={"mnist-e_abs": Curve("mnist-e_abs", columns)})
    alone = cells(curved, "training")["MNIST's recipe: E-ABS", "validation accuracy, encoder alone"]
    assert alone.value == 80
    assert "last check" in alone.method


def test_settings_of_attacks(measured: Measured) -> None:
    found = cells(measured, "attacks")
    for paper in FIVE.values():
        level = found[f"{paper}'s recipe: McNemar's test", "α"]
        assert level.value == LEVEL == level.reference
    assert found["SVHN's recipe: L2 PGD", "random starts"].value == 5
    assert found["SVHN's recipe: L2 PGD", "random starts"].reference == 20
    assert found["MNIST's recipe: L2 CW", "binary searches"].value == 5
    assert ("MNIST's recipe: L2 DDN", "random starts") not in found
    assert ("MNIST's recipe: L∞ noise", "EOT runs") not in found
    assert found["MNIST's recipe: inference: E-ABS", "candidates of the encoder"].value == 1
    assert ("MNIST's recipe: inference: ABS", "samples of the expectation") not in found
    assert found["MNIST's recipe: all attacks", "test images"].value == 400
    assert found["SVHN's recipe: sweep of steps", "EOT runs"].reference == 3
    assert ("SVHN's recipe: sweep of steps", "steps") not in found
