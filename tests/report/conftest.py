"""A results folder as large and as varied as a real one, and the page made of it."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from robustgen.evaluation.rows import (
    Claim,
    Coverage,
    Row,
    claims_markdown,
    markdown,
    save_claims,
    save_coverage,
    save_rows,
)
from robustgen.io import save_csv, save_json
from robustgen.papers import base
from robustgen.papers.base import Artifact, Paper
from robustgen.papers.manifest import save_manifest
from robustgen.stages import report

PAPER = Paper(
    slug="robust-generative",
    title="Exploring the Connection between Robust and Generative Models",
    authors="Senad Beadini and Iacopo Masi",
    year=2023,
    venue="Italian Conference on Artificial Intelligence, workshop on AI and cybersecurity; arXiv:2304.04033",
    artifacts=(
        Artifact(
            name="table1",
            item="Table 1",
            kind="table",
            title="Detection of attacks by the energy of the input",
            caption="Detection rate (DR), false-positive rate (FPR) and area under the ROC curve (AUC). "
            "The threshold is the one with the largest G-mean on validation images; all numbers are on test images.",
        ),
        Artifact(
            name="figure2a",
            item="Figure 2a",
            kind="figure",
            title="Energies of natural and attacked images",
            caption="Histogram of E(x) = −log Σ exp f(x) over the test images, before and after PGD with 40 steps. "
            "Lower means more likely under the model hidden in the classifier.",
        ),
        Artifact(
            name="figure2b",
            item="Figure 2b",
            kind="figure",
            title="Energy and accuracy against the number of steps",
            caption="Mean |E(x)| (left axis) and accuracy (right axis) after each step of PGD.",
        ),
    ),
)

DETECTORS = ("Energy, threshold by G-mean", "Energy, temperature and Youden’s J", "KD+BU", "LID")
ATTACKS = ("PGD", "PGD threshold, tested on APGD", "targeted PGD")
COLUMNS = (("DR", "%", 98.38), ("FPR", "%", 1.62), ("AUC", "", 0.9964))


def table() -> list[Row]:
    """12 rows, three columns, two image sizes; some without the paper's number, one with it alone, one of no image."""
    random = np.random.default_rng(0)
    rows = []
    for index, (detector, attack) in enumerate((d, a) for a in ATTACKS for d in DETECTORS):
        for column, unit, reference in COLUMNS:
            value = float(reference * (1 - 0.1 * random.random()))
            rows.append(
                Row(
                    paper=PAPER.slug,
                    item="Table 1",
                    row=f"{detector}, {attack}",
                    column=column,
                    scale="quick",
                    dataset="digits, 32×32" if index < 9 else "digits, 8×8 (control)",
                    n=397,
                    value=value,
                    low=value * 0.985,
                    high=value * 1.01,
                    unit=unit,
                    reference=reference if attack == "PGD" else None,
                    method=f"{attack}, L∞ eps 16/255, 40 steps of 2/255; Wilson interval; seed 0"
                    + ("; k = 20 neighbours" if detector == "LID" else ""),
                )
            )
    rows.append(
        replace(rows[0], dataset="CIFAR-10", row="LID (borrowed)", n=None, value=None, low=None, high=None, method="")
    )
    rows.append(replace(rows[0], dataset="SVHN", row="not run", n=None, value=0, low=None, high=None, reference=None))
    return rows


