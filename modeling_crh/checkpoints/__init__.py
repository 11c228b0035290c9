"""Checkpoints that ship with the library, each with its own model card."""

from pathlib import Path

FASHION_MNIST_64 = Path(__file__).parent / "fashion-mnist-64"
"""64 bits, trained on the whole of Fashion-MNIST: what `pipeline("crh-hashing")` loads when no model is named."""
