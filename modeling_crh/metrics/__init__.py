"""Retrieval figures, computed from the numbers of items and relevant items at each distance."""

from pathlib import Path

from modeling_crh.metrics.asymmetric import asymmetric_average_precision
from modeling_crh.metrics.counting import DistanceCounts, count_by_distance
from modeling_crh.metrics.figures import bit_balance, bit_correlation, figures_with_counts, retrieval_figures
from modeling_crh.metrics.precision import (
    ClassFigures,
    PrecisionRecallCurve,
    average_precision,
    average_precision_at_r,
    average_precision_bounds,
    convention_average_precision,
    figures_by_class,
    precision_at,
    precision_recall_curve,
    precision_within_radius,
    recall_at,
    worst_classes,
)
from modeling_crh.metrics.semantics import (
    CenterSemantics,
    SemanticCorrelation,
    center_correlation,
    center_similarity,
    tree_similarity,
)

HAMMING_RETRIEVAL = str(Path(__file__).parent / "hamming_retrieval")
"""Path of the `evaluate` module of all figures, for `evaluate.load`."""

__all__ = [
    "HAMMING_RETRIEVAL",
    "CenterSemantics",
    "ClassFigures",
    "DistanceCounts",
    "PrecisionRecallCurve",
    "SemanticCorrelation",
    "asymmetric_average_precision",
    "average_precision",
    "average_precision_at_r",
    "average_precision_bounds",
    "bit_balance",
    "bit_correlation",
    "center_correlation",
    "center_similarity",
    "convention_average_precision",
    "count_by_distance",
    "figures_by_class",
    "figures_with_counts",
    "precision_at",
    "precision_recall_curve",
    "precision_within_radius",
    "recall_at",
    "retrieval_figures",
    "tree_similarity",
    "worst_classes",
]
