"""The rivals of CRH, trained by the same trainer on the same data, backbone, head and schedule."""

from modeling_crh.training.objectives.center_objectives import CSQ, MDS, GreedyHash, OrthoHash
from modeling_crh.training.objectives.objective import Objective
from modeling_crh.training.objectives.pair_objectives import DTSH, HashNet
from modeling_crh.training.objectives.shc import SHC
from modeling_crh.training.objectives.untrained import UNTRAINED, collect_features, fit_untrained

OBJECTIVES: dict[str, type[Objective]] = {
    method.name: method for method in (CSQ, OrthoHash, MDS, SHC, HashNet, DTSH, GreedyHash)
}
"""The rivals that are trained, by the name that recipes call them."""

METHODS: tuple[str, ...] = ("crh", *OBJECTIVES, *UNTRAINED)
"""All that a recipe's `method` may be."""

__all__ = ["METHODS", "OBJECTIVES", "UNTRAINED", "Objective", "collect_features", "fit_untrained"]
