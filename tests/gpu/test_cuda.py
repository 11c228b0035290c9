"""On a GPU, everything gives what it gives on a CPU, but for the few bits that rounding decides.

The tests are skipped where there is no GPU. `CRH_GPU_TESTS_ON_CPU=1 pytest tests/gpu` runs the same bodies on a CPU,
which shows that they can run, and nothing about a GPU.
"""

import copy
import json
import os
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_runs import VIT, StopAt, rival_trainer, tiny_trainer
from transformers import pipeline

from modeling_crh.codebook import center_distances, draw_centers
from modeling_crh.codes import binarize
from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source, encoder
from modeling_crh.encoding.encoder import multiplies_bfloat16, place_model
from modeling_crh.metrics import asymmetric_average_precision, bit_balance, bit_correlation, retrieval_figures
from modeling_crh.runtime.processes import own_state
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.objectives import OBJECTIVES
from modeling_crh.training.run import run_first_stage

ON_CPU = bool(os.environ.get("CRH_GPU_TESTS_ON_CPU"))
DEVICE = "cpu" if ON_CPU else "cuda"
EQUAL_BITS = {"float32": 0.99, "bfloat16": 0.95}  # a GPU rounds the inputs of convolutions to TF32
BACKBONE = VIT | {"hidden_dropout_prob": 0.0}  # each device draws dropout from a stream of its own

