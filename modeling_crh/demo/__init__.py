"""Run the demos of `crh demo`: every step on bundled data, from training to a report."""

from modeling_crh.demo.emoji_demo import run_emoji_demo
from modeling_crh.demo.fashion_mnist_demo import run_demo

__all__ = ["run_demo", "run_emoji_demo"]
