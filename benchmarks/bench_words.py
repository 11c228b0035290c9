"""Do words find pictures, by codes of a model of texts that was trained to the centers of a model of pictures?

Method: a head on EfficientNet-lite0's features of the emoji is trained as in `bench_methods.py`; its codes of the
held-out drawings, two of each of the 1,611 emoji, are the database. A head on MiniLM's features of the emoji's names
and keywords is trained to its fixed centers by `centers_from`; a word has the labels of all emoji that it belongs to.
Of the keywords that are no name, a fifth, drawn by the seed, are queries: no text model or map has seen them with any
emoji. A tenth of the rest choose the learning rate, and the settings of the map, against the validation drawings. All
rows see the same words and drawings. `hits_at_10` is the share of queries with a drawing of one of their emoji among
the ten nearest, expected over all orders of what ties.

- `crh`: distance in bits between the code of the word and those of the drawings.
- `crh_logits`: dot product of the word's hash logits with the codes of the drawings.
- `ridge_cosine`: cosine, in floats, between the drawings' features and a linear map of the word's features to the mean
  feature of its emoji's training drawings, by ridge regression with one pair for each emoji of a word.
- `ridge_head`: the same map, then the head of the pictures and its signs; distance in bits.
- `ridge_centers`: signs of a map by ridge regression, on the same pairs, to the centers of the pictures' model;
  distance in bits. `ridge_centers_logits`: dot product of what this map gives with the codes of the drawings.
- `chance`: ten drawings at random.

`new` is over the queries that share no part between spaces or hyphens with a word of the training.

    python benchmarks/method_data.py runs/methods-data                    # once; it unpacks MiniLM too
    python benchmarks/builders/emoji_words.py --model RUN --out words.csv  # RUN: any run on the emoji
    python benchmarks/bench_words.py --data runs/methods-data --words words.csv --minilm MINILM [--seeds 3]

The last line of output is one JSON document; `interval` is half the width of the 95 % interval of the mean over seeds.
"""

import csv
import json
import math
import re
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from bench_methods import RESULTS, best_choice, read_cells
from datasets import Dataset, disable_progress_bars
from method_rows import DATA, HEAD, ROWS, SCHEDULE, make_recipe
from torch import Tensor
from torch.nn.functional import normalize

from modeling_crh import CRHModel
from modeling_crh.cli import run as run_command
from modeling_crh.codes import binarize
from modeling_crh.data import label_names, prepare_dataset
from modeling_crh.encoding import encode_items, labelled_dataset, load_backbone
from modeling_crh.encoding.feature_tables import extract_views
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

K = 10
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
LEARNING_RATES = (1.0e-2, 3.0e-2, 1.0e-1)
PENALTIES = tuple(10.0**power for power in range(-2, 5))
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t by number of seeds, for a 95 % interval of the mean."""

Parts = dict[str, list[int]]


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    words: Annotated[Path, typer.Option(help="Table that emoji_words.py has written.")],
    minilm: Annotated[Path, typer.Option(help="Folder of MiniLM.")],
    num_bits: Annotated[int, typer.Option(help="Length of a code in bits.")] = 64,
    seeds: Annotated[int, typer.Option(min=2, max=5, help="Number of seeds, of the draw and of all training.")] = 3,
) -> None:
    """Train, map and search for each seed, and print the figures."""
    disable_progress_bars()
    with words.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    features = word_features(minilm, [row["text"] for row in rows])
    found: list[dict[str, Any]] = []
    for seed in range(seeds):
        with TemporaryDirectory() as folder:
            found.append(run_seed(data, rows, features, num_bits, seed, Path(folder)))
        print(json.dumps({"seed": seed} | found[-1]), flush=True)
    figures = {name: summary([one["rows"][name] for one in found]) for name in found[0]["rows"]}
    counts = {name: [one[name] for one in found] for name in found[0] if name != "rows"}
    print(json.dumps({"num_bits": num_bits, "seeds": seeds, "words": len(rows), **counts, "rows": figures}))


def summary(cells: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean over seeds and half the width of its 95 % interval, for each figure."""
    result = {}
    for name in cells[0]:
        values = [cell[name] for cell in cells]
        half = T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
        result[name] = {"mean": round(statistics.mean(values), 4), "interval": round(half, 4)}
    return result


