"""The folder of a run: checkpoints that are whole whenever a training is killed, the model, and who may write there."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.trainer_utils import sort_checkpoints

from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.loading import MODEL_FOLDER, OBJECTIVE_NAME, find_last_checkpoint, find_model, load_model
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import write_json
from modeling_crh.training.objectives import Objective
from modeling_crh.training.recipe import RECIPE_NAME, Recipe

PRIVATE_HOOKS = {
    "_clip_grad_norm(self, model)": "the gradient norm covers the weights of an objective too",
    "_get_output_dir(self, trial)": "a checkpoint is written beside its place",
    "_load_best_model(self)": "weights are loaded strictly, with those of an objective",
    "_load_from_checkpoint(self, resume_from_checkpoint, model)": "weights are loaded strictly",
    "_push_from_checkpoint(self, checkpoint_folder)": "a checkpoint is pushed from its place, and without pickles",
    "_remove_unused_columns(self, dataset, description)": "a transform gets all columns, and the model its own",
    "_save_checkpoint(self, model, trial)": "a checkpoint appears whole, with class statistics and finite weights",
    "_globalstep_last_logged": "a resumed run logs the losses that were not logged yet",
    "_tr_loss": "a resumed run logs the losses that were not logged yet",
}
"""Private parts of `transformers.Trainer` that `CRHTrainer` overrides or uses, and why; a test compares them."""

CHECKPOINTS_NAME = "checkpoints"
ROWS_NAME = "rows.json"
HISTORY_NAME = "history.json"

PROGRESS_NAME = "training_loss.safetensors"
PARTIAL_NAME = ".partial"
"""Folder beside the checkpoints that holds the one being written, and those being deleted."""


@contextmanager
def whole_checkpoint(folder: Path, is_writer: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """Give a folder to write a checkpoint into, which is moved to its place by renaming when it is complete.

    Args:
        folder: Place of the checkpoint, `.../checkpoint-N`; one that is there stays until it is replaced.
        is_writer: Whether this is the process that moves and deletes folders.
        wait: Called where all processes must have come as far.

    Yields:
        The folder beside that place, in which `checkpoint-N` is to be written.

    Raises:
        OSError: If something goes wrong; what was written is then removed.
    """
    partial = folder.with_name(PARTIAL_NAME)
    if is_writer:
        clear(partial)
    wait()
    try:
        yield partial
        wait()  # every process has written its part
        if is_writer:
            if folder.exists():
                os.replace(folder, partial / "replaced")
            os.replace(partial / folder.name, folder)
    except Exception as error:  # safetensors and torch have classes of their own for a full disk, without a base
        raise OSError(f"The checkpoint {folder} could not be saved and was removed: {error}") from error
    finally:
        if is_writer:
            clear(partial)
    wait()


def save_progress(folder: str | Path, progress: dict[str, int | Tensor], objective: Objective | None) -> None:
    """Write into a checkpoint what transformers keeps in memory alone, and an objective.

    Args:
        folder: The checkpoint.
        progress: `loss`, the sum of the losses since the last log, averaged over all processes; `last_logged_step`; and
            the `batches` of `check_batches`.
        objective: Objective whose weights and centers to write, if there is one.
    """
    save_file({name: torch.as_tensor(value) for name, value in progress.items()}, Path(folder, PROGRESS_NAME))
    if objective is not None:
        save_file(objective.state_dict(), Path(folder, OBJECTIVE_NAME))


def load_progress(folder: str | Path) -> dict[str, Tensor]:
    """Read what `save_progress` wrote; empty if a checkpoint has nothing of it."""
    path = Path(folder, PROGRESS_NAME)
    return load_file(path) if path.exists() else {}


def check_batches(folder: str | Path, batches: dict[str, int]) -> None:
    """Refuse to resume with other batches, since epochs, reassignments and the order of samples are counted in them.

    Args:
        folder: The checkpoint.
        batches: `batch_size`, the number of samples in a batch over all processes, and `gradient_accumulation_steps`.

    Raises:
        ValueError: If the checkpoint was written with other batches.
    """
    saved = load_progress(folder)
    before = {name: int(saved.get(name, torch.tensor(number))) for name, number in batches.items()}
    if before != batches:
        raise ValueError(
            "A run must be resumed with batches of the size that it began with, since epochs and reassignments are "
            f"counted in them: {_in_words(before)}, but got {_in_words(batches)}."
        )


def _in_words(batches: dict[str, int]) -> str:
    steps = batches["gradient_accumulation_steps"]
    return f"{batches['batch_size']} samples over all processes and `gradient_accumulation_steps={steps}`"


def load_objective(folder: str | Path, objective: Objective | None) -> None:
    """Read the weights and centers of an objective, if there is one and the checkpoint has them."""
    path = Path(folder, OBJECTIVE_NAME)
    if objective is not None and path.exists():
        objective.load_state_dict(load_file(path), strict=True)


def load_exactly(folder: str | Path, model: PreTrainedModel) -> None:
    """Read every weight and buffer of a checkpoint into a model.

    Trainer's own loading is not strict: weights of ViT and DINOv2 are saved under other names, and would stay as they
    are.

    Raises:
        ValueError: If the checkpoint is damaged or of another model.
    """
    saved = load_model(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict(), strict=True)


def keep_newest(folder: Path, limit: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints beside a new one, so that at most `limit` are left.

    Args:
        folder: The new checkpoint, which stays.
        limit: Most checkpoints to keep. None or 0 keeps all.
        best: Checkpoint of the best model so far, which stays too.
    """
    if not limit or limit < 0:
        return
    found = sort_checkpoints(str(folder.parent), use_mtime=True)
    others = [path for path in found if path not in {str(folder), str(best)}]
    most = max(limit - (len(found) - len(others)), 0)
    delete(others[: len(others) - most], folder.with_name(PARTIAL_NAME))


