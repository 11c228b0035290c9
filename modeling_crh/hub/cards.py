"""The model card: what a model on the Hub is, how to use it, what it can do, and what it cannot."""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling_crh.configuration_crh import CRHConfig, is_hub_id
from modeling_crh.hub.run_record import BENCHMARKS, OWN_DATA, PICTURES, RunRecord
from modeling_crh.metrics.descriptions import explain_figure, format_figure
from modeling_crh.pipeline_crh import TASK

MARK = "<!-- Written by modeling-crh, which writes it anew at every push; a card without this line stays as it is. -->"
"""Last line of a card that nobody has written."""

_KINDS = {
    "pixel_values": ("images", "image-feature-extraction", "Image retrieval"),
    "input_ids": ("texts", "feature-extraction", "Text retrieval"),
    "features": ("stored features", None, "Retrieval"),
}  # by what the model reads: the word, a tag that the Hub knows, and the task of its figures

_COUNTS = {"queries", "queries_without_relevant", "database", "query", "num_bits"}

_IMAGES_EXAMPLE = """from PIL import Image
from transformers import pipeline

hashing = pipeline("{task}", model="{repo_id}", {options}trust_remote_code=True)
images = [Image.new("RGB", (64, 64), color) for color in ("white", "navy")]  # or paths, or URLs
first, second = (int(item["code"], 16) for item in hashing(images, code_format="hex"))
print(f"{{first:0{digits}x}} and {{second:0{digits}x}} differ in {{(first ^ second).bit_count()}} of {num_bits} bits")
"""
_TEXTS_EXAMPLE = """from transformers import pipeline

hashing = pipeline("{task}", model="{repo_id}", {options}trust_remote_code=True)
texts = ["a first text", "quite another one"]
first, second = (int(item["code"], 16) for item in hashing(texts, code_format="hex"))
print(f"{{first:0{digits}x}} and {{second:0{digits}x}} differ in {{(first ^ second).bit_count()}} of {num_bits} bits")
"""
_FEATURES_EXAMPLE = """import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("{repo_id}", {options}trust_remote_code=True)
features = torch.randn(2, {num_features})  # here stand those that the model was trained on
first, second = model.encode(features=features)  # -1 and +1
print(f"The codes differ in {{(first != second).sum()}} of {num_bits} bits")
"""
_EXAMPLES = {"pixel_values": _IMAGES_EXAMPLE, "input_ids": _TEXTS_EXAMPLE, "features": _FEATURES_EXAMPLE}


def is_written(card: str | None) -> bool:
    """Whether somebody has written a card: it has a text, and one that no library has put there."""
    if card is None or MARK in card or re.search("generated automatically|automatically generated", card):
        return False
    return re.sub(r"\A\s*---\n.*?^---$", "", card, flags=re.DOTALL | re.MULTILINE).strip() != ""


def model_card(
    config: CRHConfig,
    main_input_name: str,
    repo_id: str,
    run: RunRecord,
    *,
    license: str | None = None,
    revision: str | None = None,
    tags: list[str] | None = None,
) -> ModelCard:
    """Write the card of a model.

    Args:
        config: Of the model.
        main_input_name: What it reads: `pixel_values`, `input_ids` or `features`.
        repo_id: Where it will be, for the code example.
        run: What is known of its training.
        license: As the Hub names licences, such as `apache-2.0`.
        revision: Branch for the code example; None is the main one.
        tags: Further ones.
    """
    name = repo_id.rpartition("/")[2]
    sections = [
        f"# {name}\n\n{_summary(config, main_input_name, run)}",
        f"## Use\n\n{_use(config, main_input_name, repo_id, revision)}",
        f"## Figures\n\n{_figures(run)}",
        *(f"![{PICTURES[picture]}]({picture})" for picture in run.pictures),
        f"## How it was trained\n\n{_training(run)}",
        f"## Limits\n\n{_limits(config, run, license)}",
        MARK,
    ]
    data = _metadata(config, main_input_name, name, run, license, tags)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _metadata(
    config: CRHConfig, main_input_name: str, name: str, run: RunRecord, license: str | None, tags: list[str] | None
) -> ModelCardData:
    _, pipeline_tag, _ = _KINDS[main_input_name]
    _, dataset = _dataset(run)
    results = _eval_results(main_input_name, run)
    return ModelCardData(
        base_model=_base_model(config, run),
        datasets=None if dataset is None else [dataset],
        eval_results=results or None,
        library_name="transformers",
        license=license,
        model_name=name if results else None,
        pipeline_tag=pipeline_tag,
        tags=list(dict.fromkeys(["hashing", "binary-codes", "modeling-crh", *(tags or [])])),
    )


