"""Load pretrained backbones, with every weight in the checkpoint."""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from modeling_crh.backbones import (
    Pooling,
    Tower,
    has_towers,
    only_needed,
    pooler_settings,
    pooling_of,
    refuse,
    unmasked,
)
from modeling_crh.checks import is_whole, one_reason
from modeling_crh.saved_files import FINDING_ARGUMENTS, check_checkpoint, read_checked

_PLACING_ARGUMENTS = "dtype attn_implementation device_map".split()

# Weights that a checkpoint may lack: they hide parts of the input in pretraining, or scale to 1 and shift by 0.
_NEEDLESS = re.compile(r"(^|\.)(masked_spec_embed|mask_token|pooler\.layernorm\.(weight|bias))$")

_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers; a hash head finds its own scale
# Pooling modes of sentence-transformers. Before version 6 each had a flag, such as `pooling_mode_cls_token`.
_DECLARED: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


def model_with_backbone(model_class: Any, name: str, **settings: Any) -> PreTrainedModel:
    """Make a `CRHModel` with a pretrained backbone, see `CRHModel.from_backbone`."""
    if "torch_dtype" in settings:  # a config keeps it, and no weight would heed it
        raise ValueError("`torch_dtype` must be given as `dtype`, its name in transformers.")
    if name and Path(name).is_dir():
        name = str(Path(name).absolute())  # the config keeps it, and a relative one may look like a Hub id
    loading = {key: settings.pop(key) for key in (*FINDING_ARGUMENTS, "trust_remote_code") if key in settings}
    placing = {key: settings.pop(key) for key in _PLACING_ARGUMENTS if key in settings}
    config = model_class.config_class(backbone_config=load_config(name, **loading), **settings)
    placing = {"dtype": torch.float32, "tower": config.tower, "pooling": config.pooling} | placing
    backbone = load_pretrained(name, loading=loading, **placing)
    config.pooling = pooling_of(backbone)
    devices = {parameter.device for parameter in backbone.parameters()}
    if len(devices) > 1:
        raise ValueError(f"`device_map` must place the backbone on one device, but got {placing['device_map']!r}.")
    model: PreTrainedModel = model_class(config, backbone)
    nn.Module.to(model, devices.pop(), backbone.dtype)
    model.train(False)
    return model


def load_pretrained(
    name: str,
    *,
    tower: Tower | None = None,
    pooling: Pooling | None = None,
    loading: dict[str, Any] | None = None,
    **settings: Any,
) -> PreTrainedModel:
    """Load a pretrained backbone, all of whose weights are in the checkpoint, in evaluation mode.

    Args:
        name: Hub id or folder of a model that `AutoModel` loads.
        tower: See `CRHConfig`.
        pooling: See `CRHConfig`; None takes what a folder of sentence-transformers declares.
        loading: Arguments of `from_pretrained` that find the files, such as `revision` and `token`.
        **settings: The other arguments of `from_pretrained`, such as `dtype`.

    Raises:
        ValueError: If the checkpoint lacks weights, has them in other shapes or is cut short, or as `build_backbone`
            raises it.
        OSError: If there is no such model, or no weights in safetensors.
    """
    loading = {"trust_remote_code": False} | (loading or {})
    config = unmasked(load_config(name, **loading))
    reporting = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # refused below
    settings = {"use_safetensors": True} | reporting | loading | settings
    try:
        with quiet_loading():
            loaded = AutoModel.from_pretrained(name, config=config, **settings, **pooler_settings(config))
    except SafetensorError as error:
        raise ValueError(f"`backbone` must be a checkpoint with whole files, but {name!r} is not: {error}.") from error
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    if pooling is None and model.main_input_name == "input_ids" and not has_towers(model):
        pooling = declared_pooling(name, **loading)
    unread = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    missing = {id(model.get_parameter_or_buffer(key)): key for key in unread}
    backbone = only_needed(model, tower, pooling)
    kept = [missing[id(tensor)] for tensor in (*backbone.parameters(), *backbone.buffers()) if id(tensor) in missing]
    if lacking := sorted(key for key in kept if not _NEEDLESS.search(key)):
        found = f"{name!r} lacks {len(lacking)}, such as {lacking[0]}"
        raise ValueError(f"`backbone` must be a checkpoint with all weights of its model in their shapes, but {found}.")
    backbone.train(False)
    return backbone


