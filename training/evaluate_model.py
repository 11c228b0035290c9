"""Every retrieval figure of a checkpoint: `python training/evaluate_model.py CHECKPOINT`, as `crh evaluate` does."""

from modeling_crh.cli import run
from modeling_crh.cli.encode_commands import evaluate

if __name__ == "__main__":
    run(evaluate)
