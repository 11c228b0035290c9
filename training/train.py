"""Train from a recipe: `accelerate launch training/train.py RECIPE`, on one process or many; as `crh train` does."""

from modeling_crh.cli import run
from modeling_crh.cli.train_command import train

if __name__ == "__main__":
    run(train)
