"""A few searches to look at."""

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from modeling_crh.codes import hamming_distance
from modeling_crh.data.images import decode_image, without_decoding
from modeling_crh.encoding import EncodedItems
from modeling_crh.report import Neighbour, SearchResult

NUM_QUERIES = 10
NUM_NEIGHBOURS = 10


def draw_queries(query: EncodedItems, seed: int) -> list[int]:
    """Rows of one random query of each class, or of each of ten random classes where there are more.

    Args:
        query: With one class an item.
        seed: Of what is drawn.
    """
    generator = np.random.default_rng(seed)
    classes = np.arange(len(query.label_names))
    if len(classes) > NUM_QUERIES:
        classes = np.sort(generator.choice(classes, NUM_QUERIES, replace=False))
    return [int(generator.choice((query.labels == label).nonzero().flatten().numpy())) for label in classes.tolist()]


def search_examples(
    images: dict[str, Dataset], encoded: dict[str, EncodedItems], rows: list[int]
) -> list[SearchResult]:
    """What some queries find in the database; ties stand in database order.

    Args:
        images: `query` and `database`, with a column `image`.
        encoded: Their codes and labels, one class an item, in the same order.
        rows: The queries.
    """
    query, database = encoded["query"], encoded["database"]
    names = query.label_names
    pictures = {name: without_decoding(images[name]) for name in ("query", "database")}
    results = []
    for row in rows:
        label = int(query.labels[row])
        distance, found = hamming_distance(query.codes[row : row + 1], database.codes)[0].sort(stable=True)
        neighbours = tuple(
            Neighbour(
                image=_pixels(pictures["database"], item),
                labels=(names[int(database.labels[item])],),
                distance=int(bits),
                relevant=bool(database.labels[item] == label),
            )
            for bits, item in zip(distance[:NUM_NEIGHBOURS].tolist(), found[:NUM_NEIGHBOURS].tolist(), strict=True)
        )
        results.append(SearchResult(_pixels(pictures["query"], row), (names[label],), neighbours))
    return results


def _pixels(images: Dataset, row: int) -> NDArray[np.uint8]:
    return decode_image(images[row]["image"], f"row {row}").permute(1, 2, 0).numpy()
