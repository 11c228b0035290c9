"""Reference similarities of classes, for `center_correlation`."""

from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from datasets import ClassLabel, Dataset, Features, Value
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_crh.checks import one_reason
from modeling_crh.data import LEVELS, class_levels, label_names, nabirds_hierarchy
from modeling_crh.encoding import LabelledDataset, TextDataset
from modeling_crh.encoding.feature_tables import pooled_batches
from modeling_crh.encoding.inputs import Processor, load_processor
from modeling_crh.encoding.items import labelled_dataset
from modeling_crh.losses import label_weights
from modeling_crh.metrics import tree_similarity
from modeling_crh.pretrained import load_pretrained

TAXONOMY = "taxonomy"


def reference_similarity(reference: str, dataset: Dataset, *, data_dir: str | Path | None = None) -> Tensor:
    """Compute the similarity of the classes of a dataset by a taxonomy or a pretrained model.

    Args:
        reference: `"taxonomy"`, see `class_taxonomy` and `tree_similarity`; or the folder or Hub id of a model that
            `AutoModel` loads. A model of images, or of images and texts such as the paper's CLIP, compares the images
            of the classes, see `item_similarity`. A model of texts compares the names of the classes, see
            `name_similarity`.
        dataset: A split with rows of every class, such as `database`.
        data_dir: Folder of official files with a taxonomy.

    Returns:
        `(C, C)` float64 on the CPU, symmetric, larger is more similar.

    Raises:
        ValueError: If `reference` is neither a usable model nor a known taxonomy, or a class has no item.
    """
    if reference == TAXONOMY:
        return tree_similarity(class_taxonomy(dataset, data_dir))
    model, processor = load_reference_model(reference)
    nn.Module.to(model, PartialState().device)
    if isinstance(processor, PreTrainedTokenizerBase):
        return name_similarity(model, processor, label_names(dataset))
    return item_similarity(model, labelled_dataset(dataset, processor))


def class_taxonomy(dataset: Dataset, data_dir: str | Path | None = None) -> list[tuple[str, ...]]:
    """List the ancestors of each class, the parent first: Unicode's groups of emoji, or the hierarchy of NABirds.

    The split has a row of every class; those of emoji have the columns `group` and `subgroup`. The list is in the order
    of the class ids.

    Raises:
        ValueError: If the dataset has no taxonomy, or the taxonomy has other classes.
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
    """Load a model by its folder or Hub id, in float32 and evaluation mode, with its image processor or tokenizer.

    Raises:
        ValueError: If the model does not exist, reads neither images nor texts, or lacks weights.
    """
    rule = f"`reference` must be 'taxonomy' or the folder or Hub id of a model, but {name!r} is not"
    with one_reason(rule, OSError, ValueError, SafetensorError):
        model = load_pretrained(name, dtype=torch.float32)
        if model.main_input_name not in ("pixel_values", "input_ids"):
            raise ValueError(f"it reads {model.main_input_name}, and neither images nor texts")
        return model, load_processor(name, model)


def item_similarity(model: PreTrainedModel, items: LabelledDataset) -> Tensor:
    """Compute the cosine between the mean embeddings of classes, over embeddings of length 1, `(C, C)` from -1 to 1.

    An item with several labels counts for each of them in equal parts, as in the statistics of reassignment. The model
    must be in evaluation mode, and the items without augmentation.
    """
    weights = label_weights(items.labels, items.num_labels)  # (N, C)
    counts = weights.sum(0)
    if not counts.all():
        raise ValueError(
            f"`items` must hold an item of every class, but hold none of {items.label_names[int(counts.argmin())]!r}."
        )
    sums, start = torch.zeros(()), 0
    for vectors in pooled_batches(model, items, desc="Embedding"):
        sums = sums + weights[start : start + len(vectors)].double().T @ F.normalize(vectors.double())
        start += len(vectors)
    return _cosine(sums)


def name_similarity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: list[str]) -> Tensor:
    """Compute the cosine between the embeddings of names, each of the whole name, `(C, C)` float64 from -1 to 1.

    Underscores in the C names are read as spaces. The model must be in evaluation mode.
    """
    kinds = Features(text=Value("string"), label=ClassLabel(names=names))
    rows = {"text": [name.replace("_", " ") for name in names], "label": list(range(len(names)))}
    items = TextDataset(Dataset.from_dict(rows, features=kinds), tokenizer)
    return _cosine(torch.cat([*pooled_batches(model, items, desc="Embedding")]).double())


def _cosine(vectors: Tensor) -> Tensor:
    units = F.normalize(vectors)  # (C, D)
    return units @ units.T
