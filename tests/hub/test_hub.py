import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub.loopback_hub import LoopbackHub

HERE = Path(__file__).parent


@pytest.mark.slow
def test_models_codes_and_pages_go_to_a_hub_and_come_back(tmp_path):
    """The client reads the Hub's address when it is imported, so these tests have a process of their own."""
    with LoopbackHub() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "hf_ada",
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("PYTEST_ADDOPTS", None)
        options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", tmp_path / "tests"]
        files = [HERE / f"{name}.py" for name in ("models", "failures", "codes", "spaces")]
        command = [sys.executable, "-m", "pytest", *options, *files]
        done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
