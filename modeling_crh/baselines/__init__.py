"""The rivals of CRH, trained by the same trainer on the same data, backbone, head and schedule."""

from modeling_crh.baselines.csq import CSQ
from modeling_crh.baselines.dtsh import DTSH
from modeling_crh.baselines.greedyhash import GreedyHash
from modeling_crh.baselines.hashnet import HashNet
from modeling_crh.baselines.mds import MDS
from modeling_crh.baselines.objective import Objective
from modeling_crh.baselines.orthohash import OrthoHash
from modeling_crh.baselines.shc import SHC
from modeling_crh.baselines.untrained import UNTRAINED, collect_features, fit_untrained

OBJECTIVES: dict[str, type[Objective]] = {
    method.name: method for method in (CSQ, OrthoHash, MDS, SHC, HashNet, DTSH, GreedyHash)
}
"""The rivals that are trained, by the name that recipes call them."""

METHODS: tuple[str, ...] = ("crh", *OBJECTIVES, *UNTRAINED)
"""All that a recipe's `method` may be."""

__all__ = ["METHODS", "OBJECTIVES", "UNTRAINED", "Objective", "collect_features", "fit_untrained"]
