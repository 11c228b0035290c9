"""Read a run's folder and drop everything private; make the cards of models, codes and Spaces."""

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from modeling_crh.configuration_crh import CRHConfig, is_hub_id
from modeling_crh.metrics.figures import explain_figure, format_figure
from modeling_crh.pipeline_crh import TASK

BENCHMARKS: dict[str, tuple[str, str | None]] = {
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "coco": ("COCO 2017", "detection-datasets/coco"),
    "coco_2014": ("COCO 2014", None),
    "emoji": ("Emoji", None),
    "emoji_sample": ("Emoji, bundled sample", None),
    "fashion_mnist": ("Fashion-MNIST", "zalando-datasets/fashion_mnist"),
    "fashion_mnist_sample": ("Fashion-MNIST, bundled sample", "zalando-datasets/fashion_mnist"),
    "nabirds": ("NABirds", None),
    "stanford_cars": ("Stanford Cars", "tanganke/stanford_cars"),
}
"""Title and, if any, Hub id of each benchmark."""

OWN_DATA = "your-data"
"""Placeholder for a folder or table in a published recipe."""

OWN_MODEL = "your-model"
"""Placeholder for the folder of a model in a published recipe."""

PICTURES = {
    "contact_sheet.png": "Queries, one per row, and the nearest items of the database.",
    "precision_recall.png": "Precision over recall, one point for each radius of the Hamming ball.",
}
"""Captions of the pictures of a run that a card may show, by file name."""

_PICTURES_OF_DATA = {"contact_sheet.png"}

_PRIVATE_SETTINGS = re.compile(
    r"hub_.*|push_to_hub.*|run_name|project|.*token.*|.*_dir|trackio_.*|_name_or_path|allow_urls"
)


@dataclass(frozen=True)
class RunRecord:
    """Public record of a run.

    Args:
        figures: Figures by name, as in `retrieval_figures`.
        split: Split of the figures: `query` or `validation`.
        recipe: Fields of the recipe, without paths, accounts and secrets.
        history: Log of the training, as numbers by name.
        pictures: Files by name in `PICTURES`.
        readme: Text of the model card in the run's folder; None without one.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    split: str = "query"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    pictures: Mapping[str, Path] = field(default_factory=dict)
    readme: str | None = None

    def save(self, folder: Path) -> None:
        """Write everything but the card into a folder, as `read_run` reads it."""
        if self.figures and self.split == "query":
            (folder / "figures.json").write_text(json.dumps(dict(self.figures), indent=2) + "\n")
        if self.history:
            (folder / "history.json").write_text(json.dumps([dict(row) for row in self.history], indent=2) + "\n")
        if self.recipe:
            (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(self.recipe), sort_keys=False))
        for name, file in self.pictures.items():
            shutil.copyfile(file, folder / name)


def read_run(folder: str | Path, *, with_pictures: bool = False) -> RunRecord:
    """Read figures.json, recipe.yaml, history.json, README.md and the pictures of a run.

    Args:
        folder: Folder of a run, the folder `model` in it, or a folder with only a checkpoint.
        with_pictures: Whether to read pictures of the data too.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If a file in it is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"`run` must be a folder, but got {str(folder)!r}.")
    if root.name == "model" and (root.parent / "recipe.yaml").is_file():
        root = root.parent
    shown = [name for name in PICTURES if with_pictures or name not in _PICTURES_OF_DATA]
    readme = next((file for file in (root / "README.md", root / "model" / "README.md") if file.is_file()), None)
    try:
        return RunRecord(
            figures=_numbers(_read(root / "figures.json", {})),
            recipe=public_recipe(_read(root / "recipe.yaml", {})),
            history=[_numbers(row) for row in _read(root / "history.json", [])],
            pictures={name: root / name for name in shown if (root / name).is_file()},
            readme=None if readme is None else readme.read_text(encoding="utf-8"),
        )
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"`run` must hold complete files, but {str(folder)!r} does not: {error}.") from error


def public_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Drop paths, names of runs, accounts and tokens from a recipe.

    Args:
        recipe: Fields of the recipe.

    Example:
        >>> public_recipe({"dataset": "/home/ada/cars", "backbone": "org/vit", "training": {"hub_token": "hf_1"}})
        {'dataset': 'your-data', 'backbone': 'org/vit', 'training': {}}
    """
    public: dict[str, Any] = _without_private(recipe)
    if "dataset" in recipe:
        public["dataset"] = recipe["dataset"] if recipe["dataset"] in BENCHMARKS else OWN_DATA
    if _is_path(recipe.get("centers_from")):
        public["centers_from"] = OWN_MODEL
    return {name: public[name] for name in recipe if name in public}


def _without_private(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if not _PRIVATE_SETTINGS.fullmatch(str(key))}
        return {key: _without_private(inner) for key, inner in kept.items() if not _is_path(inner)}
    if isinstance(value, list | tuple):
        return [_without_private(inner) for inner in value if not _is_path(inner)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and re.search(r"[/\\~]", value) is not None and not is_hub_id(value)


def _numbers(row: Any) -> dict[str, float]:
    """Keep the entries that are finite numbers."""
    if not isinstance(row, Mapping):
        raise ValueError(f"it holds {row!r:.80} in the place of names and values")
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _read(file: Path, otherwise: Any) -> Any:
    if not file.is_file():
        return otherwise
    text = file.read_text(encoding="utf-8")
    content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(content, type(otherwise)):
        raise ValueError(f"{file.name} holds no {type(otherwise).__name__}")
    return content


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


def template(name: str) -> str:
    """Return the path of a template, for `from_template` of a card class."""
    return str(Path(__file__).parent / "templates" / name)


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
) -> ModelCard:
    """Write the card of a model.

    Args:
        model: Trained `CRHModel`.
        repo_id: Repository of the model, for the code example.
        run: Record of the training.
        license: Hub name of the licence, such as `apache-2.0`.
        revision: Branch for the code example; None means the main branch.
        tags: More tags, besides those of every card.
        adapter_base: Hub id of the base of a LoRA adapter; None for a whole model.
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
        base_model=next((backbone for backbone in backbones if is_hub_id(backbone)), None),
        datasets=None if dataset is None else [dataset],
        eval_results=results or None,
        library_name="transformers" if adapter_base is None else None,
        license=license,
        model_name=name if results else None,
        pipeline_tag=pipeline_tag,
        tags=list(dict.fromkeys([*TAGS, *(tags or [])])),
    )
    card: ModelCard = ModelCard.from_template(
        data,
        template("model_card.md"),
        name=name,
        repo_id=repo_id,
        config=config,
        kind=kind,
        task=TASK,
        options=revision_option(revision),
        run=run,
        dataset_title=title,
        own_data=OWN_DATA,
        mark=MARK,
        adapter_base=adapter_base,
        **_story(config, run),
    )
    return card


def _story(config: CRHConfig, run: RunRecord) -> dict[str, Any]:
    """Collect the values of a model's card from its config and run."""
    names = [" ".join(name.replace("`", "'").split()) for name in cast(dict[int, str], config.id2label).values()]
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