def _eval_results(main_input_name: str, run: RunRecord) -> list[EvalResult]:
    _, pipeline_tag, task_name = _KINDS[main_input_name]
    title, dataset = _dataset(run)
    return [
        EvalResult(
            task_type=pipeline_tag or "feature-extraction",
            task_name=task_name,
            dataset_type=dataset or "custom",
            dataset_name=title,
            dataset_split=run.split,
            metric_type=name,
            metric_name="mAP (tie-aware)" if name == "map" else explain_figure(name)[0],
            metric_value=value,
        )
        for name, value in run.figures.items()
        if name not in _COUNTS
    ]


def _dataset(run: RunRecord) -> tuple[str, str | None]:
    return BENCHMARKS.get(run.recipe.get("dataset", OWN_DATA), ("data of its author", None))


def _base_model(config: CRHConfig, run: RunRecord) -> str | None:
    names = run.recipe.get("backbone"), getattr(config.backbone_config, "_name_or_path", None)
    return next((name for name in names if is_hub_id(name)), None)


def _summary(config: CRHConfig, main_input_name: str, run: RunRecord) -> str:
    kind = _KINDS[main_input_name][0]
    method = run.recipe.get("method", "crh" if run.recipe else None)
    how = {None: "", "crh": " by Center-Reassigned Hashing (arXiv 2511.12162)"}.get(method, f" by `{method}`")
    base = _base_model(config, run)
    start = f" It starts from `{base}`." if base else ""
    return (
        f"Codes of {config.num_bits} bits for {kind}, learned from labels{how}: what belongs to one class lies close "
        f"in Hamming distance, so a search is XOR and popcount over {config.num_bits // 8} bytes an item.{start}"
    )


def _use(config: CRHConfig, main_input_name: str, repo_id: str, revision: str | None) -> str:
    example = _EXAMPLES[main_input_name].format(
        task=TASK,
        repo_id=repo_id,
        options="" if revision in (None, "main") else f'revision="{revision}", ',
        num_bits=config.num_bits,
        digits=config.num_bits // 4,
        num_features=config.num_features,
    )
    return (
        f"```python\n{example}```\n\n`trust_remote_code=True` runs the Python files of this repository: read them, and "
        "pin the `revision` that you have read. Where `modeling_crh` is installed and imported, leave it out: the "
        "library's own code is used."
    )


def _figures(run: RunRecord) -> str:
    if not run.figures:
        return "None were recorded when it was pushed. `crh evaluate` measures them."
    title, _ = _dataset(run)
    counts = {name: format_figure(run.figures[name]) for name in ("queries", "database") if name in run.figures}
    where = f"Measured on {title}, split `{run.split}`"
    if len(counts) == 2:
        where += f": {counts['queries']} queries, each against {counts['database']} items"
    rows = ["| figure | value | meaning |", "| --- | ---: | --- |"]
    for name, value in run.figures.items():
        words, meaning = explain_figure(name)
        rows.append(f"| {words} | {format_figure(value)} | {meaning} |")
    ties = "Distances are whole bits, so most of a ranking is ties: mAP is its mean over their orders."
    return f"{where}. {ties}\n\n" + "\n".join(rows)


def _training(run: RunRecord) -> str:
    parts = []
    best = max((row for row in run.history if "eval_map" in row), key=lambda row: row["eval_map"], default=None)
    if best is not None:
        epoch, value = best.get("epoch", 0), best["eval_map"]
        parts.append(f"Epoch {epoch:g} was the best on the validation split, with an mAP of {value:.4f}.")
    if run.recipe:
        settings = yaml.safe_dump(_without_empty(run.recipe), sort_keys=False)
        own = f", with data of your own for `{OWN_DATA}`" if run.recipe.get("dataset") == OWN_DATA else ""
        again = f"; `crh train recipe.yaml` trains by them again{own}" if "dataset" in run.recipe else ""
        parts.append(f"Its settings, the rest being defaults{again}:\n\n```yaml\n{settings}```")
    return "\n\n".join(parts) or "Nothing was recorded when it was pushed."


def _without_empty(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if value not in (None, {}, False)}


def _limits(config: CRHConfig, run: RunRecord, license: str | None) -> str:
    names = list(cast(dict[int, str], config.id2label).values())
    shown = [" ".join(name.replace("`", "'").split()) for name in names[:10]]
    some = ", ".join(f"`{name}`" for name in shown) + (" and others" if len(names) > 10 else "")
    points = [
        f"It was trained to tell {len(names)} classes apart ({some}); codes of anything else mean little.",
        "Its codes compare with each other only, and not with those of another model, or of another training of it.",
    ]
    if run.figures and run.recipe.get("protocol", "official") != "disjoint" and run.split == "query":
        points.append("The database of its figures holds the items that it was trained on, as is usual.")
    stated = "No licence was stated when it was pushed." if license is None else f"Its licence is `{license}`."
    points.append(f"{stated} The data that it was trained on have their own.")
    return "\n".join(f"- {point}" for point in points)
