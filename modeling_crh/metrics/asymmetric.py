"""Average precision of an asymmetric search: the query keeps its hash logits, the database its codes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.codes import check_tensor
from modeling_crh.metrics.counting import MAX_THREADS, QUERIES_AT_ONCE, check_codes, pack_label_pair
from modeling_crh.metrics.precision import expected_precision_sums
from modeling_crh.metrics.ranking import relevance_of

ITEMS_AT_ONCE = 2**13  # whose codes are float64 at a time
PAIRS_AT_ONCE = 2**23  # of a query and an item
_LARGEST_SCORE = 2**30  # twice a score, and a bit beside it, fit into int32, which sorts fast


def asymmetric_average_precision(
    query_logits: Tensor, database_codes: Tensor, query_labels: Tensor, database_labels: Tensor
) -> Tensor:
    """Compute the expected average precision of each query with the database ranked by v . b, largest first.

    v are the hash logits of the query, b the code of an item: the query keeps its numbers, the database its bits. Items
    with equal scores tie, as those with equal codes do, and the value is the expectation over all orders of what ties.
    It does not depend on the order of the database. If the logits are themselves -1 and +1, the score is K - 2
    distance, and the result that of `average_precision`.

    So that sums are exact in whatever order they are taken, the logits of a query are first rounded to whole multiples
    of a power of two, at most the sum of their absolute values divided by 2^29; this breaks no tie of logits of few
    digits, such as bfloat16. Beyond the arguments and the result, this takes at most 30 bytes for each of 2^23 pairs of
    a query and an item.

    Args:
        query_logits: Hash logits of the queries, `(Q, K)`, floating point, finite.
        database_codes: Codes of the database: `(N, K)`, every entry -1 or +1; or packed, `(N, K / 8)` `uint8`.
        query_labels: Class numbers `(Q,)`, -100 for no label, or multi-hot rows `(Q, C)` of 0 and 1.
        database_labels: Labels of the database, `(N,)` or `(N, C)`, of the same kind.

    Returns:
        `(Q,)` `float64`, from 0 to 1; 0 for a query without a relevant item.

    Raises:
        ValueError: If a side is empty, logits, codes or labels are malformed, or the two sides do not fit together.

    Example:
        >>> database = torch.tensor([[1, -1], [-1, 1]])  # both at a distance of 1 bit from the query
        >>> asymmetric_average_precision(torch.tensor([[2.0, 0.5]]), database, torch.tensor([0]), torch.tensor([0, 1]))
        tensor([1.], dtype=torch.float64)
    """
    logits = _whole_logits(query_logits, database_codes)
    num_queries, num_items = len(logits), len(database_codes)
    labels = pack_label_pair(query_labels, database_labels, (num_queries, num_items))
    step = max(1, min(QUERIES_AT_ONCE, PAIRS_AT_ONCE // num_items))
    values: list[float] = []
    with ThreadPoolExecutor(min(torch.get_num_threads(), MAX_THREADS)) as pool:
        for first in range(0, num_queries, step):
            rows = slice(first, first + step)
            keys = _scores(logits[rows], database_codes)  # (B, N)
            keys *= -2  # the best item first
            keys += relevance_of(labels, rows)  # in a tie the relevant items come last
            values += pool.map(tied_average_precision, keys)
    return torch.tensor(values, dtype=torch.float64)


def _whole_logits(query_logits: Tensor, database_codes: Tensor) -> Tensor:
    """Check logits and codes, and return the logits as whole numbers, of which no sum exceeds `_LARGEST_SCORE`."""
    check_tensor("query_logits", query_logits)
    if query_logits.ndim != 2 or 0 in query_logits.shape or not query_logits.is_floating_point():
        raise ValueError(
            "`query_logits` must be (Q, K) floating point with at least one row and one bit, "
            f"but got {query_logits.dtype} of shape {tuple(query_logits.shape)}."
        )
    if not torch.isfinite(query_logits).all():
        raise ValueError("`query_logits` must be finite, but some are not.")
    check_tensor("database_codes", database_codes)
    packed = database_codes.dtype == torch.uint8
    if not packed:
        check_codes("database_codes", database_codes)
    num_bits = query_logits.shape[1]
    expected = num_bits // 8 if packed and num_bits % 8 == 0 else num_bits
    if database_codes.ndim != 2 or len(database_codes) == 0 or database_codes.shape[1] != expected:
        raise ValueError(
            f"`database_codes` must have the K={num_bits} bits of `query_logits`, (N, K) or packed (N, K / 8), "
            f"but got {database_codes.dtype} of shape {tuple(database_codes.shape)}."
        )
    exact = query_logits.detach().cpu().double()
    exact = torch.ldexp(exact, -torch.frexp(exact.abs().amax(dim=1, keepdim=True)).exponent)  # or sums might overflow
    total = exact.abs().sum(dim=1, keepdim=True)  # (Q, 1)
    most = (_LARGEST_SCORE - num_bits) / torch.where(total > 0, total, 1.0)
    return (exact * most.log2().floor().exp2()).round()


def _scores(logits: Tensor, database_codes: Tensor) -> NDArray[np.int32]:
    """Compute v . b of whole logits `(B, K)` with all codes, `(B, N)`; float64 holds every sum exactly."""
    scores = np.empty((len(logits), len(database_codes)), np.int32)
    for first in range(0, len(database_codes), ITEMS_AT_ONCE):
        codes = database_codes[first : first + ITEMS_AT_ONCE].cpu()
        if codes.dtype == torch.uint8:
            codes = 2 * torch.from_numpy(np.unpackbits(codes.numpy(), axis=1).view(np.int8)) - 1
        scores[:, first : first + ITEMS_AT_ONCE] = (logits @ codes.double().T).numpy()
    return scores


def tied_average_precision(keys: NDArray[Any]) -> float:
    """Compute the expected average precision of a query from the keys `(N,)` of all items, which it sorts in place.

    Items tie if their keys are equal but for the last bit, which is set for the relevant ones.
    """
    keys.sort()
    places = np.flatnonzero(keys & 1)  # of the relevant items, from 0
    if not len(places):
        return 0.0
    hits = keys[places]
    last = np.append(np.flatnonzero(hits[1:] != hits[:-1]), len(hits) - 1)  # of each tie, among the relevant
    relevant, ends = np.diff(last, prepend=-1), places[last] + 1
    starts = ends - relevant
    mixed = (starts > 0) & (keys[starts - 1] == hits[last] - 1)  # ties that hold other items, too
    starts[mixed] = np.searchsorted(keys, hits[last[mixed]] - 1)
    alone = ends - starts == 1
    score = ((last[alone] + 1) / ends[alone]).sum()
    groups = (ends - starts, relevant, starts, last + 1 - relevant)
    sums = expected_precision_sums(*(torch.from_numpy(part[~alone]).double() for part in groups))  # slow for many
    return float((score + sums.sum().item()) / len(places))
