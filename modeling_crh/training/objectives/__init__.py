"""The rivals of CRH, trained by the same trainer on the same data, backbone, head and schedule."""

import importlib
import os
import sys

from modeling_crh.training.objectives.center_objectives import CSQ, MDS, SHC, GreedyHash, OrthoHash
from modeling_crh.training.objectives.objective import Objective
from modeling_crh.training.objectives.pair_objectives import DTSH, HashNet
from modeling_crh.training.objectives.untrained import UNTRAINED, collect_features, fit_untrained

OBJECTIVES: dict[str, type[Objective]] = {
    method.name: method for method in (CSQ, OrthoHash, MDS, SHC, HashNet, DTSH, GreedyHash)
}
"""Trained rivals by their names in recipes."""

METHODS: tuple[str, ...] = ("crh", *OBJECTIVES, *UNTRAINED)
"""Allowed names of a recipe's `method`, besides `module:Class`."""


def find_objective(method: str) -> type[Objective] | None:
    """Find the objective that a method trains.

    Args:
        method: A name of `METHODS`; or `module:Class` for a subclass of `Objective`, in a module that can be imported
            from the working directory or `sys.path`. Importing a module runs its code.

    Returns:
        The class; None for CRH and for methods without training.

    Raises:
        ValueError: If the module or class does not exist, or the class is not an `Objective`.
    """
    module_name, separator, class_name = method.partition(":")
    if not separator:
        return OBJECTIVES.get(method)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # another module, imported by this one, is missing
        raise ValueError(
            f"`method` must name a module that can be imported from here, but there is no {module_name!r}."
        ) from error
    if not isinstance(found, type) or not issubclass(found, Objective):
        raise ValueError(
            f"`method` must name a subclass of modeling_crh.training.objectives.Objective as `module:Class`, but "
            f"{class_name!r} in {module_name!r} is {'not there' if found is None else 'something else'}."
        )
    return found


__all__ = ["METHODS", "OBJECTIVES", "UNTRAINED", "Objective", "collect_features", "find_objective", "fit_untrained"]
