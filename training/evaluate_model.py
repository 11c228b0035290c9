"""Every retrieval figure of a checkpoint: `python training/evaluate_model.py CHECKPOINT`, as `crh evaluate` does."""

from modeling_crh.cli import evaluate, run

if __name__ == "__main__":
    run(evaluate)
