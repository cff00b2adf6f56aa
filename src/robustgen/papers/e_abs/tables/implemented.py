"""Table 9 and Sec. 4.3: networks and training as they were here, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustgen.evaluation.rows import Row
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import shown, table_of
from robustgen.papers.e_abs.words import ABS, ALL_THREE, E_ABS, MODELS, SVHN, by_synthesis, radius_words
from robustgen.papers.tables import Table
from robustgen.papers.words import plural

SHAPE = {"channels": "channels", "kernel": "kernels", "stride": "strides", "padding": "paddings"}  # column: option
DIMENSIONS, NEURONS = "dimensions", "neurons"
COLUMNS = ("batch", "learning rate", "epochs", "epochs to a halving", "noise σ", "β", "γ")  # columns of training
ALONE = "validation accuracy, encoder alone"
PARTS = ("images", "latents", "encoder", "decoder", "discriminator")  # of Table 9's lines, images of Sec. 4.1
SHARE = ("training: all", "validation share")
ABLATED = ("A-ABS", "D-ABS")  # of Table 5, networks that Tables 1-4 do not have
Layers = dict[str, dict[str, float]]  # line: column: value


def table9(found: Measured) -> list[Row]:
    """Layers of E-ABS's network, for each data set of the paper."""
    table = table_of("Table 9", found.scale)
    rows: list[Row] = []
    for paper, (dataset, study) in networks(found).items():
        ours = {} if study is None else layers(study.parameters)
        method = "" if study is None or not ours else _method(found, paper, study)
        for line, columns in _lines(table, paper, ours).items():
            for column in columns:
                value = ours.get(line, {}).get(column)
                rows += shown(table, dataset, paper, line, column, value, "", method)
    return rows


def networks(found: Measured) -> dict[str, tuple[str, AttackStudy | None]]:
    """For each data set of the paper, the one here and E-ABS on it."""
    return {paper: model_of(found, paper, E_ABS) for paper in found.tables}


def model_of(found: Measured, paper: str, model: str) -> tuple[str, AttackStudy | None]:
    """A model of a data set of the paper, and which it is here; SVHN's may be in the ablation alone."""
    made, name = found.tables[paper], {E_ABS: ALL_THREE}.get(model, model)
    if paper == SVHN and model not in made.models and name in found.ablation.variants:
        return found.ablation.dataset, found.ablation.variants[name]
    return made.dataset, made.models.get(model)


def layers(parameters: Mapping[str, Any]) -> Layers:
    """The lines of Table 9 of a network of these options; nothing where they are not known."""
    if "decoder_channels" not in parameters:
        return {}
    images = {"side": "size", "classes": "classes", "channels": "channels"}
    found: Layers = {"images": {column: float(parameters[option]) for column, option in images.items()}}
    found["latents"] = {DIMENSIONS: float(parameters["latent"])}
    for part in ("encoder", "decoder"):
        for number in range(len(parameters[f"{part}_channels"])):
            values = {column: float(parameters[f"{part}_{option}"][number]) for column, option in SHAPE.items()}
            found[f"{part}, layer {number + 1}"] = values
    for number, width in enumerate(parameters["neurons"], 1):
        found[f"discriminator, layer {number}"] = {NEURONS: float(width)}
    return found


def _lines(table: Table, paper: str, ours: Layers) -> dict[str, list[str]]:
    """The lines of a data set and their columns, ours and the paper's, in the order of PARTS and layers."""
    papers: dict[str, list[str]] = {}
    for where, line, column in table.known:
        if where == paper and line.split(",")[0] in PARTS:
            papers.setdefault(line, []).append(column)
    names = sorted({*ours, *papers}, key=lambda line: (PARTS.index(line.split(",")[0]), len(line), line))
    return {line: list(dict.fromkeys((*ours.get(line, {}), *papers.get(line, [])))) for line in names}


