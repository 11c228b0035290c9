"""Folder of a run: atomic checkpoints, the final model, and checks before writing."""

import dataclasses
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import sort_checkpoints

from modeling_crh.codes import MultiSampleDropout
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.encoding.adapters import (
    ADAPTER_FILE,
    ADAPTER_FOLDER,
    adapters_of,
    merge_adapter,
    restore_adapter,
    save_adapter,
)
from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.loading import MODEL_FOLDER, find_model, load_model
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import LOCK_NAME, only_run, write_json
from modeling_crh.runtime.terminal import say
from modeling_crh.training.objectives import Objective
from modeling_crh.training.recipe import RECIPE_NAME, Recipe

PRIVATE_HOOKS = {
    "_clip_grad_norm(self, model)": "the gradient norm covers the weights of an objective too",
    "_determine_best_metric(self, metrics, trial)": "a model that proxies train is not the best",
    "_get_output_dir(self, trial)": "a checkpoint is written beside its place",
    "_load_best_model(self)": "weights are loaded strictly, with those of an objective",
    "_load_from_checkpoint(self, resume_from_checkpoint, model)": "weights are loaded strictly",
    "_push_from_checkpoint(self, checkpoint_folder)": "a checkpoint is pushed from its place, and without pickles",
    "_remove_unused_columns(self, dataset, description)": "a transform gets all columns, and the model its own",
    "_save(self, output_dir, state_dict)": "LoRA is merged, or in a checkpoint saved as an adapter",
    "_save_checkpoint(self, model, trial)": "a checkpoint appears whole, with class statistics and finite weights",
    "_globalstep_last_logged": "a resumed run logs the losses that were not logged yet",
    "_tr_loss": "a resumed run logs the losses that were not logged yet",
    "_train_batch_size": "a checkpoint says which batches it is of",
}
"""Private members of `transformers.Trainer` that `CRHTrainer` overrides or uses, and why; a test compares them."""

CHECKPOINTS_NAME = "checkpoints"
ROWS_NAME = "rows.json"
DIVISION_NAME = "division.json"
HISTORY_NAME = "history.json"

STATISTICS_NAME = "class_statistics.safetensors"
OBJECTIVE_NAME = "objective.safetensors"
PROGRESS_NAME = "training_loss.safetensors"
PARTIAL_NAME = ".partial"
"""Folder beside the checkpoints for those that are being written or deleted."""


