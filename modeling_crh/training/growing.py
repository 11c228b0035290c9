"""Add classes to a trained model without training it again."""

import numpy as np
import torch
from torch import Tensor

from modeling_crh.codebook import extend_codebook, word_capacity
from modeling_crh.encoding import LabelledDataset, encode_items
from modeling_crh.encoding.loading import class_names
from modeling_crh.losses import default_scale
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.assignment import ClassStatistics, reassign


def add_labels(model: CRHModel, items: LabelledDataset, *, batch_size: int = 256) -> CRHModel:
    """Give new classes centers near the codes that a trained model computes for their samples.

    In every head each new class takes a free word, or a shared one that has room, so that the total cost of Eq. 5 over
    the new classes is least (Eq. 7). If there are fewer words than classes that need one of their own, the codebook
    grows to twice the number of classes, or to all 2^d words. Old centers and weights do not change, so all codes stay
    the same; training may continue with all classes.

    Args:
        model: Trained model; its `codebook`, `assignment` and `config` are changed. A scale that follows the paper's
            rule keeps following it.
        items: Samples of only the new classes, without augmentation; the model takes over their `label_names`.
        batch_size: Number of items that go through the model at a time.

    Returns:
        `model`, in evaluation mode.

    Raises:
        ValueError: If the model knows a class already, a class has no sample, or there are too few words of d bits.

    Example:
        >>> from datasets import Dataset
        >>> from modeling_crh import CRHConfig
        >>> from modeling_crh.encoding import FeatureDataset
        >>> from modeling_crh.data import prepare_dataset
        >>> model = CRHModel(CRHConfig(backbone_config=None, num_features=2, num_labels=3, num_bits=16))
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> add_labels(model, FeatureDataset(prepare_dataset(table, features_column="clip"))).config.num_labels
        5
    """
    config = model.config
    names = class_names(model)
    num_labels = len(names) + items.num_labels
    if known := [name for name in items.label_names if name in names]:
        raise ValueError(f"`items` must bring new classes alone, but the model knows {known[0]!r} already.")
    is_own = config.codebook == "own"
    if is_own and num_labels > 2 ** model.codebook.shape[2]:
        raise ValueError(
            f"`items` must bring no more than {2 ** model.codebook.shape[2] - len(names)} classes to the {len(names)} "
            f"that there are, since heads of {model.codebook.shape[2]} bits have so many words, but brings "
            f"{items.num_labels}."
        )
    means = _class_means(model, items, batch_size)
    codebook = model.codebook.cpu()
    if is_own and codebook.shape[1] < num_labels:
        size = min(2 * num_labels, 2 ** codebook.shape[2])
        codebook = extend_codebook(codebook, size, np.random.default_rng([config.codebook_seed, size]))
    capacity = 1 if is_own else word_capacity(num_labels, codebook.shape[2], config.shared_room)
    chosen = _words_with_room(codebook, model.assignment.cpu(), means, capacity)
    device = model.codebook.device
    model.codebook = codebook.to(device)
    model.assignment = torch.cat([model.assignment, chosen.to(device)], dim=1)
    if config.scale == default_scale(len(names)):
        config.scale = default_scale(num_labels)
    config.codebook_size = codebook.shape[1]
    config.id2label = dict(enumerate([*names, *items.label_names]))
    config.label2id = {name: index for index, name in config.id2label.items()}
    return model


def _class_means(model: CRHModel, items: LabelledDataset, batch_size: int) -> Tensor:
    """Compute the mean codes `(C, K)` of the new classes."""
    statistics = ClassStatistics.zeros(items.num_labels, model.config.num_bits)
    statistics.update(encode_items(model, items, batch_size=batch_size).codes.float(), items.labels)
    if not statistics.weights.all():
        name = items.label_names[int(statistics.weights.argmin())]
        raise ValueError(f"`items` must hold a sample of every new class, but hold none of {name!r}.")
    return statistics.means()


def _words_with_room(codebook: Tensor, assignment: Tensor, means: Tensor, capacity: int) -> Tensor:
    """Choose codewords for the new classes, `(H, C)` int64, that fewer than `capacity` classes hold."""
    weights = torch.cat([torch.zeros(assignment.shape[1]), torch.ones(len(means))]).double()
    first = torch.cat([assignment, torch.zeros(len(assignment), len(means), dtype=torch.int64)], dim=1)
    sums = torch.cat([torch.zeros(assignment.shape[1], means.shape[1], dtype=torch.float64), means])
    new = reassign(codebook, first, ClassStatistics(sums, weights), capacity=capacity)
    return new[:, assignment.shape[1] :]
