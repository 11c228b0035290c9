"""Compute all retrieval figures in one pass over the database, and figures of single bits; explain them in words."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from modeling_crh.metrics.counting import DistanceCounts, check_codes, check_top, prepare_retrieval
from modeling_crh.metrics.precision import (
    average_precision,
    average_precision_at_r,
    average_precision_bounds,
    precision_at,
    precision_within_radius,
    recall_at,
)

ROWS_PER_PRODUCT = 2**16  # float32 holds every integer up to 2**24, so a product of so many rows is exact

CONVENTION = "As papers print it, with ties in database order; only to compare with published tables."

_MEANINGS = (
    ("map", "mAP", "Mean average precision, expected over all orders of the items at equal distance."),
    (
        "map_asymmetric",
        "mAP, asymmetric",
        "Mean average precision by the dot product of the query's hash logits with the codes; equal scores tie.",
    ),
    ("map_lower", "mAP, lower bound", "The same with every tie resolved against the query."),
    ("map_upper", "mAP, upper bound", "The same with every tie resolved for the query."),
    (
        "map_at_r",
        "MAP@R",
        "Mean over the first R places of each query, R being the number of its relevant items; expected, as mAP is.",
    ),
    (r"precision_at_(\d+)", "Precision@{0}", "Share of relevant items among the {0} nearest."),
    (r"recall_at_(\d+)", "Recall@{0}", "Share of all relevant items that stand among the {0} nearest."),
    (
        r"precision_within_radius_(\d+)",
        "Precision within radius {0}",
        "Share of relevant items among those at most {0} bits away; a query that finds nothing counts 0.",
    ),
    ("map_convention", "mAP by convention", CONVENTION),
    (r"map_convention_at_(\d+)", "mAP@{0} by convention", CONVENTION),
    (r"map_(\d+)_bits", "mAP of the first {0} bits", "Mean average precision by the distance in these bits alone."),
    (
        "map_seen",
        "mAP of seen classes",
        "Mean over queries whose class the model was trained on, against the whole database.",
    ),
    (
        "map_unseen",
        "mAP of unseen classes",
        "Mean over queries of classes kept out of training, against the whole database.",
    ),
    (
        "map_unseen_alone",
        "mAP among unseen classes",
        "Mean over queries of classes kept out of training, against items of such classes alone.",
    ),
    (
        r"map_asymmetric_(seen|unseen|unseen_alone)",
        "mAP, asymmetric, {0}",
        "As `map_{0}`, by the dot product of the query's hash logits with the codes.",
    ),
    (
        r"map_((?:sub)?group)",
        "mAP by {0}",
        "Mean average precision where everything of the same {0} as the query is relevant.",
    ),
    ("queries", "Queries", "Number of queries; every figure is a mean over them."),
    ("queries_without_relevant", "Queries without a relevant item", "They count 0 in every mean."),
    ("database", "Database", "Items that each query ranks."),
    ("center_distance_least", "Least center distance", "Bits between the two closest centers."),
    ("center_distance_mean", "Mean center distance", "Bits between two centers, mean over all pairs."),
    ("bit_balance", "Bit balance", "0 if every bit is set half of the time, 1 if all are constant."),
    ("bit_correlation", "Bit correlation", "0 if bits are uncorrelated, 1 if they all tell the same or nothing."),
    ("centers_moved", "Classes moved", "Share of classes that the last reassignment moved."),
)


def bit_balance(codes: Tensor) -> float:
    """Compute how far bits are from being +1 half of the time: the mean over bits of |mean over rows|.

    Args:
        codes: Codes `(N, K)`, every entry -1 or +1.

    Returns:
        A number from 0 (every bit balanced) to 1 (every bit constant).

    Raises:
        ValueError: If `codes` has another shape, is empty, or has an entry other than -1 and +1.

    Example:
        >>> bit_balance(torch.tensor([[1, 1], [1, -1]]))
        0.5
    """
    check_codes("codes", codes)
    sums = codes.sum(dim=0, dtype=torch.int64)  # (K,)
    return sums.abs().sum().item() / codes.numel()


def bit_correlation(codes: Tensor) -> float:
    """Compute the mean absolute Pearson correlation between different bits.

    A pair with a constant bit, which has no correlation, counts 1, so that a collapsed code does not look independent.

    Args:
        codes: Codes `(N, K)`, every entry -1 or +1, `K` at least 2.

    Returns:
        A number from 0 (bits uncorrelated) to 1 (all bits equal up to sign, or constant).

    Raises:
        ValueError: If `codes` has another shape, no row, fewer than two bits, or an entry other than -1 and +1.

    Example:
        >>> bit_correlation(torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]))
        0.0
    """
    check_codes("codes", codes)
    num_rows, num_bits = codes.shape
    if num_bits < 2:
        raise ValueError("`codes` must have at least 2 bits to correlate, but has 1.")
    products = torch.zeros(num_bits, num_bits, dtype=torch.float64)
    for first in range(0, num_rows, ROWS_PER_PRODUCT):
        rows = codes[first : first + ROWS_PER_PRODUCT].float()
        products += (rows.T @ rows).cpu()
    mean = codes.sum(dim=0, dtype=torch.int64).cpu().double() / num_rows  # (K,)
    deviation = (1 - mean**2).sqrt()  # (K,), since every square is 1
    scale = deviation[:, None] * deviation  # (K, K)
    correlation = torch.where(scale > 0, (products / num_rows - mean[:, None] * mean) / scale, 1.0).abs()
    above = torch.triu_indices(num_bits, num_bits, offset=1)
    return correlation[above[0], above[1]].clamp(max=1).mean().item()


def retrieval_figures(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool = False,
    top_k: Sequence[int] = (10,),
    top_r: Sequence[int] = (),
    radius: int = 2,
) -> dict[str, float]:
    """Compute every retrieval figure, each a mean over all queries.

    Tie-aware figures, which do not depend on the order of the database:

    - `map`, the main figure: expected average precision over all orders of the tied items.
    - `map_lower`, `map_upper`: every tie resolved against, or for, the query.
    - `map_at_r`: MAP@R, the expected mean of `average_precision_at_r`.
    - `precision_at_<k>`, `recall_at_<k>` for each k of `top_k`: expected values.
    - `precision_within_radius_<radius>`: a query that finds nothing counts 0.

    Figures as papers print them, with ties in database order: `map_convention` over the whole ranking, and
    `map_convention_at_<R>` for each R of `top_r`.

    Counts: `queries`; `queries_without_relevant`, which score 0 and stay in every mean; `database`, the number of
    items that each query ranks.

    An item without a label, which has -100 or a row of zeros, is relevant to no query and finds nothing relevant.

    Args:
        query_codes: Codes of the queries, `(Q, K)`, every entry -1 or +1, any `K`.
        database_codes: Codes of the database, `(N, K)`, every entry -1 or +1.
        query_labels: Class numbers `(Q,)`, -100 for no label, or multi-hot rows `(Q, C)` of 0 and 1.
        database_labels: Labels of the database, `(N,)` or `(N, C)`, of the same kind.
        leave_one_out: Whether to leave each query out of its own ranking; both sides must be one set in one order.
        top_k: Numbers of places for precision and recall, each from 1 to `database`.
        top_r: Numbers of places for the convention, each from 1 to `database`.
        radius: Radius in bits, from 0 up.

    Returns:
        The figures by name.

    Raises:
        ValueError: If `top_k`, `top_r` or `radius` is out of range, or for a reason of `count_by_distance`.

    Example:
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, -1]])
        >>> figures = retrieval_figures(codes[:1], codes, torch.tensor([0]), torch.tensor([0, 1, 0]), top_k=[2])
        >>> round(figures["map"], 4), figures["precision_at_2"], figures["database"]
        (0.8333, 0.5, 3)
    """
    case = (query_codes, database_codes, query_labels, database_labels)
    return figures_with_counts(*case, leave_one_out=leave_one_out, top_k=top_k, top_r=top_r, radius=radius)[0]


def figures_with_counts(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool = False,
    top_k: Sequence[int] = (10,),
    top_r: Sequence[int] = (),
    radius: int = 2,
) -> tuple[dict[str, float], DistanceCounts]:
    """Compute every figure of `retrieval_figures`, and return the counts too, for a precision-recall curve.

    Example:
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, -1]])
        >>> _, counts = figures_with_counts(codes[:1], codes, torch.tensor([0]), torch.tensor([0, 1, 0]), top_k=[2])
        >>> counts.relevant
        tensor([[1, 0, 1]])
    """
    task = prepare_retrieval(query_codes, database_codes, query_labels, database_labels, leave_one_out=leave_one_out)
    for name, tops in (("top_k", top_k), ("top_r", top_r)):
        if isinstance(tops, str) or not isinstance(tops, Sequence):
            raise ValueError(f"`{name}` must be a list of whole numbers, but got {tops!r}.")
        for top in tops:
            check_top(name, top, task.num_items)
    counts, by_cut = task.rank((task.num_items, *top_r))
    lower, upper = average_precision_bounds(counts)
    figures = {"map": average_precision(counts), "map_lower": lower, "map_upper": upper}  # each (Q,)
    figures["map_at_r"] = average_precision_at_r(counts)
    figures |= dict(zip(["map_convention", *(f"map_convention_at_{cut}" for cut in top_r)], by_cut.T, strict=True))
    for top in top_k:
        figures[f"precision_at_{top}"] = precision_at(counts, top)
        figures[f"recall_at_{top}"] = recall_at(counts, top)
    figures[f"precision_within_radius_{radius}"] = precision_within_radius(counts, radius)
    without = int((counts.num_relevant == 0).sum())
    means = {name: values.mean().item() for name, values in figures.items()}
    sizes = {"queries": len(query_codes), "queries_without_relevant": without, "database": task.num_items}
    return means | sizes, counts


def explain_figure(name: str) -> tuple[str, str]:
    """Name a figure of `retrieval_figures` or of an evaluation in words, and explain it in one line.

    An unknown figure keeps its name and has an empty explanation.

    Example:
        >>> explain_figure("recall_at_5")
        ('Recall@5', 'Share of all relevant items that stand among the 5 nearest.')
    """
    for pattern, words, meaning in _MEANINGS:
        match = re.fullmatch(pattern, name)
        if match:
            return words.format(*match.groups()), meaning.format(*match.groups())
    return name.replace("_", " "), ""
