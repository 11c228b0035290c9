"""What does ordering a database by the hash logits of a query gain over ordering it by bits, and what does it cost?

Method: the queries and the database of a benchmark are encoded by a checkpoint, of the database only the codes are
kept. Each of four rankings orders the whole database. `bits`: by Hamming distance. `logits`: by v . b, the dot product
of the query's hash logits with the codes. `posterior`: by the sum over the classes of p(c | query) p(c | item), each
the softmax of the scaled cosines with the centers, as in training. `nearest_center`: by p(c | query) of the class whose
center is nearest to the code. Items with equal codes tie in all of them, those at the same distance in the first, and
those near the same center in the last; every figure is the expectation over all orders of what ties.

`found`: the share of the ten hits of `HammingIndex.search`, re-ranked among so many candidates, that score no less than
the tenth best of the whole database. `ms`: of that search, one query at a time, plain and re-ranked as by default, in
turns; `ms_of_a_table`: of `LanceIndex.search`, for 100 of the queries.

With `--half ROW`, a head is trained first, by that row of method_rows.py and a learning rate of 0.01, on every second
class of a folder of features. The rankings are then those of queries of seen and of unseen classes, each in a database
of the same classes and of all.

    python benchmarks/bench_rerank.py [--checkpoint DIR --dataset NAME [--features-column features]] [--rounds 5]
    python benchmarks/bench_rerank.py --half crh --num-bits 32 --dataset DIR --features-column features
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from bench_search import medians
from method_rows import DATA, ROWS, make_recipe
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import label_names, load_splits
from modeling_crh.encoding import EncodedItems, load_checkpoint
from modeling_crh.metrics import DistanceCounts, average_precision, count_by_distance, precision_at
from modeling_crh.search import HammingIndex
from modeling_crh.search.code_index import CodeIndex
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.training.evaluation import encode_splits
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

CANDIDATES, K = (100, 200, 500, 1000), 10


def figures(items: Tensor, hits: Tensor) -> dict[str, float]:
    """Figures, expected over all orders of what ties, from the numbers of items and relevant ones in each tie."""
    counts = DistanceCounts(items, hits)
    return {
        "map": round(average_precision(counts).mean().item(), 4),
        "precision_at_10": round(precision_at(counts, K).mean().item(), 4),
    }


def rank(scores: Tensor, group: Tensor, relevant: Tensor) -> dict[str, float]:
    """Figures of a ranking of groups of items that tie.

    Args:
        scores: Of each group for each query, `(Q, G)`, the largest first.
        group: Group of each item, `(N,)`.
        relevant: Which items are relevant to each query, `(Q, N)` of 0 and 1.
    """
    items = group.bincount(minlength=scores.shape[1]).expand(len(scores), -1)  # (Q, G)
    hits = torch.zeros(scores.shape).index_add(1, group, relevant).long()
    order = scores.argsort(1, descending=True)
    return figures(items.gather(1, order), hits.gather(1, order))


def compare(query: EncodedItems, database: EncodedItems, model: Any) -> dict[str, dict[str, float]]:
    """Figures of the four rankings, by name."""
    centers: Tensor = model.centers.float()  # (C, K)
    assert query.hash_logits is not None
    logits, labels = query.hash_logits, (query.labels, database.labels)
    distinct, group = database.codes.unique(dim=0, return_inverse=True)  # (G, K), (N,)
    classes = [rows if rows.ndim == 2 else one_hot(rows, int(max(map(Tensor.max, labels))) + 1) for rows in labels]
    relevant = (classes[0].float() @ classes[1].float().T > 0).float()  # (Q, N)

    def posterior(rows: Tensor) -> Tensor:
        cosines = normalize(rows.float()) @ normalize(centers).T
        return torch.softmax(model.config.scale * cosines, dim=1)  # (., C)

    by_bits = count_by_distance(query.codes, database.codes, *labels)
    of_query, nearest = posterior(logits), (distinct.float() @ centers.T).argmax(1)  # (Q, C), (G,)
    return {
        "bits": figures(by_bits.items, by_bits.relevant),
        "logits": rank(logits.double() @ distinct.double().T, group, relevant),
        "posterior": rank(of_query @ posterior(distinct).T, group, relevant),
        "nearest_center": rank(of_query, nearest[group], relevant),
    }


def compare_halves(encoded: dict[str, EncodedItems], seen: Tensor, model: Any) -> dict[str, Any]:
    """The rankings of seen and unseen classes; `seen` holds the numbers of the classes that `model` was trained on."""
    cases = {}
    is_seen = {name: torch.isin(items.labels, seen) for name, items in encoded.items()}
    everything = torch.ones_like(is_seen["database"])
    for name, side in (("seen", True), ("unseen", False)):
        queries = pick(encoded["query"], is_seen["query"] == side)
        for place, rows in (("", is_seen["database"] == side), ("_among_all", everything)):
            database = pick(encoded["database"], rows)
            cases[name + place] = compare(queries, database, model)
    return cases


def pick(items: EncodedItems, rows: Tensor) -> EncodedItems:
    """Some items, by a mask `(N,)`."""
    logits = None if items.hash_logits is None else items.hash_logits[rows]
    return EncodedItems(items.codes[rows], items.labels[rows], items.label_names, logits)


def train_half(arguments: argparse.Namespace, seen: list[str]) -> Any:
    """Train a head on some classes of a folder of features, in a folder that is thrown away; return its model."""
    choice: dict[str, Any] = {"training": {"learning_rate": 0.01}}
    fields = make_recipe(DATA["emoji"], ROWS[arguments.half], arguments.num_bits, arguments.seed, choice)
    with TemporaryDirectory() as name:
        folder = Path(name, "half")
        folder.mkdir()
        for file in Path(arguments.dataset).glob("*.parquet"):
            table = pq.read_table(file)
            pq.write_table(table.filter(pc.is_in(table["label"], pa.array(seen))), folder / file.name)
        return train(Recipe.from_dict(fields | {"dataset": str(folder)}), Path(name, "run")).model


def share_found(logits: Tensor, database: Tensor) -> dict[int, float]:
    """Share of the ten best of the whole database, by the number of candidates."""
    index, codes = HammingIndex(pack_codes(database), kind="flat"), database.float()
    tenth = (logits @ codes.T).topk(K).values[:, -1:]
    shares = {}
    for wanted in CANDIDATES:
        packed = pack_codes(binarize(logits))
        positions = index.find(packed, K, rerank_logits=logits, num_candidates=wanted).positions
        scores = (codes[torch.from_numpy(positions)] @ logits[:, :, None]).squeeze(2)  # (Q, K)
        rounding = 1e-5 * logits.abs().sum(1, keepdim=True)
        shares[wanted] = round((scores >= tenth - rounding).double().mean().item(), 4)
    return shares


def time_search(index: CodeIndex, logits: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds a query, plain and re-ranked."""
    queries = [(pack_codes(binarize(row)).numpy(), row) for row in logits.split(1)]
    sides: list[Callable[[], object]] = [
        lambda: [index.search(packed, K) for packed, _ in queries],
        lambda: [index.search(packed, K, rerank_logits=row) for packed, row in queries],
    ]
    plain, reranked = (round(1e3 * time / len(queries), 3) for time in medians(sides, rounds))
    return {"plain": plain, "reranked": reranked}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT))
    parser.add_argument("--dataset", default="fashion_mnist_sample")
    parser.add_argument("--text-column", default=None)
    parser.add_argument("--features-column", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--half", choices=[name for name in ROWS if not ROWS[name].is_ablation], default=None)
    parser.add_argument("--num-bits", type=int, default=32, help="of the head that --half trains")
    parser.add_argument("--seed", type=int, default=0, help="of the head that --half trains")
    arguments = parser.parse_args()
    columns = {"text_column": arguments.text_column, "features_column": arguments.features_column}
    splits = load_splits(arguments.dataset, **columns).splits
    document: dict[str, Any] = {"dataset": arguments.dataset}
    if arguments.half is not None:
        names = label_names(splits["database"])
        model = train_half(arguments, names[::2])
        encoded = encode_splits(model, None, splits)
        document |= {"half": arguments.half, "seed": arguments.seed, "num_bits": arguments.num_bits}
        print(json.dumps(document | compare_halves(encoded, torch.arange(0, len(names), 2), model)))
        return
    model, processor = load_checkpoint(arguments.checkpoint)
    encoded = encode_splits(model, processor, splits)
    query, codes = encoded["query"], encoded["database"].codes
    assert query.hash_logits is not None
    document |= {"queries": len(query.codes), "database": len(codes), "distinct_codes": len(codes.unique(dim=0))}
    document |= {"num_bits": codes.shape[1], "found": share_found(query.hash_logits, codes)}
    document["rankings"] = compare(query, encoded["database"], model)
    document["ms"] = time_search(HammingIndex(pack_codes(codes), kind="flat"), query.hash_logits, arguments.rounds)
    with TemporaryDirectory() as name:
        table = LanceIndex.create(Path(name, "codes.lance"), pack_codes(codes), kind="flat")
        document["ms_of_a_table"] = time_search(table, query.hash_logits[:100], arguments.rounds)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
