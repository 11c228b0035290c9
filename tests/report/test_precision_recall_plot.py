import math
from itertools import pairwise

import torch

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report.canvas import LIGHT
from modeling_crh.report.plots import LEAST_GAP, draw_precision_recall, labelled_radii


def test_labelled_points_stand_apart():
    recall, precision = [place / 64 for place in range(65)], [1 - (place / 64) ** 2 for place in range(65)]
    chosen = labelled_radii(recall, precision)
    assert chosen[0] == 0
    for one, other in pairwise(chosen):
        assert math.dist((recall[one], precision[one]), (recall[other], precision[other])) >= LEAST_GAP


def test_a_curve_that_finds_nothing_is_drawn():
    zeros = torch.zeros(2, dtype=torch.float64)
    png = draw_precision_recall(PrecisionRecallCurve(torch.arange(2), zeros, zeros), LIGHT, narrow=True)
    assert png.startswith(b"\x89PNG")
