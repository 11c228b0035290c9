"""That Numba's cache is a comfort, not a condition. What the kernel computes, the tests of the figures tell."""

import subprocess
import sys

COUNT = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # as where neither the package's folder nor the user's may be written
import torch
from modeling_crh.metrics import count_by_distance
codes = torch.ones(2, 4)
print(count_by_distance(codes, codes, torch.zeros(2), torch.zeros(2)).items.tolist())
"""


def test_figures_come_without_a_folder_for_the_cache():
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True)
    assert run.stdout.strip() == "[[2, 0, 0, 0, 0], [2, 0, 0, 0, 0]]", run.stderr
