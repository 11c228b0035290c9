import os
from types import SimpleNamespace

import pytest
import torch

from modeling_crh.runtime import processes
from modeling_crh.runtime.processes import choose_workers


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be on a machine."""

    def pretend(device, cores, local_processes):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
        monkeypatch.setattr(processes, "own_state", lambda: SimpleNamespace(device=torch.device(device)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local_processes))

    return pretend


@pytest.mark.parametrize(
    ("device", "cores", "local_processes", "expected"),
    [
        ("cpu", 2, 1, 0),
        ("cpu", 16, 1, 4),
        ("cpu", 16, 2, 2),
        ("cpu", 96, 1, 8),
        ("cuda", 1, 1, 1),
        ("cuda", 4, 1, 4),
        ("cuda", 4, 8, 1),
        ("cuda", 96, 1, 8),
    ],
)
def test_images_have_the_workers_that_the_cores_allow(machine, device, cores, local_processes, expected):
    machine(device, cores, local_processes)
    assert choose_workers("pixel_values") == expected


@pytest.mark.parametrize("main_input_name", ["input_ids", "features"])
def test_what_needs_no_decoding_has_none(machine, main_input_name):
    machine("cuda", 16, 1)
    assert choose_workers(main_input_name) == 0


def test_a_number_that_was_chosen_stays(machine):
    machine("cuda", 16, 1)
    assert choose_workers("pixel_values", 0) == 0
    assert choose_workers("features", 3) == 3
