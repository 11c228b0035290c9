import os
from types import SimpleNamespace

import pytest
import torch

from modeling_crh.runtime import processes
from modeling_crh.runtime.processes import choose_workers


@pytest.mark.parametrize(
    ("main_input_name", "chosen", "device", "cores", "local_processes", "expected"),
    [  # images have the workers that the cores allow
        ("pixel_values", None, "cpu", 2, 1, 0),
        ("pixel_values", None, "cpu", 16, 1, 4),
        ("pixel_values", None, "cpu", 16, 2, 2),
        ("pixel_values", None, "cpu", 96, 1, 8),
        ("pixel_values", None, "cuda", 1, 1, 1),
        ("pixel_values", None, "cuda", 4, 1, 4),
        ("pixel_values", None, "cuda", 4, 8, 1),
        ("pixel_values", None, "cuda", 96, 1, 8),
        # what needs no decoding has none
        ("input_ids", None, "cuda", 16, 1, 0),
        ("features", None, "cuda", 16, 1, 0),
        # a number that was chosen stays
        ("pixel_values", 0, "cuda", 16, 1, 0),
        ("features", 3, "cuda", 16, 1, 3),
    ],
)
def test_workers_are_chosen_by_the_input_and_the_machine(
    monkeypatch, main_input_name, chosen, device, cores, local_processes, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(processes, "own_state", lambda: SimpleNamespace(device=torch.device(device)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local_processes))
    assert choose_workers(main_input_name, chosen) == expected
