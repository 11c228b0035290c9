"""The bar of everything that may take more than two seconds."""

from functools import partial

from tqdm import tqdm

progress_bar = partial(tqdm, delay=2, disable=None, leave=False)
"""`tqdm` on standard error that appears after two seconds, and only where a person looks: never in a log file."""
