"""Train: arguments, trainer, reassignment, recipes, runs and the rival methods."""
