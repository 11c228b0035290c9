"""CRHModel: a backbone, a hash head, and the codebook and assignment that make the hash centers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from .backbones import build_backbone, embed, pooled_width
from .codebook import choose_length, compose_centers, draw_centers
from .codes import binarize, build_hash_head, by_mask, check_tensor, mean_over_masks
from .configuration_crh import CRHConfig
from .losses import crh_loss
from .pipeline_crh import TASK  # the import also makes transformers save the pipeline's code beside a model
from .saved_files import check_checkpoint

_TAKES = {"pixel_values": "images and paths", "input_ids": "texts"}  # what the pipeline does, by what the model reads


@dataclass
class CRHModelOutput(ModelOutput):
    """Output of `CRHModel`.

    Attributes:
        loss: Scalar, Eq. 4; None without labels.
        hash_logits: `(N, K)`; their signs are the codes.
        hidden_states: Hidden states of the backbone, with `output_hidden_states=True`.
        attentions: Attention weights of the backbone, with `output_attentions=True`.
    """

    loss: Tensor | None = None
    hash_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class CRHModel(PreTrainedModel):
    """A backbone and a hash head with K outputs, whose signs are the code (CRH, arXiv 2511.12162).

    The buffers `codebook` `(H, M, d)` int8 and `assignment` `(H, C)` int64 make the hash centers. They are saved with
    the weights, and training changes the assignment.

    Example:
        >>> config = CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16)
        >>> model = CRHModel(config)
        >>> model(features=torch.ones(2, 4)).hash_logits.shape, model.centers.shape
        (torch.Size([2, 16]), torch.Size([3, 16]))
    """

    config: CRHConfig
    config_class = CRHConfig
    base_model_prefix = "crh"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # or Trainer multiplies the loss by the accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = True
    codebook: Tensor
    assignment: Tensor

    def __init__(self, config: CRHConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self._trained_parts: list[nn.Module] | None = None  # of a frozen backbone
        self.backbone: PreTrainedModel | None = backbone
        self.main_input_name = "features"
        if config.backbone_config is not None:
            if self.backbone is None:
                whole = cast(PreTrainedConfig, config.backbone_config)
                self.backbone = build_backbone(whole, tower=config.tower, pooling=config.pooling)
            if config.num_features is None:
                config.num_features = pooled_width(self.backbone)
            self.main_input_name = self.backbone.main_input_name
        self.hash_head = build_hash_head(cast(int, config.num_features), config)
        assignment_shape = config.num_heads, cast(int, config.num_labels)
        self.register_buffer("codebook", torch.zeros(config.codebook_shape, dtype=torch.int8))
        self.register_buffer("assignment", torch.zeros(assignment_shape, dtype=torch.int64))
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_backbone(cls, backbone: str, **settings: Any) -> "CRHModel":
        """Make a model with a pretrained backbone, and a new hash head and new centers.

        Args:
            backbone: Hub id or folder of a model of images, texts or sounds that `AutoModel` loads, of transformers or
                timm. docs/backbones.md lists those that were tried.
            **settings: Fields of `CRHConfig`, such as `num_bits`, `num_labels` and, for a dual encoder, `tower`; and
                arguments of `from_pretrained` for the backbone: `revision`, `token`, `cache_dir`, `local_files_only`,
                `force_download`, `subfolder`, `trust_remote_code`, `attn_implementation`, `device_map` of one device,
                and `dtype`, which is float32 unless given and the hash head has too.

        Returns:
            The model, in evaluation mode.

        Raises:
            ValueError: If a field breaks its rule, the backbone is not of such a kind, or its checkpoint lacks weights.
            OSError: If the backbone cannot be found.
        """
        try:
            from modeling_crh.pretrained import model_with_backbone
        except ImportError as error:  # on a machine that has only the model's own code
            raise ImportError("`from_backbone` needs the library: pip install modeling-crh.") from error
        return cast(CRHModel, model_with_backbone(cls, backbone, **settings))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model from safetensors alone, since a pickle can run code; a LoRA adapter is merged into its base.

        Raises:
            ValueError: If `use_safetensors=False`, or a file asks for other code or weights, see `check_checkpoint`.
            OSError: If there are no weights in safetensors.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError(f"`use_safetensors` must be True, but got {kwargs['use_safetensors']!r}.")
        try:
            check_checkpoint(pretrained_model_name_or_path, **kwargs)
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError as error:
            try:
                from modeling_crh.encoding.adapters import load_adapter
            except ImportError:
                raise error from None
            return load_adapter(cls, pretrained_model_name_or_path, error, **kwargs)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model as `PreTrainedModel.save_pretrained` does, but none whose LoRA weights are not merged."""
        if any(".lora_" in name for name, _ in self.named_parameters()):
            raise ValueError("A model with LoRA weights must go through `merge_adapter` or be saved by `save_adapter`.")
        super().save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, repo_id: str, **settings: Any) -> Any:  # type: ignore[override]
        """Upload the model to the Hub: weights, config, code, image processor or tokenizer, and a model card.

        Args:
            repo_id: Repository such as `org/name`, created if it does not exist.
            **settings: The other arguments of `push_model`. On a machine without this package: `processor` and the
                arguments of `PreTrainedModel.push_to_hub`.

        Raises:
            ValueError: If an argument has a value that its rule does not allow.
            OSError: If the upload failed.
        """
        try:
            from modeling_crh.hub.push import push_model
        except ImportError:
            processor = settings.pop("processor", None)
            commit = super().push_to_hub(repo_id, **settings)  # type: ignore[arg-type]
            return commit if processor is None else processor.push_to_hub(repo_id, **settings)
        return push_model(self, repo_id, **settings)

    @property
    def centers(self) -> Tensor:
        """Hash centers of the classes, `(C, K)` int8: their codewords, concatenated (Eq. 8)."""
        return compose_centers(self.codebook, self.assignment)

    def freeze_backbone(self, except_for: Sequence[nn.Module] = ()) -> "CRHModel":
        """Train only the hash head and the parts `except_for` of the backbone; the rest stays in evaluation mode."""
        if self.backbone is None:
            raise ValueError("`freeze_backbone` needs a backbone, but this model reads stored features.")
        self.backbone.requires_grad_(False)
        self._trained_parts = list(except_for)
        for part in self._trained_parts:
            part.requires_grad_(True)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "CRHModel":
        """Set training mode; a frozen backbone stays in evaluation mode, but for its trained parts."""
        super().train(mode)
        if self._trained_parts is not None and self.backbone is not None:
            self.backbone.eval()
            for part in self._trained_parts:
                part.train(mode)
        return self

    def _set_gradient_checkpointing(self, *args: Any, **settings: Any) -> None:
        # transformers' own method, called on the backbone so that an error names its class and not this one
        if self.backbone is None:
            raise ValueError("`gradient_checkpointing` needs a backbone, but this model reads stored features.")
        self.backbone._set_gradient_checkpointing(*args, **settings)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_values: Tensor | None = None,
        input_features: Tensor | None = None,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CRHModelOutput | tuple[Any, ...]:
        """Compute the hash logits of a batch, and the loss if there are labels.

        Args:
            pixel_values: `(N, 3, H, W)`, floating point of any precision, for an image backbone.
            input_ids: `(N, T)`, for a text backbone.
            attention_mask: `(N, T)`, 1 for real tokens, samples or frames.
            token_type_ids: `(N, T)`.
            input_values: `(N, T)` samples of sound or `(N, T, mel bins)`, for a backbone such as Wav2Vec2 or AST.
            input_features: `(N, mel bins, T)` or as the backbone's feature extractor makes it, for one such as Whisper.
            features: `(N, num_features)`, floating point of any precision, for a model without a backbone.
            labels: `(N,)` integers from 0 to C - 1, or `(N, C)` of 0 and 1. Samples with -100, or with a row of zeros,
                have no label and no loss.
            output_hidden_states: Whether to return the hidden states of the backbone.
            output_attentions: Whether to return the attention weights of the backbone.
            return_dict: Whether to return a `CRHModelOutput` rather than a tuple. None means the config's choice.

        Returns:
            `CRHModelOutput`, or a tuple of its entries that are not None. In training, its `hash_logits` are
            `(N dropout_masks, K)`, see `MultiSampleDropout`, and its loss the mean over the masks.

        Raises:
            ValueError: If the model's input is missing or has another type, or labels are out of range or fractional.
        """
        inputs = {"pixel_values": pixel_values, "input_ids": input_ids, "attention_mask": attention_mask}
        inputs |= {"token_type_ids": token_type_ids, "input_values": input_values, "input_features": input_features}
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        given = {name: value for name, value in (inputs | {"features": features} | asked).items() if value is not None}
        if self.main_input_name not in given:
            raise ValueError(f"This model reads `{self.main_input_name}`, but got {sorted(given) or 'nothing'}.")
        given[self.main_input_name] = self._main_input(given[self.main_input_name])
        pooled, outputs = self._pooled_features(given)
        hash_logits = self.hash_head(pooled.to(self.dtype))
        loss = None if labels is None else self._loss(hash_logits, labels)
        output = CRHModelOutput(loss, hash_logits, outputs.get("hidden_states"), outputs.get("attentions"))
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    @torch.no_grad()
    def encode(self, main_input: Tensor | None = None, *, num_bits: int | None = None, **inputs: Tensor) -> Tensor:
        """Compute the codes of a batch, `(N, K)` int8 of -1 and +1.

        Args:
            main_input: Input that the model reads, such as `pixel_values`; it may also be given by name.
            num_bits: Number of first bits to return, one of `config.prefix_bits`; None returns all K.
            **inputs: The other arguments of `forward`.

        Raises:
            ValueError: If the input is no tensor, or `forward` raises it, or the model is not trained for `num_bits`.
        """
        if main_input is not None:
            inputs[self.main_input_name] = main_input
        hash_logits = by_mask(self(**inputs).hash_logits, self.hash_head)[0]
        return binarize(hash_logits[:, : choose_length(num_bits, self.config.lengths)])

    def _main_input(self, values: Any) -> Tensor:
        """Pixels or features in the precision of the weights, or token ids as they are."""
        name = self.main_input_name
        if name != "features" and not isinstance(values, Tensor):
            raise ValueError(
                f"`{name}` must be a torch.Tensor, but got {type(values).__name__}; "
                f'`pipeline("{TASK}", model=...)` takes {_TAKES.get(name, "sounds and paths")}.'
            )
        tensor, is_text = check_tensor(name, values), name == "input_ids"
        if tensor.is_floating_point() == is_text:
            rule = "whole numbers" if is_text else "floating point"
            raise ValueError(f"`{name}` must be {rule}, but got {tensor.dtype}.")
        return tensor if is_text else tensor.to(self.dtype)

    def _loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        names = ("scale", "margin", "quantization_weight", "bit_weight", "pair_weight", "prefix_weight")
        settings = {name: getattr(self.config, name) for name in names} | {"prefix_bits": self.config.lengths[:-1]}
        loss = partial(crh_loss, centers=self.centers, **settings)
        return mean_over_masks(loss, hash_logits, check_tensor("labels", labels), self.hash_head)

    def _pooled_features(self, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        if self.backbone is None:
            features, width = inputs["features"], self.config.num_features
            if features.ndim != 2 or features.shape[1] != width:
                raise ValueError(f"`features` must be (N, {width}), but got shape {tuple(features.shape)}.")
            return features, {}
        return embed(self.backbone, inputs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if module is self:
            for buffer, drawn in zip((self.codebook, self.assignment), draw_first_centers(self.config), strict=True):
                init.copy_(buffer, drawn)


def draw_first_centers(config: CRHConfig) -> tuple[Tensor, Tensor]:
    """Draw the codebook `(H, M, d)` and the assignment `(H, C)` that a new model with this config starts from."""
    draw = {"draws": config.codebook_draws, "seed": config.codebook_seed, "capacity": config.word_capacity}
    return draw_centers(*config.codebook_shape, cast(int, config.num_labels), **draw)