def find_last_checkpoint(folder: str | Path) -> str | None:
    """Find the newest complete checkpoint in the `output_dir` of a run; None if there is none."""
    numbered = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    newest_first = sorted(numbered, key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    return next((str(path) for path in newest_first if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is complete; only the headers of its files are read."""
    try:
        for name in ("config.json", "trainer_state.json"):
            if not json.loads((checkpoint / name).read_text()):
                return False
        weights = [*checkpoint.glob("model*.safetensors"), *checkpoint.glob(ADAPTER_FILE)]
        for path in [checkpoint / STATISTICS_NAME, *weights, *checkpoint.glob(OBJECTIVE_NAME)]:
            with safe_open(path, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    states = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
    return len(weights) > 0 and len(states) > 2 and all(zipfile.is_zipfile(path) for path in states)


@contextmanager
def whole_checkpoint(folder: Path, is_writer: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """Yield a folder to write a checkpoint into; the complete checkpoint is renamed to its final path.

    The caller writes `checkpoint-N` into it. An older checkpoint stays until it is replaced. Only the writer moves and
    deletes folders; `wait` is the barrier of all processes. If writing fails, the partial checkpoint is removed.
    """
    partial = folder.with_name(PARTIAL_NAME)
    if is_writer:
        shutil.rmtree(partial, ignore_errors=True)
    wait()
    try:
        yield partial
        wait()  # every process has written its part
        if is_writer:
            if folder.exists():
                os.replace(folder, partial / "replaced")
            os.replace(partial / folder.name, folder)
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):  # torch.save, on a full disk
            raise
        raise OSError(f"The checkpoint {folder} could not be saved and was removed: {error}") from error
    finally:
        if is_writer:
            shutil.rmtree(partial, ignore_errors=True)
    wait()


def stop_as_not_finite(what: str, state: TrainerState) -> NoReturn:
    """Raise the error of a training that has reached a number that is not finite."""
    raise ValueError(
        f"Training must stay finite, but the {what} at step {state.global_step}; try a smaller `learning_rate`. The "
        "last checkpoint is untouched."
    )


def save_progress(folder: Path, progress: dict[str, Any], state: TrainerState, objective: Objective | None) -> None:
    """Write the state, the weights and centers of an objective, and what transformers does not save.

    `progress` holds `batches_of`, `last_logged_step`, and `loss`, the sum since that step, a mean over processes.
    """
    save_file({name: torch.as_tensor(value) for name, value in progress.items()}, folder / PROGRESS_NAME)
    if objective is not None:
        save_file(objective.state_dict(), folder / OBJECTIVE_NAME)
    state.save_to_json(str(folder / TRAINER_STATE_NAME))


def load_progress(folder: str | Path) -> dict[str, Tensor]:
    """Read the `progress` that `save_progress` wrote; empty for a checkpoint without it."""
    path = Path(folder, PROGRESS_NAME)
    return load_file(path) if path.exists() else {}


def batches_of(args: TrainingArguments, batch_size: int | None = None) -> dict[str, int]:
    """Return the `batch_size` over all processes, from that of one process if it is given, and the accumulation."""
    samples = (batch_size or args.train_batch_size) * args.world_size
    return {"batch_size": samples, "gradient_accumulation_steps": args.gradient_accumulation_steps}


def check_batches(folder: str | Path, args: TrainingArguments) -> None:
    """Check that a checkpoint was written with the batches that training resumes with."""
    saved, batches = load_progress(folder), batches_of(args)
    before = {name: int(saved.get(name, torch.tensor(number))) for name, number in batches.items()}
    if args.auto_find_batch_size:
        before["batch_size"] = batches["batch_size"]  # which transformers takes from the checkpoint
    if before != batches:
        words = "{} samples over all processes and `gradient_accumulation_steps={}`"
        raise ValueError(
            "A run must be resumed with batches of the size that it began with, since epochs and reassignments are "
            f"counted in them: {words.format(*before.values())}, but got {words.format(*batches.values())}."
        )


def load_objective(folder: str | Path, objective: Objective | None) -> None:
    """Read the weights and centers of an objective, if the checkpoint has them."""
    path = Path(folder, OBJECTIVE_NAME)
    if objective is not None and path.exists():
        objective.load_state_dict(load_file(path), strict=True)


def load_exactly(folder: str | Path, model: CRHModel) -> None:
    """Read every weight and buffer of a checkpoint into a model; of an adapter, all but the frozen weights.

    `Trainer` does not load strictly: weights of ViT and DINOv2 are saved under other names, and would not be loaded.

    Raises:
        ValueError: If the checkpoint is damaged or belongs to another model, or only one of the two has an adapter.
    """
    adapter = Path(folder, ADAPTER_FILE)
    if adapter.is_file() != bool(adapters_of(model)):
        has, it_has = ("LoRA", "none") if adapter.is_file() else ("no LoRA", "some")
        raise ValueError(f"`resume_from_checkpoint` must fit the model, but {str(folder)!r} has {has} and it {it_has}.")
    begun = CRHConfig.from_pretrained(folder).dropout_masks
    if begun != model.config.dropout_masks:  # as the preset of another version has it
        say(f"Training goes on with `dropout_masks: {begun}`, as it began, and not {model.config.dropout_masks}.")
        model.config.dropout_masks = begun
        for layer in model.hash_head.modules():
            if isinstance(layer, MultiSampleDropout):
                layer.masks = begun
    if adapter.is_file():
        restore_adapter(adapter, model)
        return
    saved = load_model(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict(), strict=True)


def keep_newest(folder: Path, limit: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints, so that at most `limit` are left; None and 0 keep all.

    The checkpoints `folder` and `best` always stay. A checkpoint is moved to the partial folder before it is deleted.
    """
    if not limit or limit < 0:
        return
    found = sort_checkpoints(str(folder.parent), use_mtime=True)
    others = [path for path in found if path not in {str(folder), str(best)}]
    most = max(limit - (len(found) - len(others)), 0)
    partial = folder.with_name(PARTIAL_NAME)
    partial.mkdir(exist_ok=True)
    for path in others[: len(others) - most]:
        os.replace(path, partial / Path(path).name)
    shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def claimed_folder(out: Path, recipe: Recipe, resume: bool) -> Iterator[None]:
    """Keep other runs out of the folder of a run while this one trains, and check what they have written before."""
    state = PartialState()
    with only_run(out, is_main=state.is_main_process, wait=state.wait_for_everyone):
        if state.is_main_process and check_folder(out, recipe, resume):
            raise ValueError(f"`out` must be a folder that no other run writes to, but one has finished {str(out)!r}.")
        yield


def check_folder(out: Path, recipe: Recipe, resume: bool) -> bool:
    """Check that a run may write into a folder: it must be new or empty, or with `resume` may hold the same run.

    Returns:
        Whether the folder holds this run, finished.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(out)!r} is a file.")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    found = {name for name in names if name != LOCK_NAME and not name.endswith(".partial")}  # of killed processes
    unfinished = found <= {RECIPE_NAME, ROWS_NAME, DIVISION_NAME, CHECKPOINTS_NAME, HISTORY_NAME, ADAPTER_FOLDER}
    if unfinished and find_last_checkpoint(out / CHECKPOINTS_NAME) is None:
        return False  # new, empty, or of a run that ended before its first checkpoint
    finished = (Path(find_model(out)) / "config.json").exists()
    what = "something else"
    if (out / RECIPE_NAME).is_file():
        changed = _changed(*(dataclasses.asdict(one) for one in (Recipe.load(out / RECIPE_NAME), recipe)))
        if not changed and resume:
            return finished
        what = "this run, finished" if finished else "this run, interrupted; `--resume` goes on"
        if changed:
            what = f"another run, with another {' and '.join(f'`{name}`' for name in changed)}"
            if resume and not finished:
                what += f"; `crh train {out / RECIPE_NAME} --out {out} --resume` goes on with that one"
    raise ValueError(f"`out` must be a new or empty folder, but {str(out)!r} holds {what}.")


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name the fields of a recipe that differ, those of `training` and `model` as `training.num_train_epochs`."""
    names: list[str] = []
    for name in sorted(before.keys() | now.keys(), key=[*now, *before].index):
        one, other = before.get(name), now.get(name)
        if one != other and isinstance(one, dict) and isinstance(other, dict):
            names += [f"{name}.{inner}" for inner in _changed(one, other)]
        elif one != other:
            names.append(name)
    return names


def save_with_processor(model: CRHModel, processor: Processor, folder: str | Path) -> None:
    """Write the adapter of a model, and its processor, into a folder."""
    save_adapter(model, folder)
    if processor is not None:
        processor.save_pretrained(folder)


def save_model(model: CRHModel, processor: Processor, history: list[dict[str, Any]], out: Path) -> None:
    """Save a finished run in `out`: its history, then the folder `model`, whose presence marks the end of the run.

    An adapter is first saved in the folder `adapter`, and merged into the model.

    Raises:
        OSError: If the model cannot be saved.
    """
    if adapters_of(model):
        shutil.rmtree(out / ADAPTER_FOLDER, ignore_errors=True)
        save_with_processor(model, processor, out / ADAPTER_FOLDER)
        merge_adapter(model)
    partial = out / PARTIAL_NAME
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial / MODEL_FOLDER)
        if processor is not None:
            processor.save_pretrained(partial / MODEL_FOLDER)
        write_json(out / HISTORY_NAME, history)
        os.replace(partial / MODEL_FOLDER, out / MODEL_FOLDER)
    except SafetensorError as error:
        raise OSError(f"The model could not be saved in {out}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