def word_features(minilm: Path, texts: list[str]) -> Tensor:
    """MiniLM's features of texts, `(N, F)`."""
    backbone, tokenizer = load_backbone(minilm)
    table = Dataset.from_dict({"text": texts, "label": ["a", "b"] + ["a"] * (len(texts) - 2)})
    return extract_views(backbone, tokenizer, prepare_dataset(table, text_column="text"))[:, 0]


def draw_words(rows: list[dict[str, str]], seed: int) -> Parts:
    """Row numbers of `train`, `val` and `query`; names of emoji are always in `train`."""
    keywords = [number for number, row in enumerate(rows) if row["is_name"] == "0"]
    drawn = np.random.default_rng(seed).permutation(keywords).tolist()
    first, second = (round(share * len(drawn)) for share in (TEST_SHARE, TEST_SHARE + VALIDATION_SHARE))
    held_out = set(drawn[:second])
    rest = [number for number in range(len(rows)) if number not in held_out]
    return {"train": rest, "val": sorted(drawn[first:second]), "query": sorted(drawn[:first])}


def run_seed(
    data: Path, rows: list[dict[str, str]], features: Tensor, num_bits: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Figures of one seed."""
    choice = best_choice("emoji", "crh", read_cells(RESULTS))
    fields = make_recipe(DATA["emoji"], ROWS["crh"], num_bits, seed, choice) | {"dataset": str(data / "emoji")}
    run = train(Recipe.from_dict(fields), folder / "pictures")
    names = label_names(run.splits["train"])
    ids = {name: number for number, name in enumerate(names)}
    labels = torch.zeros(len(rows), len(names))
    for number, row in enumerate(rows):
        labels[number, [ids[name] for name in row["label"].split("|")]] = 1
    parts = draw_words(rows, seed)
    items = {name: labelled_dataset(run.splits[name], None) for name in ("train", "validation", "query")}
    pictures = {name: encode_items(run.model, part) for name, part in items.items()}
    looks = {name: part.inputs(range(len(part)))["features"] for name, part in items.items()}

    def hits(side: str, similarity: Tensor) -> Tensor:
        """`(Q,)` of the words of a part; the database is that of the held-out or of the validation drawings."""
        owners = pictures["query" if side == "query" else "validation"].labels
        return expected_hits(similarity, labels[parts[side]][:, owners] > 0)

    def codes(side: str) -> Tensor:
        return pictures["query" if side == "query" else "validation"].codes.float()

    model = best_text_model(rows, features, parts, folder, seed, lambda found: hits("val", found @ codes("val").T))
    chosen = features[parts["query"]]
    with torch.inference_mode():
        logits = model(features=chosen).hash_logits
    centre = looks["train"].mean(0)
    means = class_means(looks["train"] - centre, pictures["train"].labels, len(names))
    inputs = {side: features[numbers] for side, numbers in parts.items()}
    pairs = labels[parts["train"]].nonzero().unbind(1)
    near = normalize(looks["validation"] - centre)
    mapped = best_map(inputs, pairs, means, lambda found: hits("val", normalize(found) @ near.T))
    to_centers = best_map(
        inputs, pairs, run.model.centers.float(), lambda found: hits("val", binarize(found).float() @ codes("val").T)
    )
    with torch.inference_mode():
        head = binarize(run.model(features=mapped + centre).hash_logits).float()
    database = codes("query")
    scores = {
        "crh": binarize(logits).float() @ database.T,
        "crh_logits": logits @ database.T,
        "ridge_cosine": normalize(mapped) @ normalize(looks["query"] - centre).T,
        "ridge_head": head @ database.T,
        "ridge_centers": binarize(to_centers).float() @ database.T,
        "ridge_centers_logits": to_centers @ database.T,
        "chance": torch.zeros(len(chosen), len(database)),
    }
    seen = {part for number in parts["train"] for part in pieces(rows[number]["text"])}
    is_new = torch.tensor([not seen & pieces(rows[number]["text"]) for number in parts["query"]])
    figures = {}
    for name, score in scores.items():
        found = hits("query", score)
        figures[name] = {"hits_at_10": found.mean().item(), "new": found[is_new].mean().item()}
    counts = {name: len(numbers) for name, numbers in parts.items()} | {"new": int(is_new.sum())}
    return counts | {"drawings": len(database), "rows": figures}


def pieces(text: str) -> set[str]:
    """Parts of a text between spaces and hyphens."""
    return set(re.split(r"[\s-]+", text))


def best_text_model(
    rows: list[dict[str, str]], features: Tensor, parts: Parts, folder: Path, seed: int, judge: Any
) -> CRHModel:
    """Train a head on words for each learning rate, to the centers of `folder / "pictures"`, and keep the best."""
    (folder / "words").mkdir()
    for name, numbers in parts.items():
        columns = {
            "features": pa.array(features[numbers].tolist(), pa.list_(pa.float32())),
            "label": [rows[number]["label"].split("|") for number in numbers],
        }
        pq.write_table(pa.table(columns), folder / "words" / f"{name}.parquet")
    best: tuple[float, CRHModel] | None = None
    for rate in LEARNING_RATES:
        training = SCHEDULE | {"num_train_epochs": 30, "per_device_train_batch_size": 100, "learning_rate": rate}
        recipe = Recipe(
            dataset=str(folder / "words"),
            features_column="features",
            model=HEAD | {"hash_head_hidden_size": 1024},
            training=training,
            centers_from=str(folder / "pictures"),
            seed=seed,
        )
        model = train(recipe, folder / f"words-{rate}").model
        with torch.inference_mode():
            found = binarize(model(features=features[parts["val"]]).hash_logits).float()
        score = judge(found).mean().item()
        print(f"seed {seed}, learning rate {rate}: {score:.4f} on validation", flush=True)
        if best is None or score > best[0]:
            best = score, model
    assert best is not None
    return best[1]


def class_means(values: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Mean of the rows of each class, `(C, F)`."""
    sums = torch.zeros(num_labels, values.shape[1]).index_add(0, labels, values)
    return sums / labels.bincount(minlength=num_labels)[:, None]


def best_map(inputs: dict[str, Tensor], pairs: tuple[Tensor, ...], targets: Tensor, judge: Any) -> Tensor:
    """Map the queries linearly by ridge regression, with the penalty that is best on validation.

    Args:
        inputs: Features `(N, F)` of the words of each part.
        pairs: Numbers of training words and of their classes.
        targets: What to map a word of each class to, `(C, D)`.
        judge: Function from mapped words of the validation, `(N, D)`, to their hits.

    Returns:
        `(Q, D)`.
    """
    words, classes = pairs
    middle, shift = inputs["train"][words].mean(0), targets[classes].mean(0)
    x, y = (inputs["train"] - middle)[words].double(), (targets - shift)[classes].double()
    gram, cross = x.T @ x, x.T @ y
    best: tuple[float, Tensor] | None = None
    for penalty in PENALTIES:
        weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).double(), cross).float()
        mapped = {side: (inputs[side] - middle) @ weights + shift for side in ("val", "query")}
        score = judge(mapped["val"]).mean().item()
        print(f"ridge, penalty {penalty:g}: {score:.4f} on validation", flush=True)
        if best is None or score > best[0]:
            best = score, mapped["query"]
    assert best is not None
    return best[1]


def expected_hits(similarity: Tensor, relevant: Tensor, k: int = K) -> Tensor:
    """Probability that one of the `k` most similar items is relevant, over all orders of items that tie.

    Args:
        similarity: `(Q, N)`.
        relevant: `(Q, N)` bool.
        k: Number of items.

    Returns:
        `(Q,)`.

    Example:
        >>> expected_hits(torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([[False, True, False]]), k=2)
        tensor([0.5000])
    """
    last = similarity.topk(k, dim=1).values[:, -1:]
    above, tied = similarity > last, similarity == last
    chances = []
    for row in range(len(similarity)):
        if (above[row] & relevant[row]).any():
            chances.append(1.0)
            continue
        total, good = int(tied[row].sum()), int((tied[row] & relevant[row]).sum())
        places = k - int(above[row].sum())
        chances.append(1 - math.comb(total - good, places) / math.comb(total, places))
    return torch.tensor(chances)


if __name__ == "__main__":
    run_command(bench)