CLAIMS = [
    Claim(
        id="lower-energy",
        statement="Images under PGD have lower energy than natural ones.",
        source="Sec. 4.1, Fig. 2a",
        quantity="mean E(PGD) − E(natural), nats",
        condition="< 0",
        value=-7.413,
        low=-7.71,
        high=-7.12,
        n=397,
        verdict="holds",
        note="",
    ),
    Claim(
        id="more-steps",
        statement="More steps of PGD make the energy lower still.",
        source="Sec. 4.1, Fig. 2b",
        quantity="slope of E against steps",
        condition="< 0",
        value=-0.1131,
        low=-0.12,
        high=-0.104,
        n=397,
        verdict="holds",
        note="",
    ),
    Claim(
        id="beats-kdbu",
        statement="Energy detects PGD better than KD+BU.",
        source="Sec. 4.2, Table 1",
        quantity="difference of AUC",
        condition="> 0",
        value=0.021,
        low=0.0116,
        high=0.0304,
        n=794,
        verdict="holds",
        note="",
    ),
    Claim(
        id="beats-lid",
        statement="Energy detects PGD better than LID.",
        source="Sec. 4.2, Table 1",
        quantity="difference of AUC",
        condition="> 0",
        value=0.0012,
        low=-0.0031,
        high=0.0055,
        n=794,
        verdict="not decided",
        note="Both detectors are near 1 on digits, where the test set is too small to tell them apart.",
    ),
    Claim(
        id="unseen-apgd",
        statement="A threshold fitted on PGD detects APGD, which it has not seen, as well.",
        source="Sec. 4.2",
        quantity="detection rate on APGD, %",
        condition="> 95",
        value=61.2,
        low=56.3,
        high=65.9,
        n=397,
        verdict="fails",
        note="The paper’s code fits the threshold on APGD itself; with a threshold from PGD the rate is lower.",
    ),
    Claim(
        id="he-pgd-gap",
        statement="High-Energy PGD closes the gap between the energies of natural and attacked images.",
        source="Sec. 4.3, Fig. 3a",
        quantity="|mean gap| under HE-PGD over the gap under PGD",
        condition="< 0.1",
        value=0.034,
        low=0.011,
        high=0.06,
        n=397,
        verdict="holds",
        note="",
    ),
    Claim(
        id="he-pgd-accuracy",
        statement="High-Energy PGD still drives the accuracy to zero.",
        source="Sec. 4.3, Fig. 3b",
        quantity="accuracy under HE-PGD, %",
        condition="< 1",
        value=0.0,
        low=0.0,
        high=0.96,
        n=397,
        verdict="holds",
        note="",
    ),
    Claim(
        id="denser-gradients",
        statement="Input gradients of a robust classifier are denser and aligned with the image.",
        source="Sec. 5.2, Fig. 4",
        quantity="difference of the gradients’ Hoyer sparsity, robust − natural",
        condition="< 0",
        value=0.18,
        low=0.15,
        high=0.21,
        n=200,
        verdict="fails",
        note="By the share of energy in the largest tenth of the pixels it holds; the paper names no measure.",
    ),
]

COVERAGE = [
    Coverage(item="Table 1", what="Detection by energy", status="partly", where="table1", note="digits only"),
    Coverage(item="Figure 1", what="Sketch of the inverse map", status="not reproducible", where="", note="a drawing"),
    Coverage(item="Figure 2a", what="Energies", status="reproduced", where="figure2a", note=""),
    Coverage(item="Figure 2b", what="Energy by step", status="reproduced", where="figure2b", note=""),
    Coverage(item="Table 1, CIFAR-100", what="The same", status="not at this scale", where="", note="at scale paper"),
]

STAGES = {
    "fetch@quick/digits32": (
        "fetch --out data/images/quick/digits32.npz --name digits --size 32",
        [],
        ["data/images/quick/digits32.npz"],
    ),
    "train-classifier@quick/digits32-natural": (
        "train-classifier --out models/quick/digits32-natural.safetensors --model.width 16 --epochs 20 --lr 0.001",
        ["data/images/quick/digits32.npz"],
        ["models/quick/digits32-natural.safetensors"],
    ),
    "attack@quick/robust-generative/digits32/pgd": (
        "attack --out data/adversarial/quick/robust-generative/digits32/pgd.npz --attack.name pgd --attack.steps 40",
        ["models/quick/digits32-natural.safetensors", "data/images/quick/digits32.npz"],
        ["data/adversarial/quick/robust-generative/digits32/pgd.npz"],
    ),
    "detect@quick/robust-generative/digits32": (
        "detect --out data/detection/quick/robust-generative/digits32.npz --seed 0",
        ["data/adversarial/quick/robust-generative/digits32"],
        ["data/detection/quick/robust-generative/digits32.npz"],
    ),
    "robust-generative@quick": (
        "robust-generative --out results/quick/robust-generative --scale quick",
        ["data/detection/quick/robust-generative"],
        [f"results/quick/robust-generative/{name}" for name in ("table1.csv", "figure2a.png", "figure2b.png")],
    ),
    "fetch@quick/unrelated": ("fetch --out data/images/quick/unrelated.npz", [], ["data/images/quick/unrelated.npz"]),
}


