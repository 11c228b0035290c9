"""Names of the figures in words, and their meanings."""

import re

CONVENTION = "As papers print it, with ties in database order; only to compare with published tables."

_MEANINGS = (
    ("map", "mAP", "Mean average precision, expected over all orders of the items at equal distance."),
    ("map_lower", "mAP, lower bound", "The same with every tie resolved against the query."),
    ("map_upper", "mAP, upper bound", "The same with every tie resolved for the query."),
    (r"precision_at_(\d+)", "Precision@{0}", "Share of relevant items among the {0} nearest."),
    (r"recall_at_(\d+)", "Recall@{0}", "Share of all relevant items that stand among the {0} nearest."),
    (
        r"precision_within_radius_(\d+)",
        "Precision within radius {0}",
        "Share of relevant items among those at most {0} bits away; a query that finds nothing counts 0.",
    ),
    ("map_convention", "mAP by convention", CONVENTION),
    (r"map_convention_at_(\d+)", "mAP@{0} by convention", CONVENTION),
    (
        r"map_((?:sub)?group)",
        "mAP by {0}",
        "Mean average precision where everything of the same {0} as the query is relevant.",
    ),
    ("queries", "Queries", "Searches that every figure is the mean of."),
    ("queries_without_relevant", "Queries without a relevant item", "They count 0 in every mean."),
    ("database", "Database", "Items that each query ranks."),
    ("center_distance_least", "Least center distance", "Bits between the two closest centers."),
    ("center_distance_mean", "Mean center distance", "Bits between two centers, mean over all pairs."),
    ("bit_balance", "Bit balance", "0 if every bit is set half of the time, 1 if all are constant."),
    ("bit_correlation", "Bit correlation", "0 if bits are uncorrelated, 1 if they all tell the same or nothing."),
    ("centers_moved", "Classes moved", "Share of classes that the last reassignment moved."),
)


def explain_figure(name: str) -> tuple[str, str]:
    """Name a figure in words, and explain it in one line.

    Args:
        name: Key of the figure in `retrieval_figures` or in an evaluation.

    Returns:
        The name and the line. An unknown figure keeps its name and has an empty line.

    Example:
        >>> explain_figure("recall_at_5")
        ('Recall@5', 'Share of all relevant items that stand among the 5 nearest.')
    """
    for pattern, words, meaning in _MEANINGS:
        match = re.fullmatch(pattern, name)
        if match:
            return words.format(*match.groups()), meaning.format(*match.groups())
    return name.replace("_", " "), ""


def format_figure(value: float) -> str:
    """Write a count as a whole number and anything else with four decimals.

    Example:
        >>> format_figure(6000), format_figure(0.5)
        ('6,000', '0.5000')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
