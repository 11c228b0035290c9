"""Which classes a classifier confuses: the similarity that SHC places its centers after."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from modeling_crh.labels import has_label
from modeling_crh.processing import model_inputs

if TYPE_CHECKING:
    from modeling_crh.trainer import CRHTrainer


def class_similarity(probabilities: Tensor) -> Tensor:
    """S of mean probabilities: symmetrised, scaled so that pairs of classes span -1 to 1, and 1 of a class with itself.

    Args:
        probabilities: `(C, C)`: row c is the mean over the samples of c of the softmax over the other classes.

    Returns:
        `(C, C)` float64.

    Example:
        >>> class_similarity(torch.tensor([[0.0, 0.9, 0.1], [0.7, 0.0, 0.3], [0.2, 0.8, 0.0]]))
        tensor([[ 1.0000,  1.0000, -1.0000],
                [ 1.0000,  1.0000,  0.2308],
                [-1.0000,  0.2308,  1.0000]], dtype=torch.float64)
    """
    symmetric = (probabilities + probabilities.T).double() / 2
    pairs = symmetric[~torch.eye(len(symmetric), dtype=torch.bool)]
    least, most = pairs.min(), pairs.max()
    scaled = 2 * (symmetric - least) / (most - least).clamp(min=1e-12) - 1  # all -1 where all pairs are alike
    return scaled.fill_diagonal_(1)


@torch.no_grad()
def mean_probabilities(stage: "CRHTrainer", num_labels: int) -> Tensor:
    """Mean softmax of the samples of each class, over the other classes alone.

    Args:
        stage: Has the classifier, whose hash logits are the outputs `(N, C)`, and the training set.
        num_labels: C.

    Returns:
        `(C, C)` float64 on the CPU, with a diagonal of 0. The row of a class without samples is even.
    """
    sums = torch.zeros(num_labels, num_labels, dtype=torch.float64)
    counts = torch.zeros(num_labels, 1, dtype=torch.float64)
    model = stage.model.train(False)
    batches: Any = stage.get_test_dataloader(cast(Any, stage.train_dataset))
    for batch in batches:
        labelled = has_label(batch["labels"]).cpu()
        labels = batch["labels"].cpu()[labelled].long()
        logits = model(**model_inputs(batch, model)).hash_logits.cpu().double()[labelled]  # (N, C)
        logits.scatter_(1, labels.unsqueeze(1), -torch.inf)
        sums.index_add_(0, labels, logits.softmax(1))
        counts.index_add_(0, labels, torch.ones_like(logits[:, :1]))
    even = (1 - torch.eye(num_labels, dtype=torch.float64)) / (num_labels - 1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), even)
