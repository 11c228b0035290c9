"""Reference similarities of classes: what the centers are compared with by `center_correlation`."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import PartialState
from datasets import Dataset
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from modeling_crh.backbones import pool, pooling_arguments
from modeling_crh.checks import is_whole
from modeling_crh.data import LEVELS, class_levels, is_multi_label, label_names, label_tensor, nabirds_hierarchy
from modeling_crh.encoding import LabelledDataset
from modeling_crh.encoding.inputs import Processor, labelled_dataset, load_processor
from modeling_crh.labels import label_weights
from modeling_crh.metrics import tree_similarity
from modeling_crh.runtime.terminal import progress_bar

TAXONOMY = "taxonomy"

# What transformers has been seen to raise on names that lead nowhere and on damaged files.
_LOADING_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError)


def reference_similarity(
    reference: str,
    dataset: Dataset,
    *,
    data_dir: str | Path | None = None,
    items_per_class: int | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Similarity of the classes of a dataset, from whatever a command line names.

    Args:
        reference: `"taxonomy"`, see `class_taxonomy` and `tree_similarity`; or the folder or Hub id of a model that
            `AutoModel` loads. A model that reads images, also one that reads texts too, such as CLIP, which is what the
            paper takes, compares the images of the classes, see `item_similarity`. A model that reads texts alone
            compares their names, see `name_similarity`.
        dataset: A split with rows of every class, such as `database`.
        data_dir: Of a benchmark whose taxonomy lies in its official files.
        items_per_class: Images of each class to look at, the first ones. None looks at all.
        batch_size: Images or names at a time.

    Returns:
        `(C, C)` float64 on the CPU, symmetric, larger is more similar.

    Raises:
        ValueError: If `reference` is no such model and no taxonomy is known, or the data break a rule.
    """
    if reference == TAXONOMY:
        return tree_similarity(class_taxonomy(dataset, data_dir))
    model, processor = load_reference_model(reference)
    nn.Module.to(model, PartialState().device)
    if isinstance(processor, PreTrainedTokenizerBase):
        return name_similarity(model, processor, label_names(dataset), batch_size=batch_size)
    if items_per_class is not None:
        dataset = first_items(dataset, items_per_class)
    return item_similarity(model, labelled_dataset(dataset, processor), batch_size=batch_size)


def class_taxonomy(dataset: Dataset, data_dir: str | Path | None = None) -> list[tuple[str, ...]]:
    """What each class lies under, the nearest first: Unicode's groups of emoji, or the hierarchy of NABirds.

    Args:
        dataset: A split of an emoji benchmark with a row of every class; or of NABirds, with
        data_dir: its official files.

    Returns:
        For each class the names of its ancestors, in the order of the ids.

    Raises:
        ValueError: If the dataset has no taxonomy, or one of other classes.
    """
    if set(LEVELS) <= set(dataset.column_names):
        levels = class_levels(dataset)
        return list(zip(*(levels[level] for level in LEVELS), strict=True))
    if data_dir is None:
        raise ValueError(
            "`reference` can be 'taxonomy' for a dataset with the columns group and subgroup, or with a `data_dir` "
            f"that holds hierarchy.txt, but the columns are {', '.join(dataset.column_names)}."
        )
    hierarchy = nabirds_hierarchy(data_dir)
    if list(hierarchy) != label_names(dataset):
        raise ValueError(f"`dataset` must have the classes of the hierarchy in {data_dir}, but has others.")
    return [tuple(ancestors) for ancestors in hierarchy.values()]


