"""Make the cards of models."""

import re
from pathlib import Path
from typing import Any, cast

import yaml
from huggingface_hub import CardData, EvalResult, ModelCard, ModelCardData, RepoCard
from transformers import PreTrainedModel

from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.hub.run_record import BENCHMARKS, OWN_DATA, PICTURES, RunRecord, is_public_id
from modeling_crh.metrics.figures import explain_figure
from modeling_crh.pipeline_crh import TASK
from modeling_crh.runtime.terminal import format_figure, printable

MARK = "<!-- Written by modeling-crh, which writes it anew at every push; a card without this line stays as it is. -->"
"""Last line of every card that this library writes."""

TAGS = ["hashing", "binary-codes", "modeling-crh"]

# Words in a repository's first card, if a library or the Hub has written it.
_GENERATED = re.compile("generated automatically|automatically generated|spaces-config-reference")

# Input in words, pipeline tag on the Hub, and task of the figures, by main input of a model.
_KINDS = {
    "pixel_values": ("images", "image-feature-extraction", "Image retrieval"),
    "input_values": ("sounds", "feature-extraction", "Audio retrieval"),
    "input_features": ("sounds", "feature-extraction", "Audio retrieval"),
    "input_ids": ("texts", "feature-extraction", "Text retrieval"),
    "features": ("stored features", None, "Retrieval"),
}
_COUNTS = {"queries", "queries_without_relevant", "database", "query", "num_bits"}  # figures that are only sizes


def fill_card(kind: type[RepoCard], data: CardData, template: str, /, **values: Any) -> RepoCard:
    """Make a card of one kind from its template, such as `model_card.md`."""
    path = Path(__file__).parent / "templates" / template
    return cast(RepoCard, kind.from_template(data, str(path), mark=MARK, **values))


def revision_option(revision: str | None) -> str:
    """Write the argument that loads a branch in a code example; empty for the main branch."""
    return "" if revision in (None, "main") else f'revision="{revision}", '


def is_written(card: str | None) -> bool:
    """Whether a person wrote a card: it has text that no library wrote."""
    if card is None or MARK in card or _GENERATED.search(card):
        return False
    return re.sub(r"\A\s*---\n.*?^---$", "", card, flags=re.DOTALL | re.MULTILINE).strip() != ""


def model_card(
    model: PreTrainedModel,
    repo_id: str,
    run: RunRecord,
    *,
    license: str | None = None,
    revision: str | None = None,
    tags: list[str] | None = None,
    adapter_base: str | None = None,
    example: str | None = None,
) -> RepoCard:
    """Write the card of a `CRHModel`, see `push_model`, with the record of its run.

    `adapter_base` is the Hub id of the base of a LoRA adapter, None for a whole model; `example` is a file in the
    repository with an image for the widget of the page.
    """
    config = cast(CRHConfig, model.config)
    kind, pipeline_tag, task_name = _KINDS[model.main_input_name]
    name = repo_id.rpartition("/")[2]
    title, dataset = BENCHMARKS.get(run.recipe.get("dataset", OWN_DATA), ("data of its author", None))
    results = [
        EvalResult(
            task_type=pipeline_tag or "feature-extraction",
            task_name=task_name,
            dataset_type=dataset or "custom",
            dataset_name=title,
            dataset_split=run.split,
            metric_type=figure,
            metric_name="mAP (tie-aware)" if figure == "map" else explain_figure(figure)[0],
            metric_value=value,
        )
        for figure, value in run.figures.items()
        if figure not in _COUNTS
    ]
    backbones = adapter_base, run.recipe.get("backbone"), getattr(config.backbone_config, "_name_or_path", None)
    data = ModelCardData(
        base_model=next((backbone for backbone in backbones if is_public_id(backbone)), None),
        datasets=None if dataset is None else [dataset],
        eval_results=results or None,
        library_name="transformers" if adapter_base is None else None,
        license=license,
        model_name=name if results else None,
        pipeline_tag=pipeline_tag,
        tags=list(dict.fromkeys([*TAGS, *(tags or [])])),
    )
    if example is not None:
        data["widget"] = [{"src": example, "example_title": "Example"}]
    return fill_card(
        ModelCard,
        data,
        "model_card.md",
        name=name,
        repo_id=repo_id,
        config=config,
        kind=kind,
        task=TASK,
        options=revision_option(revision),
        run=run,
        dataset_title=title,
        own_data=OWN_DATA,
        adapter_base=adapter_base,
        **_story(config, run),
    )


def _story(config: CRHConfig, run: RunRecord) -> dict[str, Any]:
    """Collect the values of a model's card from its config and run."""
    classes = cast(dict[int, str], config.id2label).values()
    names = [printable(" ".join(name.replace("`", "'").split())).plain for name in classes]
    settings = {name: value for name, value in run.recipe.items() if value not in (None, {}, False)}
    evaluations = [{"epoch": 0} | dict(row) for row in run.history if "eval_map" in row]
    counts = [format_figure(run.figures[name]) for name in ("queries", "database") if name in run.figures]
    return {
        "method": run.recipe.get("method", "crh" if run.recipe else None),
        "rows": [
            (explain_figure(name)[0], format_figure(value), explain_figure(name)[1])
            for name, value in run.figures.items()
        ],
        "counts": counts if len(counts) == 2 else None,
        "pictures": {name: PICTURES[name] for name in run.pictures},
        "best": max(evaluations, key=lambda row: row["eval_map"], default=None),
        "settings": yaml.safe_dump(settings, sort_keys=False) if settings else "",
        "num_labels": len(names),
        "some_labels": ", ".join(f"`{name}`" for name in names[:10]) + (" and others" if len(names) > 10 else ""),
        "trained_on_database": bool(run.figures)
        and run.recipe.get("protocol", "official") != "disjoint"
        and run.split == "query",
    }
