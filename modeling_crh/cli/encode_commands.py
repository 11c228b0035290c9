"""`crh encode`, `crh features` and `crh evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.cli.options import (
    BatchSize,
    Compiled,
    DataOptions,
    Json,
    NumBits,
    NumWorkers,
    Pooling,
    Precision,
    Tower,
    argument,
    option,
    with_data_options,
)
from modeling_crh.data_source import DataSource, Division
from modeling_crh.runtime.terminal import name_bad_rows, print_figures, print_summary, print_table, say

if TYPE_CHECKING:
    from modeling_crh.encoding.encoder import Encoder


@with_data_options(DataSource, argument="SOURCE")
def encode(
    checkpoint: Annotated[str, argument("Folder or Hub id of a trained model.")],
    data: DataOptions,
    out: Annotated[Path, option("Folder for the codes: new, or begun by the same command.")],
    num_bits: NumBits = None,
    shard_size: Annotated[
        int, option("Number of rows per file; an interrupted run loses at most one file.", min=1)
    ] = 10_000,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = None,
    dtype: Precision = "auto",
    compiled: Compiled = False,
    engine: Annotated[
        Literal["torch", "onnx"],
        option("*onnx* computes in int8 by ONNX Runtime, on the CPU; its ranges come from the source."),
    ] = "torch",
    as_json: Json = False,
) -> None:
    """Encode images, sounds, texts or features into parquet files of codes; an interrupted run can be continued."""
    from modeling_crh.data import open_source
    from modeling_crh.encoding import Encoder
    from modeling_crh.encoding.encode import encode_source
    from modeling_crh.encoding.manifest import EncodingRecord
    from modeling_crh.encoding.shards import shard_files
    from modeling_crh.runtime.processes import leave_processes, own_state
    from modeling_crh.training.chosen_recipe import options_of_run

    settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
    if engine == "onnx":
        encoder: Encoder = _load_onnx_encoder(checkpoint, dtype, compiled, num_bits=num_bits, **settings)
    else:
        begun = EncodingRecord.read(out)
        precision: Any = dtype
        if dtype == "auto" and begun is not None and begun.engine == engine:
            precision = begun.dtype
        encoder = Encoder.load(checkpoint, num_bits=num_bits, dtype=precision, compiled=compiled, **settings)
    inherited = options_of_run(checkpoint, data, columns_only=True)
    options = inherited | data
    skip_bad = options.pop("skip_bad", False)
    source = open_source(**options, needs_label="label_column" in data)
    unnamed = ("dataset", "allow_urls")  # which rows may be read changes no code
    chosen = {name: str(value) for name, value in options.items() if name not in unnamed and value not in (None, False)}
    try:
        encoded = encode_source(
            encoder, source, out, model_name=checkpoint, options=chosen, shard_size=shard_size, skip_bad=skip_bad
        )
    except KeyboardInterrupt:
        complete = len(list(shard_files(out)))
        found = f"{complete} file{'s' if complete != 1 else ''} of {shard_size} rows" if complete else "nothing yet"
        say(f"In {out} is {found}; the same command goes on from there.")
        raise typer.Exit(130) from None
    if own_state().is_main_process:
        name_bad_rows(encoded.left_out)
        items, left_out = encoded.items, len(encoded.left_out)
        summary = {"codes": str(encoded.folder), "items": items, "left_out": left_out, "num_bits": encoder.num_bits}
        found = "were there already, in" if encoded.was_complete else "in"
        print_summary(summary, f"{items} codes of {encoder.num_bits} bits {found} {encoded.folder}", as_json)
    leave_processes()


@with_data_options(DataSource, argument="SOURCE", leave_out=("features_column",))
def features(
    checkpoint: Annotated[str, argument("Folder or Hub id of a backbone, or of a trained model.")],
    data: DataOptions,
    out: Annotated[Path, option("Folder for the tables: `features`, or one table per split of the data.")],
    tower: Tower = None,
    pooling: Pooling = None,
    views: Annotated[
        int, option("Number of views per training image: the image itself, and augmented ones.", min=1)
    ] = 1,
    augmentation: Annotated[str, option("Augmentation of the views: light or standard.")] = "standard",
    seed: Annotated[int, option("Seed of the augmentation.", min=0)] = 0,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = None,
    dtype: Precision = "auto",
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Store a backbone's features of labelled images, sounds or texts, for `crh train --features-column features`."""
    from modeling_crh.data import read_parts
    from modeling_crh.encoding import load_backbone
    from modeling_crh.encoding.encoder import place_model
    from modeling_crh.encoding.feature_tables import store_features
    from modeling_crh.runtime.processes import choose_workers

    backbone, processor = load_backbone(checkpoint, tower, pooling)
    place_model(backbone, dtype, compiled=compiled)
    parts, bad_rows = read_parts(DataSource(**data))
    name_bad_rows(bad_rows)
    sizes = {"batch_size": batch_size, "num_workers": choose_workers(backbone.main_input_name, num_workers)}
    augmented: dict[str, Any] = {"num_views": views, "augment": augmentation, "seed": seed}
    files = store_features(backbone, processor, parts, out, **augmented, **sizes)
    items = sum(map(len, parts.values()))
    summary = {"features": [str(file) for file in files], "items": items, "left_out": len(bad_rows), "views": views}
    print_summary(summary, f"Features of {items} items in {out}", as_json)


