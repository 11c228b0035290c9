"""What a trained model is worth: retrieval figures at every level of the classes, and how semantic its centers are."""

from pathlib import Path
from typing import cast

import torch
from datasets import Dataset, DatasetDict

from modeling_crh.codebook import compose_centers
from modeling_crh.data import class_levels, has_levels, label_names
from modeling_crh.encoding import EncodedItems, encode_items
from modeling_crh.encoding.inputs import Processor, labelled_dataset
from modeling_crh.metrics import (
    CenterSemantics,
    average_precision,
    center_correlation,
    count_by_distance,
    retrieval_figures,
)
from modeling_crh.modeling_crh import CRHModel, draw_first_centers
from modeling_crh.training.references import reference_similarity

Levels = dict[str, list[str]]


def evaluate_splits(
    model: CRHModel, processor: Processor, splits: DatasetDict, *, batch_size: int = 256, num_workers: int = 0
) -> dict[str, float]:
    """All figures of the split `query` against `database`, see `figures_of`."""
    encoded = encode_splits(model, processor, splits, batch_size=batch_size, num_workers=num_workers)
    return figures_of(encoded, levels_of(splits))


def encode_splits(
    model: CRHModel, processor: Processor, splits: DatasetDict, *, batch_size: int = 256, num_workers: int = 0
) -> dict[str, EncodedItems]:
    """Codes and labels of the splits `query` and `database`; the other arguments are those of `encode_items`."""
    items = {name: labelled_dataset(splits[name], processor) for name in ("query", "database")}
    return {
        name: encode_items(model, rows, batch_size=batch_size, num_workers=num_workers) for name, rows in items.items()
    }


def levels_of(splits: DatasetDict) -> Levels:
    """The taxonomy that comes with a dataset, as `class_levels` has it; empty if none does."""
    return class_levels(splits["database"]) if has_levels(splits["database"]) else {}


def figures_of(encoded: dict[str, EncodedItems], levels: Levels | None = None) -> dict[str, float]:
    """All retrieval figures of `query` against `database`, by name; see `retrieval_figures`.

    Args:
        encoded: From `encode_splits`.
        levels: Level to the name that each class has there. Each gives one more figure, `map_<level>`: the tie-aware
            mAP where items are relevant that share that name with the query.
    """
    query, database = encoded["query"], encoded["database"]
    top_k = [k for k in (1, 10, 100) if k <= len(database.codes)]
    figures = retrieval_figures(query.codes, database.codes, query.labels, database.labels, top_k=top_k)
    for level, names in (levels or {}).items():
        ids = {name: number for number, name in enumerate(dict.fromkeys(names))}
        nodes = torch.tensor([ids[name] for name in names])  # (C,)
        counts = count_by_distance(query.codes, database.codes, nodes[query.labels], nodes[database.labels])
        figures[f"map_{level}"] = average_precision(counts).mean().item()
    return figures


def correlate_centers(
    model: CRHModel,
    database: Dataset,
    reference: str,
    *,
    data_dir: str | Path | None = None,
    items_per_class: int | None = None,
    batch_size: int = 64,
) -> CenterSemantics:
    """PCC of the centers of a model with a reference similarity of their classes, as the paper measures it.

    Args:
        model: Trained by CRH, so that its config draws the centers that it started from.
        database: A split with a row of every class of the model, in any order.
        reference: See `reference_similarity`, as are the other arguments.
        data_dir: Of a taxonomy that lies in official files.
        items_per_class: Images of a class to look at.
        batch_size: Items at a time.

    Raises:
        ValueError: If the classes are not those of the model, or `reference` breaks its rule.
    """
    names, known = list(cast(dict[int, str], model.config.id2label).values()), label_names(database)
    if sorted(names) != sorted(known):
        raise ValueError(
            f"`dataset` must have the {len(names)} classes of the model to compare its centers, but has "
            f"{len(set(names) & set(known))} of them and {len(set(known) - set(names))} others."
        )
    similarity = reference_similarity(
        reference, database, data_dir=data_dir, items_per_class=items_per_class, batch_size=batch_size
    )
    place = {name: row for row, name in enumerate(known)}
    order = torch.tensor([place[name] for name in names])
    similarity = similarity[order][:, order]  # (C, C), in the order of the model
    first = compose_centers(*draw_first_centers(model.config))
    before, after = (center_correlation(centers, similarity) for centers in (first, model.centers.cpu()))
    return CenterSemantics(reference, before, after)