def _method(found: Measured, paper: str, study: AttackStudy) -> str:
    """What the paper does not say, and who shares its parts, in words."""
    p = study.parameters
    words = [f"dropout {p['dropout']:g}, slope {p['slope']:g} of leaky ReLU"]
    models = found.tables[paper].models
    if shared := [model for model, each in models.items() if model != E_ABS and alike(each, study)]:
        words += [f"the same encoder in {', '.join(shared)}"]
    if (each := models.get(ABS)) is not None and alike(each, study, "decoder_"):
        words += ["the same decoders in ABS"]
    return "; ".join(words)


def alike(a: AttackStudy, b: AttackStudy, part: str = "encoder_") -> bool:
    """Whether two networks agree in all options of a part."""
    names = [name for name in b.parameters if name.startswith(part)]
    return bool(names) and all(a.parameters.get(name) == b.parameters[name] for name in names)


def training(found: Measured) -> list[Row]:
    """Recipes of Sec. 4.3, for each model of each data set and each network that the ablation has besides, and what
    autoencoders reached without inference.
    """
    table = table_of("Sec. 4.3", found.scale)
    rows: list[Row] = []
    for paper in found.tables:
        others = [name for name in ABLATED if paper == SVHN and name in found.ablation.variants]
        for model in (*MODELS, *others):
            dataset, study = model_of(found, paper, model)
            rows += _trained(table, dataset, paper, model, study)
            if study is not None and (curve := found.curve_of(study)) is not None:
                best = study.training.get("select") == "accuracy"
                method = f"of the {'best' if best else 'last'} check, latents being the encoder's mean"
                value = 100 * curve.kept("accuracy", best=best)
                rows += shown(table, dataset, paper, model, ALONE, value, "%", method)
        rows += shown(table, "", paper, *SHARE, None, "%", name="all")
    return rows


def _trained(table: Table, dataset: str, paper: str, model: str, study: AttackStudy | None) -> Iterator[Row]:
    ours = {} if study is None or not study.training else hyperparameters(study)
    method = "" if study is None or not ours else _how(study)
    for column in COLUMNS:
        value = ours.get(column)
        yield from shown(table, dataset, paper, f"training: {model}", column, value, "", method, model)


def hyperparameters(study: AttackStudy) -> dict[str, float]:
    """The recipe of an autoencoder or a classifier, by the columns of its table."""
    recipe, columns = study.training, {"batch": "batch", "learning rate": "lr", "epochs": "epochs"}
    found = {column: float(recipe[option]) for column, option in columns.items() if option in recipe}
    found["noise σ"] = float(recipe.get("noise", 0))
    if not by_synthesis(study.config):
        milestones = recipe.get("milestones") if recipe.get("gamma") == 0.5 else ()
        return found | ({"epochs to a halving": float(milestones[0])} if milestones else {})
    found |= {"epochs to a halving": float(recipe["halve_every"]), "β": float(recipe["beta"])}
    discriminative = study.parameters.get("shared", True)
    return found | ({"γ": float(recipe["gamma"])} if discriminative else {})


def _how(study: AttackStudy) -> str:
    """What the columns do not say of a recipe, in words."""
    recipe, words = study.training, ["Adam" if study.training.get("optimizer", "adam") == "adam" else "SGD"]
    adversary = recipe.get("adversary") or {}
    if adversary.get("eps"):
        ball = radius_words(str(adversary.get("norm", "linf")), float(adversary["eps"]))
        words += [f"adversary: {ball}, {plural(int(adversary['steps']), 'step')}"]
    if by_synthesis(study.config):
        words += [f"squared error: its {recipe['cost']} over pixels"]
    last = recipe.get("select", "last") == "last"
    words += ["the last epoch is kept" if last else f"the epoch of the best {recipe['select']} accuracy is kept"]
    words += [f"seed {recipe['seed']}"] if "seed" in recipe else []
    return ", ".join(words)
