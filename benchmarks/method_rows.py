"""What `bench_methods.py` compares: data sets, methods and the small grid that every one of them chooses from."""

from dataclasses import dataclass, field
from typing import Any

Overrides = dict[str, Any]

HEAD = {"hash_head": "mlp", "hash_head_dropout": 0.3}
SCHEDULE = {
    "adam_beta1": 0.9,
    "decoupled_weight_decay": True,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {},
    "eval_strategy": "no",  # the last epoch is taken, so no epoch is chosen
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "use_cpu": True,
    "report_to": "none",
}


@dataclass(frozen=True)
class Data:
    """A data set and the budget of every method on it.

    Args:
        title: What the table calls it.
        recipe: Fields of a `Recipe`; `dataset` is a folder in the benchmark's data folder, or a benchmark.
        num_labels: C, which the sizes of codebooks are multiples of.
        learning_rates: Learning rates of the grid.
    """

    title: str
    recipe: Overrides
    num_labels: int
    learning_rates: tuple[float, ...] = (3.0e-3, 1.0e-2, 3.0e-2)


@dataclass(frozen=True)
class Row:
    """A method, or a setting of CRH.

    Args:
        title: What the table calls it.
        recipe: Fields of a `Recipe` beside those of the data.
        choices: Values of one setting of its own, two of them; each is tried with each learning rate.
        codebook_factor: M / C, where it is not the default 2.
        epochs: Share of the budget's epochs that the training proper has; SHC's first stage takes half as many.
        is_ablation: Takes the choice of CRH rather than one of its own, and is run where CRH is examined.
    """

    title: str
    recipe: Overrides = field(default_factory=dict)
    choices: tuple[Overrides, ...] = ({},)
    codebook_factor: int | None = None
    epochs: float = 1.0
    is_ablation: bool = False


def _features(name: str, title: str, num_labels: int, hidden_size: int, epochs: int) -> Data:
    training = SCHEDULE | {"num_train_epochs": epochs, "per_device_train_batch_size": 256}
    model = HEAD | {"hash_head_hidden_size": hidden_size}
    return Data(
        title, {"dataset": name, "features_column": "features", "model": model, "training": training}, num_labels
    )


DATA = {
    "emoji": _features("emoji", "emoji, EfficientNet-lite0 features", 1611, 1024, 30),
    "sections": _features("sections", "Debian sections, MiniLM features", 35, 512, 15),
    "tags": _features("tags", "Debian tags (multi-label), MiniLM features", 55, 512, 30),
    "fashion_mnist": Data(
        "Fashion-MNIST's bundled sample, a small ViT end to end",
        {
            "dataset": "fashion_mnist_sample",
            "model": {
                "backbone_config": {
                    "model_type": "vit",
                    "image_size": 28,
                    "patch_size": 7,
                    "hidden_size": 64,
                    "num_hidden_layers": 4,
                    "num_attention_heads": 4,
                    "intermediate_size": 128,
                    "hidden_dropout_prob": 0.0,
                }
            },
            "image_processor": {
                "size": {"height": 28, "width": 28},
                "image_mean": [0.286, 0.286, 0.286],
                "image_std": [0.353, 0.353, 0.353],
            },
            "training": SCHEDULE | {"num_train_epochs": 12, "per_device_train_batch_size": 128},
        },
        10,
        (1.0e-3, 3.0e-3, 1.0e-2),
    ),
}

_QUANTIZATION: tuple[Overrides, ...] = ({}, {"model": {"quantization_weight": 0.01}})


def _rival(title: str, method: str, setting: str, *values: float | None, epochs: float = 1.0) -> Row:
    choices = tuple({} if value is None else {"method_settings": {setting: value}} for value in values)
    return Row(title, {"method": method}, choices, epochs=epochs)


def _ablation(title: str, *, model: Overrides | None = None, training: Overrides | None = None) -> Row:
    return Row(title, {"model": model or {}, "training": training or {}}, is_ablation=True)


_UNTRAINED = {"model": {"hash_head": "linear", "hash_head_dropout": 0.0}, "training": {"num_train_epochs": 1}}

