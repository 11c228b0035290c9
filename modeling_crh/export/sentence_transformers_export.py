"""Write a model of texts as a folder of sentence-transformers that gives the same packed codes."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_crh.backbones import Pooling, has_towers, pooling_of, token_pooling
from modeling_crh.checks import check_path, needs_extra
from modeling_crh.codes import check_same_codes
from modeling_crh.hub.cards import MARK
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pipeline_crh import tokenize
from modeling_crh.pretrained import quiet_loading
from modeling_crh.processors import whole_length

_MODES: dict[str, Any] = {"cls": "cls", "mean": "mean", "last": "lasttoken"}  # of sentence-transformers, by pooling
_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 1000)  # of the texts that are compared, in tokens; the last is cut


def export_sentence_transformers(
    model: CRHModel, folder: str | Path, *, tokenizer: PreTrainedTokenizerBase, name: str = "this model"
) -> Path:
    """Write a folder that `SentenceTransformer(folder).encode(texts, precision="ubinary")` turns texts into codes by.

    The modules are the backbone, its pooling, and one dense layer for each linear layer of the hash head; batch norms
    are folded into the layer before them. The folder is written only after its codes were compared with the model's.

    Args:
        model: Model of texts, which is not changed; the folder holds float32.
        folder: New or empty folder, in a folder that exists.
        tokenizer: Tokenizer of the model.
        name: Name of the model in the card of the folder.

    Returns:
        The folder.

    Raises:
        ValueError: If `folder` holds something, sentence-transformers has no modules for the model, or they give other
            codes.
        ModuleNotFoundError: If sentence-transformers is not installed.
    """
    target = _check_new_folder(folder)
    pooling = _check_model(model)
    with needs_extra("This export", "sentence-transformers"):
        from sentence_transformers import SentenceTransformer
    texts = _some_texts(tokenizer)
    single = cast(CRHModel, cast(Any, copy.deepcopy(model)).float().cpu().eval())
    with torch.inference_mode():
        hash_logits = single(**tokenize(tokenizer, texts)).hash_logits
    with quiet_loading(), TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        parts, whole = Path(beside, "parts"), Path(beside, "whole")
        cast(PreTrainedModel, single.backbone).save_pretrained(parts)
        tokenizer.save_pretrained(parts)
        prompt = tokenizer.init_kwargs.get("prompt", "")
        settings: dict[str, Any] = {"prompts": {"default": prompt}, "default_prompt_name": "default"} if prompt else {}
        modules = _modules(single, parts, _MODES[pooling])
        built = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot", **settings)
        built.save(str(whole), create_model_card=False)
        Path(whole, "README.md").write_text(_card(name, model.config.num_bits), encoding="utf-8")
        packed = SentenceTransformer(str(whole), device="cpu").encode(texts, precision="ubinary")
        check_same_codes(packed, hash_logits, "sentence-transformers")
        whole.replace(target)
    return target


def _check_new_folder(folder: str | Path) -> Path:
    target = check_path("folder", folder)
    is_free = not target.is_symlink() and (not target.exists() or (target.is_dir() and not any(target.iterdir())))
    if not is_free or not target.parent.is_dir():
        raise ValueError(f"`folder` must be new or empty, in a folder that exists, but got {str(folder)!r}.")
    return target


def _check_model(model: CRHModel) -> Pooling:
    """Return the pooling of a model, if sentence-transformers has modules for it and for the backbone."""
    backbone = model.backbone
    if backbone is None or backbone.main_input_name != "input_ids":
        raise ValueError(f"`model` must read texts for sentence-transformers, but reads `{model.main_input_name}`.")
    kind, pooling = backbone.config.model_type, pooling_of(backbone) or token_pooling(backbone)
    reason = None
    if has_towers(backbone) or whole_length(backbone) is not None:
        reason = "is the text tower of a dual encoder"
    elif cast(Any, model.config.backbone_config).is_encoder_decoder:
        reason = "is the encoder of a model that also decodes"
    elif pooling not in _MODES:
        reason = "pools by a module of its own"
    if reason is not None:
        raise ValueError(f"`model` must consist of modules that sentence-transformers has, but {kind} {reason}.")
    return pooling


def _modules(model: CRHModel, folder: Path, mode: Any) -> list[nn.Module]:
    """Make the modules of sentence-transformers: backbone and tokenizer of a folder, pooling, and the hash head."""
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    transformer = Transformer(str(folder))
    modules: list[nn.Module] = [transformer, Pooling(cast(int, model.config.num_features), mode)]
    for layer, activation in _linear_layers(model.hash_head):
        dense = Dense(layer.in_features, layer.out_features, activation_function=activation)
        dense.linear.load_state_dict(layer.state_dict())
        modules.append(dense)
    return modules


def _linear_layers(head: nn.Module) -> list[tuple[nn.Linear, nn.Module]]:
    """Return the linear layers of a hash head in evaluation mode, with batch norms folded in, and what follows each."""
    found: list[tuple[nn.Linear, nn.Module]] = []
    for layer in [head] if isinstance(head, nn.Linear) else list(cast(nn.Sequential, head)):
        if isinstance(layer, nn.Linear):
            found.append((layer.double(), nn.Identity()))
        elif isinstance(layer, nn.BatchNorm1d):
            found[-1] = fuse_linear_bn_eval(found[-1][0], layer.double()), nn.Identity()
        elif isinstance(layer, nn.ReLU):
            found[-1] = found[-1][0], nn.ReLU()
    return [(linear.float(), after) for linear, after in found]


def _some_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Draw texts of random tokens, of several lengths."""
    generator = np.random.default_rng(0)
    draws = [generator.integers(0, len(tokenizer), length).tolist() for length in _LENGTHS]
    return [f"text {tokenizer.decode(tokens, skip_special_tokens=True)}" for tokens in draws]


def _card(name: str, num_bits: int) -> str:
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, hashing, binary-codes, modeling-crh]
---

# {name}, for sentence-transformers

The signs of the {num_bits} numbers of a text are its code, the same as the model's own:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")  # this folder, or the name of its repository
packed = model.encode(["a first text", "quite another one"], precision="ubinary")  # (2, {num_bits // 8}) uint8
```

Compare codes by Hamming distance. The numbers themselves mean little: do not compare them by cosine similarity.

{MARK}
"""