def keep_only(best: Path) -> None:
    """Delete all checkpoints beside the best one."""
    others = [path for path in sort_checkpoints(str(best.parent)) if Path(path) != best]
    delete(others, best.with_name(PARTIAL_NAME))


def delete(checkpoints: Iterable[str], partial: Path) -> None:
    """Delete checkpoints whole: each is moved into the partial folder before any of its files goes."""
    partial.mkdir(exist_ok=True)
    for path in checkpoints:
        os.replace(path, partial / Path(path).name)
    clear(partial)


def clear(partial: Path) -> None:
    """Remove the partial folder, if there is one."""
    shutil.rmtree(partial, ignore_errors=True)


def check_folder(out: Path, recipe: Recipe, resume: bool) -> bool:
    """Refuse a folder that a run must not write to.

    Args:
        out: Folder of the run.
        recipe: Settings of the run.
        resume: Whether the folder may hold this run.

    Returns:
        Whether it holds this run, finished.

    Raises:
        ValueError: If it holds another run, or something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(out)!r} is a file.")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    found = {name for name in names if not name.endswith(".partial")}  # what a killed process was writing
    unfinished = found <= {RECIPE_NAME, ROWS_NAME, CHECKPOINTS_NAME, HISTORY_NAME}
    if unfinished and find_last_checkpoint(out / CHECKPOINTS_NAME) is None:
        return False  # new, empty, or of a run that ended before its first checkpoint
    finished = (Path(find_model(out)) / "config.json").exists()
    what = "something else"
    if (out / RECIPE_NAME).is_file():
        before, now = (dataclasses.asdict(one) for one in (Recipe.load(out / RECIPE_NAME), recipe))
        changed = [name for name in now if before[name] != now[name]]
        if not changed and resume:
            return finished
        what = "this run, finished" if finished else "this run, interrupted; `--resume` goes on"
        if changed:
            what = f"another run, with another {' and '.join(f'`{name}`' for name in changed)}"
    raise ValueError(f"`out` must be a new or empty folder, but {str(out)!r} holds {what}.")


def save_model(model: CRHModel, processor: Processor, history: list[dict[str, Any]], out: Path) -> None:
    """Save a finished run: its history, then the model, whose folder is the mark of the end, moved into its place.

    Args:
        model: Model to save in `out/model`.
        processor: Its image processor or tokenizer, if it has one.
        history: Log of the training.
        out: Folder of the run.

    Raises:
        OSError: If it cannot be saved.
    """
    partial = out / ".partial"
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
