from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment

from robustgen.captions import Shown, escape, shown, write_captions
from robustgen.papers import papers

ROOT = Path(__file__).parents[1]


def test_figures_and_tables_are_shown_and_nothing_else() -> None:
    folder = "results/{run}/gat"
    found = shown(
        [
            f"{folder}/table1.csv",
            f"{folder}/table1.md",
            f"{folder}/figure2a.csv",
            f"{folder}/figure2a.png",
            f"{folder}/figure2a.pdf",
            f"{folder}/headline.json",
            "results/curves/{run}.csv",
            "results/{run}/report.html",
            "models/{run}.safetensors",
        ]
    )
    assert set(found) == {f"{folder}/table1.csv", f"{folder}/figure2a.png"}
    assert found[f"{folder}/table1.csv"] == Shown(slug="gat", name="table1")


def test_every_artifact_has_its_item_title_and_caption() -> None:
    for slug, paper in papers().items():
        for artifact in paper.artifacts:
            result = Shown(slug=slug, name=artifact.name)
            assert result.texts() == (artifact.item, artifact.title, artifact.caption)
            assert result.labels("quick") == {"item": artifact.item, "scale": "quick"}


def test_claims_coverage_and_unknown_results_are_labelled_too() -> None:
    assert Shown(slug="robust-generative", name="claims").labels("desktop/x") == {"item": "Claims", "scale": "desktop"}
    assert Shown(slug="no-such-paper", name="table9").texts() == ("table9", "table9", "")


def test_captions_are_filled_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slug, paper = next(iter(papers().items()))
    artifact = paper.artifacts[0]
    result = Shown(slug=slug, name=artifact.name)
    write_captions(ROOT / "workflow/report/artifact.rst", [result])
    text = result.caption_file.read_text()
    assert escape(artifact.caption) in text
    assert artifact.item in text
    assert str(paper.year) in text
    run = {"wildcards": {"run": "quick"}}
    assert "Scale: quick." in Environment().from_string(text).render(snakemake=run)


@pytest.mark.parametrize("text", ["|E(x)| at 5 %", "`a_b` * c\\d", "{{ not jinja }}", "{% raw %}", "L∞, λ = 1"])
def test_escaped_text_reads_as_written(text: str) -> None:
    from docutils.core import publish_doctree

    rendered = Environment().from_string(escape(text)).render()
    shown_text = publish_doctree(rendered, settings_overrides={"report_level": 2, "halt_level": 2}).astext()
    assert shown_text == text
