"""Figures of one ranking, from their definition."""


def average_precision_of(ranking):
    """Average precision of the hits and misses of a ranking; 0 without a hit."""
    hits = [place for place, hit in enumerate(ranking, start=1) if hit]
    return sum(number / place for number, place in enumerate(hits, start=1)) / max(1, len(hits))