pytestmark = pytest.mark.skipif(not ON_CPU and not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's")


@contextmanager
def computing_on(device):
    """Let the library choose this device, whatever another test has chosen before."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.MonkeyPatch.context() as patch:
        if device == "cpu":
            patch.setenv("ACCELERATE_USE_CPU", "1")
        assert own_state().device.type == device
        yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def chosen_device(no_fast_bfloat16, monkeypatch):
    """The device of these tests, whose `--dtype auto` is again what the hardware makes it."""
    monkeypatch.setattr(encoder, "multiplies_bfloat16", multiplies_bfloat16)
    with computing_on(DEVICE):
        yield


@pytest.fixture
def files(image_folder):
    return [str(file) for file in sorted(image_folder.rglob("*.png"))]


@pytest.fixture
def cpu_codes(tiny_checkpoint, files):
    """Packed codes of `files`, computed on the CPU in float32."""
    with computing_on("cpu"):
        return Encoder.load(tiny_checkpoint).packed(files)


def trainer_of_images(folder, **settings):
    """A trainer of a tiny ViT on the device of these tests."""
    return tiny_trainer(folder, BACKBONE, **({"use_cpu": ON_CPU} | settings))


def equal_bits(one, other):
    """Share of equal bits of packed codes, or of codes of -1 and +1."""
    if isinstance(one, torch.Tensor):
        return (one.cpu() == other.cpu()).double().mean().item()
    return 1 - np.bitwise_count(one ^ other).sum() / (8 * one.size)


def test_a_model_is_placed_whole_and_its_centers_keep_their_type(tiny_model):
    model = tiny_model()
    before = model.centers
    place_model(model, "bfloat16")
    assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {DEVICE}
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.centers.dtype == torch.int8
    assert torch.equal(model.centers.cpu(), before)


def test_auto_is_bfloat16_on_a_card_that_multiplies_it(tiny_checkpoint, capsys):
    is_fast = multiplies_bfloat16(torch.device("cpu")) if ON_CPU else torch.cuda.get_device_capability() >= (8, 0)
    assert Encoder.load(tiny_checkpoint, dtype="auto").dtype == ("bfloat16" if is_fast else "float32")
    said = f"Computing in bfloat16, floats of 16 bits that this {'processor' if ON_CPU else 'GPU'} is fast at."
    assert (said in capsys.readouterr().err) == is_fast


@pytest.mark.parametrize("dtype", EQUAL_BITS)
def test_an_encoder_and_the_pipeline_give_the_codes_of_the_cpu(dtype, tiny_checkpoint, files, cpu_codes):
    encoder = Encoder.load(tiny_checkpoint, dtype=dtype)
    assert encoder.model.device.type == DEVICE
    codes = encoder.packed(files)
    assert len(np.unique(cpu_codes, axis=0)) > 10
    assert equal_bits(codes, cpu_codes) > EQUAL_BITS[dtype]
    hashing = pipeline("crh-hashing", str(tiny_checkpoint), dtype=dtype, device=DEVICE, trust_remote_code=False)
    piped = np.stack([item["code"] for item in hashing(files, batch_size=16)])
    assert equal_bits(piped, cpu_codes) > EQUAL_BITS[dtype]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("dtype", EQUAL_BITS)
def test_a_source_is_encoded_to_the_codes_of_the_cpu(
    dtype, num_workers, tiny_checkpoint, image_folder, files, cpu_codes, tmp_path
):
    encoder = Encoder.load(tiny_checkpoint, dtype=dtype, num_workers=num_workers, batch_size=8)
    encode_source(encoder, open_source(image_folder), tmp_path / "codes", model_name="tiny", shard_size=25)
    rows = [row for file in sorted((tmp_path / "codes").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    codes = {row["path"]: np.frombuffer(row["code"], np.uint8) for row in rows}
    assert equal_bits(np.stack([codes[file] for file in files]), cpu_codes) > EQUAL_BITS[dtype]


@pytest.mark.slow
def test_a_compiled_model_gives_the_codes_of_the_cpu(tiny_checkpoint, files, cpu_codes):
    assert equal_bits(Encoder.load(tiny_checkpoint, compiled=True).packed(files), cpu_codes) > EQUAL_BITS["float32"]


def test_the_command_gives_the_figures_of_the_cpu(crh, tiny_checkpoint, image_folder):
    command = ["evaluate", tiny_checkpoint, "--dataset", image_folder, "--json"]
    with computing_on("cpu"):
        expected = json.loads(crh(*command)[1])
    code, output, errors = crh(*command)
    assert code == 0, errors
    found = json.loads(output)
    assert found.keys() == expected.keys()
    for name in ("map", "map_asymmetric", "precision_at_10"):
        assert found[name] == pytest.approx(expected[name], abs=0.02), name


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="float32"),
        pytest.param({"multi_label": True}, id="several labels"),
        pytest.param({"reassignment": "greedy"}, id="greedy"),
        pytest.param({"model_fields": {"codebook": "shared", "head_dim": 2}}, id="shared words"),
        pytest.param({"bf16": True}, id="bfloat16"),
        pytest.param({"dataloader_num_workers": 2, "dataloader_pin_memory": True}, id="workers"),
        pytest.param({"torch_compile": True}, id="compiled", marks=pytest.mark.slow),
    ],
)
def test_training_learns_and_moves_centers_and_its_model_gives_the_same_codes_on_the_cpu(settings, tmp_path):
    trainer = trainer_of_images(tmp_path, num_train_epochs=6, **settings)
    before, first = trainer.model.assignment.clone(), trainer.evaluate()
    trainer.train()
    last = trainer.evaluate()
    assert trainer.model.device.type == before.device.type == DEVICE
    assert last["eval_map"] > max(0.9, first["eval_map"])
    assert not torch.equal(trainer.model.assignment, before)
    pixels = trainer.eval_dataset.values
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    codes = model.encode(pixel_values=pixels.to(DEVICE))
    on_cpu = copy.deepcopy(model).cpu().encode(pixel_values=pixels)
    assert equal_bits(codes, on_cpu) > EQUAL_BITS["float32"]
    labels = trainer.eval_dataset.labels
    figures = retrieval_figures(on_cpu, on_cpu, labels, labels, leave_one_out=True)
    assert last["eval_map"] == pytest.approx(figures["map"], abs=0.05)


def test_the_first_steps_have_the_losses_of_the_cpu(tmp_path):
    settings = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1, "learning_rate": 1e-4}
    losses = []
    for use_cpu in (ON_CPU, True):
        trainer = trainer_of_images(tmp_path / str(use_cpu), use_cpu=use_cpu, **settings)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_run_that_was_stopped_goes_on(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2}
    with pytest.raises(InterruptedError):
        trainer_of_images(tmp_path, callbacks=[StopAt(9)], **settings).train()
    resumed = trainer_of_images(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == resumed.state.max_steps == 21
    assert resumed.reassignment.moved_share is not None


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_rival_trains_where_the_model_lies(name, tmp_path):
    trainer = rival_trainer(tmp_path, name, use_cpu=ON_CPU)
    if trainer.rival.has_first_stage:
        run_first_stage(trainer)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert {value.device.type for value in trainer.rival.state_dict().values()} <= {DEVICE}


@pytest.mark.parametrize(
    ("method", "size", "head_dim", "capacity"), [("hungarian", 60, 8, 1), ("greedy", 60, 8, 1), ("hungarian", 4, 2, 10)]
)
@pytest.mark.parametrize("soft", [False, True])
def test_statistics_there_give_the_words_that_they_give_on_the_cpu(method, size, head_dim, capacity, soft):
    generator = torch.Generator().manual_seed(0)
    hash_logits, labels = torch.randn(500, 16, generator=generator), torch.randint(30, (500,), generator=generator)
    start = draw_centers(16 // head_dim, size, head_dim, 30, capacity=capacity)
    found = []
    for device in (DEVICE, "cpu"):
        statistics = ClassStatistics.zeros(30, 16, soft)
        statistics.sums, statistics.weights = statistics.sums.to(device), statistics.weights.to(device)
        statistics.update(hash_logits.to(DEVICE), labels.to(DEVICE))
        assert statistics.sums.device.type == device
        place = [part.to(DEVICE) for part in start]
        found.append(reassign(*place, statistics, method, np.random.default_rng(0), capacity=capacity))
    assert found[0].device.type == DEVICE
    assert (found[0] == found[1]).double().mean() >= (0.9 if soft else 1)  # sums of tanh are not exact


def test_figures_of_codes_there_are_those_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    hash_logits = torch.randn(300, 16, generator=generator)
    labels = (torch.rand(300, 10, generator=generator) < 0.2).long()

    def figures(device):
        logits, rows = hash_logits.to(device), labels.to(device)
        codes = binarize(logits)
        found = retrieval_figures(codes[:50], codes, rows[:50], rows, top_k=[5], top_r=[20])
        asymmetric = asymmetric_average_precision(logits[:50], codes, rows[:50], rows).tolist()
        return found, asymmetric, center_distances(codes), bit_balance(codes), bit_correlation(codes)

    assert figures(DEVICE) == figures("cpu")
