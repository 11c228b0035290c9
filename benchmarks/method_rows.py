"""What `bench_methods.py` compares: data sets, methods and the small grid that every one of them chooses from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
        recipe: Fields of a `Recipe`. A `dataset` of features, `data_dir` and `backbone` are folders in the benchmark's
            data folder; another `dataset` is a benchmark.
        num_labels: C, which the sizes of codebooks are multiples of.
        learning_rates: Learning rates of the grid, which is widened where the best one is the first or the last.
        grid_of: Data set whose grid chooses the settings; None for its own.
        tries_settings: Whether the grid has both settings of every method, or its default one alone.
    """

    title: str
    recipe: Overrides
    num_labels: int
    learning_rates: tuple[float, ...] = (3.0e-3, 1.0e-2, 3.0e-2)
    grid_of: str | None = None
    tries_settings: bool = True


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
        baseline: Name in `method_baselines.py`, for a row that `crh train` cannot make.
        num_bytes: Size of an item where it does not depend on K: as a number of bytes, or of bytes per feature.
    """

    title: str
    recipe: Overrides = field(default_factory=dict)
    choices: tuple[Overrides, ...] = ({},)
    codebook_factor: int | None = None
    epochs: float = 1.0
    is_ablation: bool = False
    baseline: str = ""
    num_bytes: str = ""

    @property
    def is_rival(self) -> bool:
        """Whether it makes codes of K bits by another method than CRH with centers that move."""
        never_moves = self.recipe.get("training", {}).get("reassignment") == "none"
        is_other = "method" in self.recipe or self.baseline != "" or never_moves
        return is_other and not self.num_bytes


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
DATA["emoji_pictures"] = Data(
    "emoji, EfficientNet-lite0 trained through at 64 pixels",
    {
        "dataset": "emoji",
        "data_dir": "pictures/emoji",
        "backbone": "pictures/lite0",
        "image_processor": {"size": {"height": 64, "width": 64}},
        "training": SCHEDULE | {"num_train_epochs": 5, "per_device_train_batch_size": 128},
    },
    1611,
    (3.0e-4, 1.0e-3, 3.0e-3),
    tries_settings=False,
)
_STAMPS = _features("stamps", "Pictures of things, a few a class, EfficientNet-lite0 features", 33, 256, 30)
DATA["stamps"] = replace(
    _STAMPS, recipe=_STAMPS.recipe | {"training": _STAMPS.recipe["training"] | {"per_device_train_batch_size": 64}}
)
DATA |= {
    f"{name}_unseen": replace(
        DATA[name],
        title=f"{DATA[name].title.partition(',')[0]}, half of the classes unseen",
        recipe=DATA[name].recipe | {"unseen_fraction": 0.5},
        grid_of=name,
    )
    for name in ("emoji", "sections")
}

_QUANTIZATION: tuple[Overrides, ...] = ({}, {"model": {"quantization_weight": 0.01}})


def _rival(title: str, method: str, setting: str, *values: float | None, epochs: float = 1.0) -> Row:
    choices = tuple({} if value is None else {"method_settings": {setting: value}} for value in values)
    return Row(title, {"method": method}, choices, epochs=epochs)


def _ablation(title: str, *, model: Overrides | None = None, training: Overrides | None = None) -> Row:
    return Row(title, {"model": model or {}, "training": training or {}}, is_ablation=True)


def _metric(title: str, name: str, *scales: float) -> Row:
    """A loss of metric learning, with and without a batch norm of its K numbers."""
    batch_norms: tuple[Overrides, ...] = ({}, {"model": {"hash_head_batch_norm": True}})
    settings: list[Overrides] = [{"method_settings": {"scale": scale}} for scale in scales] or [{}]
    choices = tuple(one | other for one in batch_norms for other in settings)
    return Row(f"{title}, signs of K numbers", {"method": f"method_losses:{name}"}, choices)


def _baseline(title: str, name: str, num_bytes: str = "") -> Row:
    return Row(title, baseline=name, num_bytes=num_bytes, choices=() if name.startswith("raw_") else ({},))


_UNTRAINED = {"model": {"hash_head": "linear", "hash_head_dropout": 0.0}, "training": {"num_train_epochs": 1}}

ROWS = {
    "best": Row("CRH, preset best", {"preset": "best"}, _QUANTIZATION),
    "crh": Row("CRH, the paper's form", {}, _QUANTIZATION),
    "best_more": Row(
        "CRH, preset best with one dropout mask, with half of the epochs on top",
        {"preset": "best", "model": {"dropout_masks": 1}},
        _QUANTIZATION,
        epochs=1.5,
    ),
    "best_one_mask": Row(
        "CRH, preset best with one dropout mask", {"preset": "best", "model": {"dropout_masks": 1}}, _QUANTIZATION
    ),
    "best_no_proxies": Row(
        "CRH, preset best with one dropout mask and no proxies",
        {"preset": "best", "model": {"dropout_masks": 1, "proxy_share": 0.0}},
        _QUANTIZATION,
    ),
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
    "cosface": _metric("CosFace", "CosFace", 64.0, 16.0),
    "arcface": _metric("ArcFace", "ArcFace", 64.0, 16.0),
    "proxyanchor": _metric("ProxyAnchor", "ProxyAnchor"),
    "supcon": _metric("SupCon", "SupCon"),
    "matryoshka": _baseline("Matryoshka, signs of the first K numbers", "matryoshka"),
    "classifier_sign": _baseline("Classifier's hidden layer, signs of K components", "sign"),
    "classifier_itq": _baseline("Classifier's hidden layer, ITQ", "itq"),
    "classifier_pq": _baseline("Classifier's hidden layer, PQ", "pq"),
    "classifier_opq": _baseline("Classifier's hidden layer, OPQ", "opq"),
    "class_id": _baseline("Predicted class, ranked by the query's posterior", "class_id", "2"),
    "classifier_int8": _baseline("Classifier's hidden layer, int8", "int8", "1 a dimension"),
    "classifier_float": _baseline("Classifier's hidden layer, float32", "float", "4 a dimension"),
    "raw_cut": _baseline("Features, signs of the first K dimensions (sentence-transformers)", "raw_cut"),
    "raw_sign": _baseline("Features, signs of all dimensions", "raw_sign", "1/8 a dimension"),
    "raw_int8": _baseline("Features, int8", "raw_int8", "1 a dimension"),
    "raw_float": _baseline("Features, float32", "raw_float", "4 a dimension"),
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


RATES = (3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 3.0e-2, 1.0e-1, 3.0e-1, 1.0)
"""Learning rates that a grid may hold."""


def grid(row: Row, data: Data, rates: Sequence[float]) -> list[Overrides]:
    """Make all choices of a row with some learning rates; none where nothing is trained."""
    choices = row.choices if data.tries_settings else row.choices[:1]
    return [choice | {"training": {"learning_rate": rate}} for rate in rates for choice in choices]