@with_data_options(DataSource, Division)
def evaluate(
    data: DataOptions,
    checkpoint: Annotated[
        str | None, argument("Folder or Hub id of a trained model.", shown="the Fashion-MNIST model that ships")
    ] = None,
    reference: Annotated[
        str | None,
        option(
            "Compare the centers with a *taxonomy* of the classes, or with their similarity under the model of "
            "this folder or Hub id: PCC and p value.",
            shown="none",
        ),
    ] = None,
    per_class: Annotated[
        bool, option("Also list the ten classes with the lowest mAP; with --json, all of them.", "--per-class")
    ] = False,
    num_bits: NumBits = None,
    batch_size: BatchSize = 256,
    num_workers: NumWorkers = None,
    dtype: Precision = "float32",
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Evaluate a model: retrieval figures of the queries of a dataset against its database.

    Columns, division and the rule for bad rows default to those of the run that trained the model.
    """
    from modeling_crh.data import load_splits
    from modeling_crh.encoding import Encoder
    from modeling_crh.metrics import worst_classes
    from modeling_crh.runtime.processes import choose_workers
    from modeling_crh.training import evaluation
    from modeling_crh.training.chosen_recipe import find_recipe, is_own_data, options_of_run

    name = checkpoint or str(DEFAULT_CHECKPOINT)
    recipe = find_recipe(name)
    if reference is not None and recipe is not None and recipe.method != "crh":
        raise ValueError(f"`reference` must be left out for {recipe.method}, since only the centers of CRH move.")
    encoder = Encoder.load(name, num_bits=num_bits, dtype=dtype, compiled=compiled)
    options: dict[str, Any] = options_of_run(name, data) | data
    options.setdefault("dataset", "fashion_mnist_sample")
    loaded = load_splits(**options)
    name_bad_rows(loaded.bad_rows)
    if recipe is not None and is_own_data(recipe, **options):
        evaluation.check_division(name, loaded)
    semantics: dict[str, Any] = {}
    if reference is not None:  # before the figures, so that an error comes before minutes of work
        database = loaded.splits["database"]
        found = evaluation.correlate_centers(encoder.model, database, reference, data_dir=options.get("data_dir"))
        for when in ("before", "after"):
            semantics[f"pcc_{when}"], semantics[f"p_value_{when}"] = getattr(found, when)[:2]
    workers = choose_workers(encoder.model.main_input_name, num_workers)
    sizes = {"batch_size": batch_size, "num_workers": workers}
    encoded = evaluation.encode_splits(encoder.model, encoder.processor, loaded.splits, **sizes)
    figures = evaluation.split_figures(encoder.model, encoded, loaded.splits)
    by_class = evaluation.class_figures_of(encoded) if per_class else []
    if per_class and as_json:
        semantics["per_class"] = [one._asdict() for one in by_class]
    context = {"checkpoint": name, "dataset": options["dataset"], "num_bits": encoder.num_bits}
    print_figures(figures | semantics, f"{name} on {options['dataset']}", as_json, context)
    if per_class and not as_json:
        worst = worst_classes(by_class)
        rows = [(one.name, f"{one.map:.4f}", f"{one.queries:,}", f"{one.database:,}") for one in worst]
        print_table(("class", "mAP>", "queries>", "database>"), rows, title="Classes with the lowest mAP")


def _load_onnx_encoder(checkpoint: str, dtype: str, compiled: bool, **settings: Any) -> "Encoder":
    """Load a model for ONNX Runtime, unless an option is given that only torch has."""
    from modeling_crh.export.onnx_encoder import OnnxEncoder

    for name, value, is_given in (("dtype", dtype, dtype != "auto"), ("compile", compiled, compiled)):
        if is_given:
            rule = f"`{name}` must be left out with `engine` 'onnx', which computes in int8"
            raise ValueError(f"{rule}, but got {value!r}.")
    return OnnxEncoder.load(checkpoint, **settings)