def write_provenance(root: Path) -> None:
    """A dvc.lock, and a run record of every stage but the first, which stands for one that was pulled."""
    stages = {
        name: {
            "cmd": f"exec robustgen {command}",
            "deps": [{"path": dep, "hash": "md5", "md5": "0" * 32, "size": 1} for dep in deps],
            "outs": [{"path": out, "hash": "md5", "md5": "0" * 32, "size": 1} for out in outs],
        }
        for name, (command, deps, outs) in STAGES.items()
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    folder = root / ".cache/runs"
    folder.mkdir(parents=True)
    for number, (name, (command, _, _)) in enumerate(list(STAGES.items())[1:], 1):
        argv = shlex.split(f"/usr/bin/robustgen {command}")
        record = {
            "family": name.partition("@")[0],
            "out": argv[3],
            "command": argv,
            "started": f"2026-11-21T10:0{number}:00",
            "wall_seconds": 7.3 * number**2,
            "cpu_seconds": 12.9 * number**2,
            "peak_memory_mb": 480.0 + 100 * number,
            "machine": {"cpu": "AMD EPYC 7763 64-Core Processor", "cores": 2, "memory_gb": 7.8, "gpu": None},
            "versions": {"python": "3.11.2", "torch": "2.15.0", "torchvision": "0.29.2", "robustgen": "0.1.0"},
        }
        (folder / f"{hashlib.sha1(argv[3].encode()).hexdigest()}.json").write_text(json.dumps(record))


def write_figures(folder: Path) -> None:
    random = np.random.default_rng(1)
    natural, attacked = random.normal(-9, 2, 400), random.normal(-16, 2.5, 400)
    with mpl.rc_context({"font.size": 10}):
        first = Figure(figsize=(6, 4), layout="constrained")
        axes = first.subplots()
        axes.hist(natural, bins=40, alpha=0.6, label="natural")
        axes.hist(attacked, bins=40, alpha=0.6, label="PGD")
        axes.set(xlabel="E(x), nats", ylabel="images")
        axes.legend()
        second = Figure(figsize=(6, 4), layout="constrained")
        left = second.subplots()
        left.plot(9 + 7 * (1 - np.exp(-np.arange(41) / 8)), "C0")
        left.set(xlabel="PGD steps", ylabel="mean |E(x)|, nats")
        right = left.twinx()
        right.plot(100 * np.exp(-np.arange(41) / 4), "C1--")
        right.set(ylabel="accuracy, %")
        for name, figure in (("figure2a", first), ("figure2b", second)):
            for suffix in ("png", "pdf"):
                figure.savefig(folder / f"{name}.{suffix}", dpi=150)
    save_csv(folder / "figure2a.csv", ["natural", "attacked"], zip(natural, attacked, strict=True))
    save_csv(folder / "figure2b.csv", ["step"], [[step] for step in range(41)])


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report.html of the results above."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "results/quick" / PAPER.slug
    folder.mkdir(parents=True)
    rows = table()
    save_rows(folder / "table1.csv", rows)
    (folder / "table1.md").write_text(markdown(rows, "Table 1"))
    save_claims(folder / "claims.csv", CLAIMS)
    (folder / "claims.md").write_text(claims_markdown(CLAIMS, "Claims"))
    save_coverage(folder / "coverage.csv", COVERAGE)
    save_json(
        folder / "headline.json",
        {
            "clean_accuracy_percent": 98.49,
            "accuracy_under_pgd_percent": 0.0,
            "pgd_detection_rate_percent": 97.73,
            "pgd_false_positive_rate_percent": 1.26,
            "pgd_auc": 0.9957,
            "he_pgd_auc": 0.0121,
        },
    )
    write_figures(folder)
    write_provenance(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(base, "papers", lambda: {PAPER.slug: PAPER})
        save_manifest(Path("results/quick"), PAPER.slug)
        report.run(report.Options(out=Path("results/quick"), scale="quick"))
    return root / "results/quick/report.html"