def load_config(name: str, **loading: Any) -> PreTrainedConfig:
    """Load the config of a model that can be a backbone; `loading` are arguments of `from_pretrained`.

    Raises:
        ValueError: If it cannot be a backbone, or asks for other code or weights, see `check_checkpoint`.
        OSError: If there is no such model.
    """
    with refused_backbone(name):
        check_checkpoint(name, **loading)
    loading.setdefault("trust_remote_code", False)  # or transformers asks at the terminal
    config: PreTrainedConfig = AutoConfig.from_pretrained(name, **loading)
    refuse(config)
    return config


def refused_backbone(name: str, *kinds: type[Exception]) -> AbstractContextManager[None]:
    """Turn errors about a checkpoint, by default every `ValueError`, into one that names the backbone."""
    return one_reason(f"`backbone` must be a model's folder or Hub id, but {name!r} is not", *(kinds or (ValueError,)))


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the progress and the load report of transformers: what matters of it is an error here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def declared_pooling(name: str, **loading: Any) -> Pooling | None:
    """Read the pooling that a folder of sentence-transformers declares in `1_Pooling/config.json`; None without one.

    Raises:
        ValueError: If it is another than the first token, the mean or the last token, or other modules follow it.
    """
    loading = {key: value for key, value in loading.items() if key != "trust_remote_code"}
    with refused_backbone(name):
        modules, values = declared_modules(name, **loading), read_checked(name, "1_Pooling/config.json", **loading)
    if others := dict.fromkeys(module for module in modules if module not in _MODULES):
        found = f"{' and '.join(others)}, which is left out then"
        raise ValueError(f"`pooling` must be given for {name!r}, whose modules.json has {found}.")
    if values is None:
        return None
    prefix = "pooling_mode_"
    flags = [key.removeprefix(prefix) for key, chosen in values.items() if key.startswith(prefix) and chosen is True]
    named = values.get("pooling_mode", [flag.removesuffix("_tokens").removesuffix("_token") for flag in flags])
    modes = [str(mode) for mode in named] if isinstance(named, list) else [str(named)]
    if len(modes) != 1 or modes[0] not in _DECLARED:
        raise ValueError(f"`pooling` must be given for {name!r}, which pools by {' and '.join(modes) or 'no mode'}.")
    return _DECLARED[modes[0]]


def declared_modules(name: str | Path, **loading: Any) -> list[str]:
    """Read the names of the modules of a folder of sentence-transformers, such as `Pooling`; empty for another folder.

    Raises:
        ValueError: If its modules.json lists no modules.
    """
    if (file := cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False, **loading)) is None:
        return []
    try:
        entries = json.loads(Path(file).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError("its modules.json is no JSON") from error
    kinds = [entry.get("type") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    if not kinds or len(kinds) < len(entries) or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError("its modules.json lists no modules")
    return [str(kind).rpartition(".")[2] for kind in kinds]


def declared_texts(name: str | Path, **loading: Any) -> tuple[int | None, str]:
    """Read the largest length and the default prompt that a folder of sentence-transformers declares.

    Returns:
        The largest number of tokens, or None for the tokenizer's limit; and the text before every text, mostly empty.

    Raises:
        ValueError: If they are damaged, or the prompt is left out of the pooling.
    """
    if not declared_modules(name, **loading):
        return None, ""
    settings = read_checked(name, "sentence_bert_config.json", **loading) or {}
    length = settings.get("max_seq_length")
    if length is not None and (not is_whole(length) or length < 1):
        raise ValueError(
            f"`max_seq_length` in its sentence_bert_config.json must be a whole number, but is {length!r:.80}"
        )
    values = read_checked(name, "config_sentence_transformers.json", **loading) or {}
    chosen, prompts = values.get("default_prompt_name"), values.get("prompts") or {}
    if chosen is None:
        return length, ""
    prompt = prompts.get(chosen) if isinstance(prompts, dict) and isinstance(chosen, str) else None
    if not isinstance(prompt, str):
        raise ValueError(f"`default_prompt_name` must name one of its prompts, but is {chosen!r:.80}")
    pooled = (read_checked(name, "1_Pooling/config.json", **loading) or {}).get("include_prompt", True)
    if prompt and pooled is not True:
        raise ValueError(f"`include_prompt` in its 1_Pooling/config.json must be true, but is {pooled!r:.80}")
    return length, prompt
