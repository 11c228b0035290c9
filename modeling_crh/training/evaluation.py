"""Evaluate a trained model: retrieval figures at every level of the classes, and PCC of its centers."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import EvalPrediction, TrainerState, TrainingArguments

from modeling_crh.checks import one_reason
from modeling_crh.codebook import center_distances, compose_centers
from modeling_crh.codes import binarize
from modeling_crh.data import LoadedSplits, class_levels, has_levels, is_multi_label, label_names
from modeling_crh.encoding import EncodedItems, encode_items
from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.items import labelled_dataset
from modeling_crh.encoding.loading import class_names
from modeling_crh.hub.run_record import RunRecord, public_recipe
from modeling_crh.losses import NO_LABEL
from modeling_crh.metrics import (
    CenterSemantics,
    ClassFigures,
    asymmetric_average_precision,
    average_precision,
    bit_balance,
    bit_correlation,
    center_correlation,
    count_by_distance,
    figures_by_class,
    retrieval_figures,
)
from modeling_crh.modeling_crh import CRHModel, draw_first_centers
from modeling_crh.runtime.atomic_files import write_json, write_text
from modeling_crh.training.checkpointing import DIVISION_NAME, ROWS_NAME
from modeling_crh.training.chosen_recipe import find_in_run
from modeling_crh.training.references import reference_similarity

_NOT_FIGURES = {"loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time"}


def evaluate_splits(
    model: CRHModel, processor: Processor, splits: DatasetDict, *, batch_size: int = 256, num_workers: int = 0
) -> dict[str, float]:
    """Encode the splits `query` and `database`, and compute the figures of `split_figures`."""
    encoded = encode_splits(model, processor, splits, batch_size=batch_size, num_workers=num_workers)
    return split_figures(model, encoded, splits)


def encode_splits(
    model: CRHModel, processor: Processor, splits: DatasetDict, *, batch_size: int = 256, num_workers: int = 0
) -> dict[str, EncodedItems]:
    """Encode the splits `query` and `database` of `load_splits`; the model is then in evaluation mode."""
    settings = {"batch_size": batch_size, "num_workers": num_workers}
    return {
        name: encode_items(model, labelled_dataset(splits[name], processor), **settings, keep_logits=name == "query")
        for name in ("query", "database")
    }


def split_figures(model: CRHModel, encoded: dict[str, EncodedItems], splits: DatasetDict) -> dict[str, float]:
    """Compute all figures of the queries of a model: those of `figures_of`, by every level and prefix that there is.

    Where the model knows some classes of the database by name and others not, see `Division.unseen_fraction`, the
    figures of `unseen_figures` are added. `encoded` are the splits by `encode_splits`.
    """
    database = splits["database"]
    levels = class_levels(database) if has_levels(database) else {}
    figures = figures_of(encoded, levels, model.config.lengths[:-1])
    known, names = set(class_names(model)), label_names(database)
    unseen = [number for number, name in enumerate(names) if name not in known]
    both = 0 < len(unseen) < len(names) and not is_multi_label(database)
    return figures | unseen_figures(encoded, unseen) if both else figures


def figures_of(
    encoded: dict[str, EncodedItems], levels: dict[str, list[str]] | None = None, prefix_bits: Sequence[int] = ()
) -> dict[str, float]:
    """Compute all retrieval figures of `query` against `database`, by name; see `retrieval_figures`.

    Hash logits of the queries add `map_asymmetric`, the mean of `asymmetric_average_precision`.

    Args:
        encoded: Codes and labels, and hash logits of the queries, from `encode_splits`.
        levels: Names of the nodes of all classes, by level. Each level adds the figure `map_<level>`: the tie-aware mAP
            with all items of the query's node as relevant.
        prefix_bits: Numbers of first bits. Each adds the figure `map_<length>_bits`, the tie-aware mAP of these bits.
    """
    query, database = encoded["query"], encoded["database"]
    top_k = [k for k in (1, 10, 100) if k <= len(database.codes)]
    figures = retrieval_figures(query.codes, database.codes, query.labels, database.labels, top_k=top_k)
    if query.hash_logits is not None:
        found = asymmetric_average_precision(query.hash_logits, database.codes, query.labels, database.labels)
        figures = {"map": figures["map"], "map_asymmetric": found.mean().item()} | figures
    for length in prefix_bits:
        counts = count_by_distance(query.codes[:, :length], database.codes[:, :length], query.labels, database.labels)
        figures[f"map_{length}_bits"] = average_precision(counts).mean().item()
    for level, names in (levels or {}).items():
        ids = {name: number for number, name in enumerate(dict.fromkeys(names))}
        nodes = torch.tensor([*(ids[name] for name in names), NO_LABEL])  # (C + 1,)
        relevant = (nodes[items.labels.clamp(min=-1)] for items in (query, database))
        counts = count_by_distance(query.codes, database.codes, *relevant)
        figures[f"map_{level}"] = average_precision(counts).mean().item()
    return figures


def unseen_figures(encoded: dict[str, EncodedItems], unseen: Sequence[int]) -> dict[str, float]:
    """Compute tie-aware mAP apart for queries of classes that the model has not been trained on.

    `encoded` is of `encode_splits`, with one class per item; `unseen` are the ids of the classes.

    Returns:
        `map_seen`, of the queries of other classes, and `map_unseen`, both against the whole database; and
        `map_unseen_alone`, against the items of unseen classes. With hash logits each is there by the dot product with
        the codes too, as `map_asymmetric_seen` and so on. A figure without queries or items is left out.
    """
    query, database = encoded["query"], encoded["database"]
    queries, items = (torch.isin(part.labels, torch.tensor(unseen)) for part in (query, database))
    everything, figures = torch.ones_like(items), dict[str, float]()
    for name, asked, searched in (
        ("seen", ~queries & (query.labels != NO_LABEL), everything),
        ("unseen", queries, everything),
        ("unseen_alone", queries, items),
    ):
        if not asked.any() or not searched.any():
            continue
        codes, labels = database.codes[searched], (query.labels[asked], database.labels[searched])
        counts = count_by_distance(query.codes[asked], codes, *labels)
        figures[f"map_{name}"] = average_precision(counts).mean().item()
        if query.hash_logits is not None:
            found = asymmetric_average_precision(query.hash_logits[asked], codes, *labels)
            figures[f"map_asymmetric_{name}"] = found.mean().item()
    return figures


def class_figures_of(encoded: dict[str, EncodedItems]) -> list[ClassFigures]:
    """Compute the tie-aware mAP of each class, from the codes and labels of `encode_splits`; see `figures_by_class`."""
    query, database = encoded["query"], encoded["database"]
    counts = count_by_distance(query.codes, database.codes, query.labels, database.labels)
    return figures_by_class(average_precision(counts), query.labels, database.labels, query.label_names)


def validation_figures(
    prediction: EvalPrediction, database: tuple[Tensor, Tensor] | None, centers: Tensor | None
) -> dict[str, Any]:
    """Compute the figures of one evaluation during training, from the hash logits and labels of the queries.

    Without codes and labels of a database, the queries themselves are ranked, each left out of its own ranking.

    Returns:
        The figures of `retrieval_figures`, with precision and recall at 10 (or at the size of a smaller database), the
        balance and correlation of the bits, and the least and mean distance between centers, if there are some.
    """
    codes, labels = binarize(torch.as_tensor(prediction.predictions)), torch.as_tensor(prediction.label_ids)
    alone = database is None
    others, their_labels = (codes, labels) if database is None else database
    top_k = (min(10, len(others) - alone),)
    figures = retrieval_figures(codes, others, labels, their_labels, leave_one_out=alone, top_k=top_k)
    if centers is not None:
        distances = center_distances(centers)
        figures |= {"center_distance_least": distances.least, "center_distance_mean": distances.mean}
    return figures | {"bit_balance": bit_balance(codes), "bit_correlation": bit_correlation(codes)}


def write_division(out: Path, data: LoadedSplits) -> None:
    """Write into the folder of a run what tells whether its data are divided as they were, and rows of a benchmark."""
    write_json(out / DIVISION_NAME, {"digest": data.digest, "num_rows": data.splits.num_rows})
    if data.rows is not None:
        rows = {name: chosen.tolist() for name, chosen in data.rows.items()}
        write_text(out / ROWS_NAME, json.dumps(rows) + "\n")


def check_division(checkpoint: str | Path, data: LoadedSplits) -> None:
    """Check that the data of a run are divided as they were when it was trained; a run of an older version passes.

    Raises:
        ValueError: If their rows or labels have changed, since queries would be items of the training.
    """
    file = find_in_run(checkpoint, DIVISION_NAME)
    if file is None:
        return
    with one_reason(f"`checkpoint` must hold a whole {DIVISION_NAME}, but {str(file)!r} is not", KeyError, ValueError):
        saved = json.loads(file.read_text(encoding="utf-8"))
        then, digest = "{database:,} and {query:,}".format(**saved["num_rows"]), saved["digest"]
    if digest != data.digest:
        now = "{database:,} and {query:,}".format(**data.splits.num_rows)
        raise ValueError(
            "`dataset` must hold the rows and labels that the run was trained with, or queries would be items of its "
            f"training, but they have changed: database and queries had {then} rows and now have {now}. Rows that are "
            "new to the run can be evaluated from a file or folder of their own."
        )


def describe_run(args: TrainingArguments, state: TrainerState, is_training: bool) -> RunRecord:
    """Describe a training for a model card: settings, and figures of the model, which is the best or the last.

    Only settings that differ from their defaults, and name no path and no account, are included.
    """
    evaluations = [row for row in state.log_history if "eval_map" in row]
    is_best = args.load_best_model_at_end and not is_training
    best = [row for row in evaluations if is_best and row["step"] == state.best_global_step]
    chosen = (best or evaluations[-1:] or [{}])[-1]
    figures = {name.partition("eval_")[2]: value for name, value in chosen.items()}
    defaults = {entry.name: entry.default for entry in dataclasses.fields(args)}
    changed = {name: value for name, value in args.to_dict().items() if value != defaults.get(name)}
    return RunRecord(
        figures={name: value for name, value in figures.items() if name and name not in _NOT_FIGURES},
        split="validation",
        recipe=public_recipe({"training": changed, "seed": args.seed}),
        history=state.log_history,
    )


def correlate_centers(
    model: CRHModel, database: Dataset, reference: str, *, data_dir: str | Path | None = None
) -> CenterSemantics:
    """Compute the PCC of the centers of a model with a reference similarity of their classes, as in the paper.

    The config of the model gives the centers at the start of training. For the other arguments see
    `reference_similarity`; the rows of `database` may have the classes of the model in any order.

    Raises:
        ValueError: If the model has other classes than `database`, or `reference` cannot be used.
    """
    names, known = class_names(model), label_names(database)
    if sorted(names) != sorted(known):
        raise ValueError(
            f"`dataset` must have the {len(names)} classes of the model to compare its centers, but has "
            f"{len(set(names) & set(known))} of them and {len(set(known) - set(names))} others."
        )
    similarity = reference_similarity(reference, database, data_dir=data_dir)
    place = {name: row for row, name in enumerate(known)}
    order = torch.tensor([place[name] for name in names])
    similarity = similarity[order][:, order]  # (C, C), in the order of the model
    first = compose_centers(*draw_first_centers(model.config))
    before, after = (center_correlation(centers, similarity) for centers in (first, model.centers.cpu()))
    return CenterSemantics(reference, before, after)
