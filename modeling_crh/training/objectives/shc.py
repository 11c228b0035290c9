"""SHC: place centers by the similarity of classes that a classifier finds, then train CSQ's loss on them."""

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from modeling_crh.encoding.inputs import model_inputs
from modeling_crh.labels import has_label
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.objectives.center_objectives import CSQ
from modeling_crh.training.objectives.objective import Objective, check_setting
from modeling_crh.training.objectives.semantic_centers import fit_semantic_centers

if TYPE_CHECKING:
    from modeling_crh.training.trainer import CRHTrainer


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


if TYPE_CHECKING:
    from modeling_crh.training.trainer import CRHTrainer


class SHC(CSQ):
    """Deep hashing with semantic hash centers (TOIS 2025), in two stages.

    First a classifier is trained: a copy of the model whose hash head ends in C outputs, with the settings of the
    training proper. Its outputs over the training set, as training sees it, make the class similarity S, and centers
    are placed to minimise |S - Z Z^T / K|^2 subject to Z_i . Z_j <= K - 2 d_GV, see `fit_semantic_centers`. Then CSQ's
    loss is trained on those. Single-label only, since S is.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Of the centers.
        quantization_weight: lambda of CSQ's loss.
        classifier_epochs: Of the first stage. None stands for half of those of the training proper, or half its steps.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name = "shc"
    has_multi_label = False
    has_first_stage = True

    def __init__(
        self,
        num_labels: int,
        num_bits: int,
        seed: int = 0,
        *,
        quantization_weight: float = 1.0e-4,
        classifier_epochs: float | None = None,
    ) -> None:
        super().__init__(num_labels, num_bits, seed, quantization_weight=quantization_weight)
        if classifier_epochs is not None:
            check_setting("classifier_epochs", classifier_epochs, positive=True)
        self.classifier_epochs = classifier_epochs

    def prepare(self, trainer: "CRHTrainer") -> None:
        """Train the classifier and place the centers, from the seed; then set it again as if nothing had been drawn."""
        set_seed(trainer.args.seed)
        stage = type(trainer)(
            with_class_outputs(trainer.model, self.num_labels),
            self.stage_arguments(trainer.args),
            train_dataset=trainer.train_dataset,
            data_collator=trainer.data_collator,
            objective=_Classification(self.num_labels, self.num_labels),
        )
        stage.remove_callback(ProgressCallback)
        stage.remove_callback(PrinterCallback)
        stage.train()
        probabilities = mean_probabilities(stage, self.num_labels)
        centers = fit_semantic_centers(class_similarity(probabilities), self.num_bits, self.seed)
        self.require_centers().copy_(centers)
        set_seed(trainer.args.seed)

    def stage_arguments(self, args: CRHTrainingArguments) -> CRHTrainingArguments:
        """Settings of the first stage: those of the training proper, less time, and nothing is evaluated or saved."""
        stage = copy.copy(args)
        stage.eval_strategy, stage.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
        stage.report_to, stage.load_best_model_at_end, stage.disable_tqdm = [], False, True
        if self.classifier_epochs is not None:
            stage.num_train_epochs, stage.max_steps = self.classifier_epochs, -1
        elif args.max_steps > 0:
            stage.max_steps = max(1, args.max_steps // 2)
        else:
            stage.num_train_epochs = args.num_train_epochs / 2
        return stage


class _Classification(Objective):
    """Cross-entropy of C outputs."""

    name = "classification"
    has_multi_label = False

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(hash_logits, labels.long())


def with_class_outputs(model: CRHModel, num_labels: int) -> CRHModel:
    """A copy of a model whose hash head ends in a fresh linear layer with C outputs, and no batch norm after it."""
    classifier = copy.deepcopy(model)
    head = classifier.hash_head
    layers = list(head.children()) if isinstance(head, nn.Sequential) else [head]
    last = max(position for position, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    width = cast(nn.Linear, layers[last]).in_features
    outputs = nn.Linear(width, num_labels, device=model.device, dtype=model.dtype)
    nn.init.normal_(outputs.weight, std=model.config.initializer_range)
    nn.init.zeros_(outputs.bias)
    classifier.hash_head = nn.Sequential(*layers[:last], outputs)
    return classifier
