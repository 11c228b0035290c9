"""Fit the hash head without training: sign, LSH and ITQ, each a linear map of the features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from modeling_crh.checks import check_whole, needs_extra
from modeling_crh.codes import check_tensor
from modeling_crh.encoding import LabelledDataset, run_batches
from modeling_crh.modeling_crh import CRHModel

UNTRAINED: tuple[str, ...] = ("sign", "lsh", "itq")
"""The methods of `fit_untrained`."""


@torch.no_grad()
def fit_untrained(name: str, model: CRHModel, features: Tensor, seed: int = 0) -> None:
    """Set weight and bias of a linear hash head so that the signs of its outputs are the codes of a method.

    - `sign` takes the signs of the features themselves; K must be their width.
    - `lsh` takes the signs of FAISS's random projection without a bias, whose Gaussian directions are orthogonalised.
    - `itq` projects the centered features to K bits by PCA, then rotates them by 50 rounds of iterative quantization
      (Gong and Lazebnik, CVPR 2011): FAISS's, which scales features to unit length after subtracting their mean.

    The last two need the extra `search`, which is `faiss-cpu`. Labels are not read, and the centers of the model do not
    change; they have no meaning here.

    Args:
        name: `sign`, `lsh` or `itq`.
        model: Model with a linear hash head and K = `num_bits` outputs.
        features: Features of the training items, `(N, F)`, with the width F that the hash head reads.
        seed: Seed of the projection of `lsh`, and of the first rotation of `itq`.

    Raises:
        ValueError: If the head is not linear, or K does not fit F or N.
        ModuleNotFoundError: If `faiss-cpu` is missing.
    """
    head = model.hash_head
    if name not in UNTRAINED:
        raise ValueError(f"`name` must be one of {', '.join(UNTRAINED)}, but got {name!r}.")
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"`hash_head` must be linear and without batch norm for {name}, but got a {type(head).__name__}."
        )
    check_whole("seed", seed, least=0)
    if check_tensor("features", features).ndim != 2 or features.shape[1] != head.in_features or not len(features):
        raise ValueError(
            f"`features` must be (N, {head.in_features}), what the hash head reads, but got shape "
            f"{tuple(features.shape)}."
        )
    weight, bias = {"sign": _sign, "lsh": _lsh, "itq": _itq}[name](head, features.float().cpu(), seed)
    head.weight.copy_(weight)
    head.bias.copy_(bias)


def collect_features(model: CRHModel, items: LabelledDataset, *, batch_size: int = 256) -> Tensor:
    """Collect the inputs of the hash head for all items, in their order.

    Returns:
        `(N, F)` float32 on the CPU. The model is then in evaluation mode.
    """
    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size)

    def features(**inputs: Tensor) -> Tensor:
        return model._pooled_features(inputs)[0]

    return torch.cat([*run_batches(model.train(False), loader, features, desc="Reading features")])


def _sign(head: nn.Linear, features: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    if head.in_features != head.out_features:
        raise ValueError(
            f"`num_bits` must be the number of features for sign, {head.in_features}, but got {head.out_features}."
        )
    return torch.eye(head.out_features), torch.zeros(head.out_features)


def _lsh(head: nn.Linear, features: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    faiss = _import_faiss()
    index = faiss.IndexLSH(head.in_features, head.out_features, True, False)  # rotate, thresholds of 0
    index.rrot.init(seed)
    weight = torch.from_numpy(faiss.vector_to_array(index.rrot.A)).view(head.weight.shape)
    return weight, torch.zeros(head.out_features)


def _itq(head: nn.Linear, features: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    if head.out_features > min(head.in_features, len(features) - 1):
        raise ValueError(
            "`num_bits` must be at most F and less than N for itq, since PCA finds no more directions in N samples of "
            f"F features, but got {head.out_features} for N={len(features)} and F={head.in_features}."
        )
    faiss = _import_faiss()
    transform = faiss.ITQTransform(head.in_features, head.out_features, True)
    transform.itq.seed = seed
    transform.train(features.numpy())
    weight = torch.from_numpy(faiss.vector_to_array(transform.pca_then_itq.A)).view(head.weight.shape)
    mean = torch.from_numpy(faiss.vector_to_array(transform.mean))
    return weight, -(weight @ mean)


def _import_faiss() -> Any:
    with needs_extra("Fitting LSH or ITQ", "search"):
        import faiss
    return faiss
