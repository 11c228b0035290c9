"""The hash head, whose outputs are hash logits; and codes: the signs of these, their bytes and Hamming distances."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .configuration_crh import CRHConfig


class MultiSampleDropout(nn.Dropout):
    """Dropout that draws several masks for each item of a training batch (Inoue, arXiv 1905.09788).

    What lies before it is computed once. The loss is the mean over the masks, so one step learns from as many thinned
    networks as several steps of plain dropout. In evaluation, and with a probability of 0, items pass unchanged.

    Args:
        p: Probability of dropping a number.
        masks: Masks that are drawn for each item: `(N, D)` becomes `(N masks, D)`, item by item.
    """

    def __init__(self, p: float, masks: int = 1) -> None:
        super().__init__(p)
        self.masks = masks

    @property
    def num_masks(self) -> int:
        """Number of rows that `forward` makes of an item: `masks` in training, but 1 where nothing is dropped."""
        return self.masks if self.training and self.p > 0 else 1

    def forward(self, input: Tensor) -> Tensor:
        """Repeat each item for its masks, and drop."""
        return super().forward(input if self.num_masks == 1 else input.repeat_interleave(self.num_masks, 0))


def build_hash_head(num_features: int, config: "CRHConfig") -> nn.Module:
    """Build the layers from `num_features` to K, by the `hash_head` fields of the config."""
    width = config.hash_head_hidden_size if config.hash_head == "mlp" else num_features
    layers: list[nn.Module] = [nn.Linear(width, config.num_bits, bias=not config.hash_head_batch_norm)]
    if config.hash_head == "mlp":
        dropout = MultiSampleDropout(config.hash_head_dropout, config.dropout_masks)
        layers = [nn.Linear(num_features, width), nn.BatchNorm1d(width), nn.ReLU(), dropout, *layers]
    if config.hash_head_batch_norm:
        layers.append(nn.BatchNorm1d(config.num_bits))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def by_mask(hash_logits: Tensor, head: nn.Module) -> tuple[Tensor, ...]:
    """Split the hash logits of a batch, `(N masks, K)`, into `(N, K)` for each dropout mask of the head."""
    num_masks = max([layer.num_masks for layer in head.modules() if isinstance(layer, MultiSampleDropout)], default=1)
    return tuple(hash_logits[mask::num_masks] for mask in range(num_masks))


def mean_over_masks(
    loss: Callable[[Tensor, Tensor], Tensor], hash_logits: Tensor, labels: Tensor, head: nn.Module
) -> Tensor:
    """Average the loss of a batch over the dropout masks that its hash logits were made with."""
    return torch.stack([loss(one, labels) for one in by_mask(hash_logits, head)]).mean()


def binarize(hash_logits: Tensor) -> Tensor:
    """Turn hash logits into codes by their sign; an exact 0 (and -0.0) counts as +1.

    Args:
        hash_logits: Any shape, floating point.

    Returns:
        `int8` of the same shape, every entry -1 or +1.

    Raises:
        ValueError: If `hash_logits` is no floating-point tensor, or holds NaN, which has no sign.

    Example:
        >>> binarize(torch.tensor([[0.3, -2.0, 0.0]]))
        tensor([[ 1, -1,  1]], dtype=torch.int8)
    """
    check_tensor("hash_logits", hash_logits)
    if not hash_logits.is_floating_point():
        raise ValueError(f"`hash_logits` must be floating point, but got {hash_logits.dtype}.")
    if torch.isnan(hash_logits).any():
        raise ValueError("`hash_logits` must not hold NaN, which has no sign, but does.")
    return torch.where(hash_logits >= 0, 1, -1).to(torch.int8)


def pack_codes(codes: Tensor) -> Tensor:
    """Pack +-1 codes eight to a byte, in the bit order of `numpy.packbits`.

    Args:
        codes: `(N, K)`, every entry -1 or +1, `K` a multiple of 8.

    Returns:
        `(N, K // 8)` `uint8`, on the device of `codes`.

    Raises:
        ValueError: If `codes` has another shape, or an entry other than -1 and +1.

    Example:
        >>> pack_codes(torch.tensor([[1, -1, -1, -1, -1, -1, -1, 1]]))
        tensor([[129]], dtype=torch.uint8)
    """
    check_tensor("codes", codes)
    if codes.ndim != 2 or codes.shape[1] % 8:
        raise ValueError(f"`codes` must be (N, K) with K a multiple of 8, but got shape {tuple(codes.shape)}.")
    check_signs("codes", codes)
    bits = (codes > 0).view(len(codes), codes.shape[1] // 8, 8)  # (N, K // 8, 8)
    return (bits * _bit_weights(codes.device)).sum(-1).to(torch.uint8)


def unpack_codes(packed: Tensor) -> Tensor:
    """Undo `pack_codes`.

    Args:
        packed: `(N, B)` `uint8`.

    Returns:
        `(N, 8 * B)` `int8`, every entry -1 or +1.

    Raises:
        ValueError: If `packed` has another shape or type.

    Example:
        >>> unpack_codes(torch.tensor([[129]], dtype=torch.uint8))
        tensor([[ 1, -1, -1, -1, -1, -1, -1,  1]], dtype=torch.int8)
    """
    check_tensor("packed", packed)
    if packed.ndim != 2 or packed.dtype != torch.uint8:
        raise ValueError(f"`packed` must be (N, B) uint8, but got {packed.dtype} of shape {tuple(packed.shape)}.")
    bits = (packed.unsqueeze(-1) & _bit_weights(packed.device)) != 0  # (N, B, 8)
    return torch.where(bits, 1, -1).to(torch.int8).flatten(1)


def hamming_distance(query_codes: Tensor, database_codes: Tensor) -> Tensor:
    """Count the bits in which each query differs from each item of the database.

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1.
        database_codes: `(N, K)`, every entry -1 or +1.

    Returns:
        `(Q, N)` `int16`, from 0 to `K`. The result is exact: float32 holds the products, which are small integers.

    Raises:
        ValueError: If the two have another `K`, or an entry is neither -1 nor +1.

    Example:
        >>> hamming_distance(torch.tensor([[1, 1, -1]]), torch.tensor([[1, 1, 1], [-1, -1, 1]]))
        tensor([[1, 3]], dtype=torch.int16)
    """
    both = {"query_codes": query_codes, "database_codes": database_codes}
    for name, codes in both.items():
        check_tensor(name, codes)
    if query_codes.ndim != 2 or database_codes.ndim != 2 or query_codes.shape[1] != database_codes.shape[1]:
        raise ValueError(
            "`query_codes` and `database_codes` must be (Q, K) and (N, K) with the same K, "
            f"but got {tuple(query_codes.shape)} and {tuple(database_codes.shape)}."
        )
    for name, codes in both.items():
        check_signs(name, codes)
    agreement = query_codes.float() @ database_codes.float().T  # (Q, N), K - 2 distance
    return ((query_codes.shape[1] - agreement) / 2).to(torch.int16)


def check_same_codes(packed: Any, hash_logits: Tensor, engine: str) -> None:
    """Check that the packed codes of another engine have the signs of hash logits, but for logits of almost 0."""
    differs = (unpack_codes(torch.as_tensor(packed)) > 0) != (hash_logits >= 0)
    if (hash_logits[differs].abs() > 1e-3 * hash_logits.abs().max()).any():
        raise ValueError(f"`model` must give the same codes under {engine} as under torch, but does not.")


def check_tensor(name: str, value: Any) -> Tensor:
    """Return `value` if it is a tensor; `name` is the argument's, for the message.

    Raises:
        ValueError: If it is something else, such as an array or a list.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"`{name}` must be a torch.Tensor, but got {type(value).__name__}.")
    return value


def check_signs(name: str, codes: Tensor) -> None:
    """Check that every entry of `codes`, of any shape, is -1 or +1; `name` is the argument's, for the message.

    Raises:
        ValueError: If an entry is something else, or the type cannot hold -1, such as that of packed codes.
    """
    if codes.is_signed() and not codes.is_complex():
        least, most = codes.abs().aminmax() if codes.numel() else (1, 1)  # a third of the time of `==` and `all`
        if least == most == 1:
            return
    advice = "pass hash logits through `binarize` first, packed codes through `unpack_codes`, and bits b as 2 * b - 1"
    raise ValueError(f"`{name}` must hold only -1 and +1; {advice}.")


def _bit_weights(device: torch.device) -> Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)
