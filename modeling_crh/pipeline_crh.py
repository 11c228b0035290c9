"""CRHPipeline: the task "crh-hashing", images in and binary codes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from modeling_crh.checkpoints import FASHION_MNIST_64
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.images import read_image

TASK = "crh-hashing"

CodeFormat = Literal["packed", "bits", "hex"]


class CRHPipeline(Pipeline):
    """Binary codes of images, one dict an image: `{"code": ...}`.

    Called on a path, a URL, a PIL image, or a list, generator or `KeyDataset` of them, with `batch_size` and
    `code_format`:

    - `"packed"` (the default): `(K / 8,)` uint8, bit order of `numpy.packbits`;
    - `"bits"`: `(K,)` uint8 of 0 and 1;
    - `"hex"`: a string of K / 4 hexadecimal digits.

    Raises:
        ValueError: If `code_format` is none of these, or an image cannot be read.

    Example:
        >>> from PIL import Image
        >>> from transformers import pipeline
        >>> hashing = pipeline("crh-hashing")
        >>> code = hashing(Image.new("RGB", (28, 28)))["code"]
        >>> code.shape, code.dtype
        ((8,), dtype('uint8'))
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        """See the class."""
        if isinstance(images, Sequence) and not isinstance(images, str | list):
            images = list(images)  # a column of a data set, say
        if isinstance(images, list) and not images:
            return []
        return super().__call__(images, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save model and image processor; the pipeline's own code comes from this library, and not from the folder."""
        self.model.save_pretrained(save_directory, **kwargs)
        if self.image_processor is not None:
            self.image_processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self, code_format: CodeFormat | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise ValueError(f"The pipeline takes `batch_size` and `code_format`, but got {sorted(unknown)}.")
        if code_format is None:
            return {}, {}, {}
        if code_format not in ("packed", "bits", "hex"):
            raise ValueError(f"`code_format` must be 'packed', 'bits' or 'hex', but got {code_format!r}.")
        return {}, {}, {"code_format": code_format}

    def preprocess(self, image: Any) -> dict[str, Any]:
        """Pixels of one image, by the image processor of the checkpoint."""
        return dict(self.image_processor(read_image(image), return_tensors="pt").to(self.dtype))

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        return {"hash_logits": self.model(**model_inputs).hash_logits}

    def postprocess(self, model_outputs: dict[str, Any], code_format: CodeFormat = "packed") -> dict[str, Any]:
        """The code of one image in the format asked for."""
        packed = pack_codes(binarize(model_outputs["hash_logits"])).numpy()[0]  # (K / 8,)
        if code_format == "hex":
            return {"code": packed.tobytes().hex()}
        return {"code": np.unpackbits(packed) if code_format == "bits" else packed}


def register_pipeline() -> None:
    """Make `pipeline("crh-hashing")` known to transformers."""
    PIPELINE_REGISTRY.register_pipeline(
        TASK, CRHPipeline, pt_model=AutoModel, default={"model": (str(FASHION_MNIST_64), "main")}, type="image"
    )