ROWS = {
    "best": Row("CRH, preset best", {"preset": "best"}, _QUANTIZATION),
    "crh": Row("CRH, the paper's form", {}, _QUANTIZATION),
    "best_more": Row("CRH, preset best, with half of the epochs on top", {"preset": "best"}, _QUANTIZATION, epochs=1.5),
    "crh_bn": Row("CRH, batch norm of the hash logits", {"model": {"hash_head_batch_norm": True}}, _QUANTIZATION),
    "crh_scale": Row("CRH, scale of the code length", {"model": {"scale": "num_bits"}}, _QUANTIZATION),
    "crh_more": Row("CRH, with half of the epochs on top", {}, _QUANTIZATION, epochs=1.5),
    "shared": Row("CRH, shared words", {"model": {"codebook": "shared", "shared_room": 1.27}}, _QUANTIZATION),
    "fixed": Row("CRH, centers that never move", {"training": {"reassignment": "none"}}, _QUANTIZATION),
    "csq": _rival("CSQ", "csq", "quantization_weight", None, 0.1),
    "orthohash": _rival("OrthoHash", "orthohash", "scale", None, 16.0),
    "mds": _rival("MDS", "mds", "quantization_weight", None, 0.1),
    "shc": _rival("SHC", "shc", "quantization_weight", None, 0.1, epochs=2 / 3),
    "shc_more": _rival("SHC, with half of the epochs on top", "shc", "quantization_weight", None, 0.1),
    "hashnet": _rival("HashNet", "hashnet", "final_beta", None, 2.0),
    "dtsh": _rival("DTSH", "dtsh", "quantization_weight", None, 0.1),
    "greedyhash": _rival("GreedyHash", "greedyhash", "quantization_weight", None, 0.01),
    "itq": Row("ITQ", {"method": "itq"} | _UNTRAINED, ()),
    "lsh": Row("LSH", {"method": "lsh"} | _UNTRAINED, ()),
    "greedy": _ablation("CRH, greedy", training={"reassignment": "greedy"}),
    "soft": _ablation("CRH, means of tanh", training={"soft_statistics": True}),
    "one_head": Row("CRH, one head", is_ablation=True),
    "m1": Row("CRH, M = C", codebook_factor=1, is_ablation=True),
    "m4": Row("CRH, M = 4C", codebook_factor=4, is_ablation=True),
    "m8": Row("CRH, M = 8C", codebook_factor=8, is_ablation=True),
    "shared_d1": _ablation("CRH, shared words of 1 bit", model={"codebook": "shared", "head_dim": 1}),
    "shared_d2": _ablation("CRH, shared words of 2 bits", model={"codebook": "shared", "head_dim": 2}),
    "shared_d4": _ablation("CRH, shared words of 4 bits", model={"codebook": "shared"}),
    "shared_d8": _ablation("CRH, shared words of 8 bits", model={"codebook": "shared", "head_dim": 8}),
    "shared_more_room": _ablation(
        "CRH, shared words, room for 2.5 C", model={"codebook": "shared", "shared_room": 2.5}
    ),
    "draws": _ablation("CRH, best of 100 codebooks", model={"codebook_draws": 100}),
}


def make_recipe(data: Data, row: Row, num_bits: int, seed: int, choice: Overrides) -> Overrides:
    """Fields of the `Recipe` of a cell; dicts of the row and the choice are merged into those of the data."""
    model: Overrides = {"num_bits": num_bits}
    if row.codebook_factor is not None:
        model["codebook_size"] = row.codebook_factor * data.num_labels
    if row is ROWS["one_head"]:
        model["head_dim"] = num_bits
    merged: Overrides = {"seed": seed}
    for part in (data.recipe, row.recipe, {"model": model}, choice):
        for name, value in part.items():
            merged[name] = merged.get(name, {}) | value if isinstance(value, dict) else value
    epochs = merged["training"]["num_train_epochs"]
    merged["training"] = merged["training"] | {"num_train_epochs": round(row.epochs * epochs)}
    return merged


def grid(data: Data, row: Row) -> list[Overrides]:
    """All choices of a row; none where nothing is trained."""
    return [choice | {"training": {"learning_rate": rate}} for rate in data.learning_rates for choice in row.choices]