def load_reference_model(name: str) -> tuple[PreTrainedModel, Processor]:
    """A pretrained model in float32 and evaluation mode, and its image processor or, if it reads no images, tokenizer.

    Args:
        name: Folder or Hub id of a model that `AutoModel` loads.

    Raises:
        ValueError: If there is no such model, it reads neither images nor texts, or its weights are not whole.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        model, report = cast(
            tuple[PreTrainedModel, dict[str, Any]],
            AutoModel.from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **pooling_arguments(config),
            ),
        )
        missing = sorted(report["missing_keys"])
        if missing:
            raise ValueError(f"it lacks the weights {', '.join(missing[:3])}")
        reads = "pixel_values" if _has_towers(model) else model.main_input_name
        if reads not in ("pixel_values", "input_ids"):
            raise ValueError(f"it reads {reads}, and neither images nor texts")
        return model, load_processor(name, reads)
    except _LOADING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`reference` must be 'taxonomy' or the folder or Hub id of a model, but {name!r} is not: {reason}."
        ) from error


def first_items(dataset: Dataset, items_per_class: int) -> Dataset:
    """The first rows of each class, in the order of the dataset; with several labels a row, those that any class needs.

    Args:
        dataset: With a column `label`.
        items_per_class: 1 or larger.

    Raises:
        ValueError: If `items_per_class` is less than 1.
    """
    if not is_whole(items_per_class) or items_per_class < 1:
        raise ValueError(f"`items_per_class` must be a whole number, 1 or larger, but got {items_per_class!r}.")
    labels = label_tensor(dataset)
    member = labels.bool() if is_multi_label(dataset) else F.one_hot(labels, len(label_names(dataset))).bool()
    needed = member & (member.cumsum(0, dtype=torch.int32) <= items_per_class)  # (N, C)
    return dataset.select(needed.any(1).nonzero().flatten().tolist())


def item_similarity(model: PreTrainedModel, items: LabelledDataset, *, batch_size: int = 64) -> Tensor:
    """Cosine between the mean embeddings of classes, each item's embedding scaled to length 1 first.

    An item with several labels counts for each of them in equal parts, as in the statistics of reassignment.

    Args:
        model: In evaluation mode; its pooled output, projected where it has towers for images and texts, is the
            embedding.
        items: What the model reads, not augmented, with an item of every class.
        batch_size: Items at a time.

    Returns:
        `(C, C)` float64 on the CPU, from -1 to 1.

    Raises:
        ValueError: If a class has no item, or the model gives no vector of an item.
    """
    sums: Tensor | float = 0.0
    counts = torch.zeros(items.num_labels)
    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size)
    for batch in progress_bar(loader, desc="Embedding", unit="batch"):
        weights = label_weights(batch.pop("labels"), items.num_labels)  # (N, C)
        vectors = F.normalize(_embed(model, batch, pooling=None))  # (N, D)
        sums = sums + weights.double().T @ vectors
        counts += weights.sum(0)
    if not counts.all():
        raise ValueError(
            f"`items` must hold an item of every class, but hold none of {items.label_names[int(counts.argmin())]!r}."
        )
    return _cosine(cast(Tensor, sums))


def name_similarity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: list[str], *, batch_size: int = 64
) -> Tensor:
    """Cosine between the embeddings of names: the mean over the tokens of each.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        names: C names; an underscore stands for a space.
        batch_size: Names at a time.

    Returns:
        `(C, C)` float64 on the CPU, from -1 to 1.

    Raises:
        ValueError: If the tokenizer cannot pad, or the model gives no vector of a text.
    """
    if tokenizer.pad_token is None:
        raise ValueError("`tokenizer` must have a padding token, but has none.")
    texts = [name.replace("_", " ") for name in names]
    vectors = []
    for start in range(0, len(texts), batch_size):
        inputs = tokenizer(texts[start : start + batch_size], padding=True, truncation=True, return_tensors="pt")
        vectors.append(_embed(model, dict(inputs), pooling="mean"))
    return _cosine(torch.cat(vectors))


@torch.inference_mode()
def _embed(model: PreTrainedModel, inputs: dict[str, Tensor], pooling: str | None) -> Tensor:
    """Vectors of a batch, `(N, D)` float64 on the CPU."""
    given = {name: values.to(model.device) for name, values in inputs.items()}
    is_text = "input_ids" in given
    if _has_towers(model):
        towers = cast(Any, model)
        outputs = (towers.get_text_features if is_text else towers.get_image_features)(**given, return_dict=True)
        pooling = None  # the projection of a tower is what images and texts are compared by
    else:
        outputs = model(**given, return_dict=True)
    vectors = outputs.get("pooler_output", outputs.get("last_hidden_state"))
    if not isinstance(vectors, Tensor):  # CRH's own models give codes; those that write about images, a list of tokens
        raise ValueError(f"`model` must give a vector an item, but gives {', '.join(outputs) or 'nothing'}.")
    return pool(outputs, given.get("attention_mask"), pooling, is_text).double().cpu()


def _has_towers(model: PreTrainedModel) -> bool:
    """Whether the model embeds images and texts apart, as CLIP does."""
    return {"vision_config", "text_config"} <= set(model.config.sub_configs)


def _cosine(vectors: Tensor) -> Tensor:
    units = F.normalize(vectors)  # (C, D)
    return units @ units.T
