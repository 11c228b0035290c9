"""Train: arguments, trainer, reassignment, recipes, runs and the rival methods.

`train(choose_recipe(...), folder)` does what `crh train` does; `CRHTrainer` is the part that takes a model and items of
your own.
"""

from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.assignment import add_labels
from modeling_crh.training.callbacks import ReassignCentersCallback
from modeling_crh.training.chosen_recipe import choose_recipe
from modeling_crh.training.evaluation import evaluate_splits
from modeling_crh.training.objectives import METHODS, Objective
from modeling_crh.training.recipe import MODEL_PRESETS, Recipe
from modeling_crh.training.run import TrainedRun, dry_run, train
from modeling_crh.training.trainer import CRHTrainer

__all__ = [
    "METHODS",
    "MODEL_PRESETS",
    "CRHTrainer",
    "CRHTrainingArguments",
    "Objective",
    "ReassignCentersCallback",
    "Recipe",
    "TrainedRun",
    "add_labels",
    "choose_recipe",
    "dry_run",
    "evaluate_splits",
    "train",
]
