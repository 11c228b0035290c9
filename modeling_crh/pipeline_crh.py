"""CRHPipeline: the task "crh-hashing", from images, sounds or texts to binary codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from transformers import BaseImageProcessor, Pipeline, PreTrainedModel, PreTrainedTokenizerBase

from .backbones import KINDS
from .codebook import choose_length
from .codes import binarize, pack_codes
from .configuration_crh import CRHConfig
from .images import needed_side, pixel_values, read_image
from .sounds import forward_evenly, read_sound, sound_inputs

TASK = "crh-hashing"

CodeFormat = Literal["packed", "bits", "hex"]

_PROCESSORS = {"image": "image_processor", "audio": "feature_extractor", "text": "tokenizer"}


class CRHPipeline(Pipeline):
    """Binary codes of images, sounds or texts, whichever the model reads: one dict `{"code": ...}` per item.

    Call it on an image, which may be a path, a URL, base64 text, bytes, a PIL image or an array of pixels; on a sound,
    which may be a path, a URL, base64 text, bytes, an array of samples at the model's rate, or `{"array": ...,
    "sampling_rate": ...}`; or on a text; or on a list, a generator or a `KeyDataset` of them. `batch_size` is the
    number of items at a time, `num_bits` one of the model's `prefix_bits` for codes of the first bits alone, and
    `code_format` one of:

    - `"packed"` (the default): `(K / 8,)` uint8, bit order of `numpy.packbits`;
    - `"bits"`: `(K,)` uint8 of 0 and 1;
    - `"hex"`: a string of K / 4 hexadecimal digits.

    Raises:
        ValueError: If `model` is no `CRHModel` of images, sounds or texts or has no processor, `code_format` or
            `num_bits` is another, or an input has another type or is an image or a sound that cannot be read.

    Example:
        >>> from PIL import Image
        >>> from transformers import pipeline
        >>> hashing = pipeline("crh-hashing")
        >>> code = hashing(Image.new("RGB", (28, 28)))["code"]
        >>> code.shape, code.dtype
        ((8,), dtype('uint8'))
    """

    _load_processor = False
    _load_image_processor = None  # loaded where it is there; which of the three is needed, the model tells
    _load_video_processor = False
    _load_feature_extractor = None
    _load_tokenizer = None

    def __init__(self, model: PreTrainedModel, **settings: Any) -> None:
        needed = _needed_processor(model)
        if settings.get(needed) is None:
            raise ValueError(f"`{needed}` must be given, or saved with the model, but is missing.")
        settings[needed] = _fitted(settings[needed], model)
        others = {*_PROCESSORS.values()} - {needed}
        super().__init__(model, **{name: value for name, value in settings.items() if name not in others})

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Compute the codes of one item or of many, see the class."""
        if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes | bytearray | list):
            inputs = list(inputs)  # a column of a data set, say
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save the model and its processor; the pipeline's code goes with the model's."""
        self.model.save_pretrained(save_directory, **kwargs)
        self._processor().save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **settings: Any) -> Any:
        """Upload the model and its processor to the Hub, see `CRHModel.push_to_hub`."""
        model: Any = self.model
        return model.push_to_hub(repo_id, processor=self._processor(), **settings)

    def _processor(self) -> Any:
        return getattr(self, _needed_processor(self.model))

    def _sanitize_parameters(
        self, code_format: CodeFormat | None = None, num_bits: int | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise ValueError(
                f"The pipeline takes `batch_size`, `code_format` and `num_bits`, but got {sorted(unknown)}."
            )
        if code_format not in (None, "packed", "bits", "hex"):
            raise ValueError(f"`code_format` must be 'packed', 'bits' or 'hex', but got {code_format!r}.")
        choose_length(num_bits, self.model.config.lengths)
        given = {"code_format": code_format, "num_bits": num_bits}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def preprocess(self, item: Any) -> dict[str, Any]:
        """Turn one image, sound or text into the inputs of the model, by the processor of the checkpoint."""
        if self.feature_extractor is not None:
            return sound_inputs(self.feature_extractor, [read_sound(item)])
        if self.tokenizer is None:
            processor = cast(BaseImageProcessor, self.image_processor)
            image = torch.from_numpy(read_image(item, needed_side(processor))).permute(2, 0, 1)  # (3, H, W)
            return {"pixel_values": pixel_values(processor, [image])}
        if not isinstance(item, str) or not item.strip():
            raise ValueError(f"`text` must be a string that is not empty, but got {type(item).__name__} {item!r:.40}.")
        return tokenize(self.tokenizer, [item])

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        def hash_logits(**inputs: torch.Tensor) -> torch.Tensor:
            return cast(torch.Tensor, self.model(**inputs).hash_logits)

        return {"hash_logits": forward_evenly(hash_logits, self.model, model_inputs)}

    def postprocess(
        self, model_outputs: dict[str, Any], code_format: CodeFormat = "packed", num_bits: int | None = None
    ) -> dict[str, Any]:
        """Turn the hash logits of one item into its code, or the first `num_bits` of it."""
        packed = pack_codes(binarize(model_outputs["hash_logits"][:, :num_bits])).numpy()[0]  # (K / 8,)
        if code_format == "hex":
            return {"code": packed.tobytes().hex()}
        return {"code": np.unpackbits(packed) if code_format == "bits" else packed}


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, Any]:
    """Turn N texts into `input_ids` and the tokenizer's other outputs, each `(N, T)`.

    The `prompt` of the tokenizer's config, if there is one, comes before each text.

    Raises:
        ValueError: If a text has no tokens.
    """
    padding, prompt = tokenizer.init_kwargs.get("padding", True), tokenizer.init_kwargs.get("prompt", "")
    settings: dict[str, Any] = {"padding": padding, "truncation": True}
    inputs = dict(tokenizer([f"{prompt}{text}" for text in texts], return_tensors="pt", **settings))
    if inputs["input_ids"].shape[1] == 0:
        raise ValueError(f"`text` must hold a token, but {texts[0]!r} holds none.")
    return inputs if padding is True else {"input_ids": inputs["input_ids"]}


def _needed_processor(model: Any) -> str:
    """Name of the argument that the model needs: `image_processor`, `feature_extractor` or `tokenizer`."""
    if not isinstance(model, PreTrainedModel) or model.config.model_type != CRHConfig.model_type:
        raise ValueError(f"`model` must be a CRHModel, but got {type(model).__name__}.")
    reads = model.main_input_name
    if reads not in KINDS:
        raise ValueError(
            f"`model` must read images, sounds or texts, but reads `{reads}`; call `model.encode` on those."
        )
    return _PROCESSORS[KINDS[reads]]


def _fitted(processor: Any, model: PreTrainedModel) -> Any:
    """Fit a processor to the model; without the library it is one that was fitted and saved with the model."""
    try:
        from modeling_crh.processors import fit_processor
    except ImportError:
        return processor
    return fit_processor(processor, model)
