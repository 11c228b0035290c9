"""Decode sound: any source to mono samples, and samples to what a model's feature extractor makes of them."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import ClapFeatureExtractor, PreTrainedModel, SequenceFeatureExtractor

from .file_bytes import UnreadableError, read_bytes, stored_source

SUFFIXES = frozenset(".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split())
"""Endings of the names of sound files, in lower case."""

# libsndfile also opens matrices, instruments and tracks without a header.
_FORMATS = {"AIFF", "AU", "CAF", "FLAC", "MP3", "OGG", "RF64", "W64", "WAV", "WAVEX"}

_RATES = range(1_000, 768_001)  # Hz; another rate would make the filter that resamples enormous
_LONGEST = 3600  # seconds
_MOST_SAMPLES = 2**28  # of one channel, 1 GB
_TOO_LONG = f"it is longer than an hour, or than {_MOST_SAMPLES:,} samples"
_AT_A_TIME = 2**20  # samples of all channels
_SHORTEST = 0.25  # seconds; a shorter sound is padded, or convolutions and the masks of training had too few frames
_UNKNOWN_LENGTH = 0x7FFFF000  # what a program that writes to a pipe puts into the header
_INPUTS = ("input_values", "input_features", "attention_mask")


class Sound(NamedTuple):
    """One decoded sound.

    Attributes:
        samples: `(T,)` float32, one channel.
        rate: Samples per second; None for that of the model.
    """

    samples: NDArray[np.float32]
    rate: int | None


class UnreadableSoundError(UnreadableError):
    """A sound that does not decode. A failure of the machine, such as a denied permission, is no such error."""

    rule = "`audio` must be a complete recording"


def read_sound(value: Any, name: object = "") -> Sound:
    """Read one sound as training and encoding see it: the mean of its channels.

    Args:
        value: A path, a URL (http, or any that fsspec reads), base64 text, or the bytes of a file; `{"bytes": ...,
            "path": ...}`, as `datasets` stores a sound, see `stored_source`; `{"array": ..., "sampling_rate": ...}`
            (or `"raw"` for `"array"`), `(T,)`, `(channels, T)` or `(T, channels)` numbers and their rate in Hz; or
            such an array alone, with the rate of the model.
        name: Name in messages of a sound without a path.

    Raises:
        UnreadableSoundError: If there is nothing to read, or it is no sound, is cut short, has no samples or infinite
            ones, lasts over an hour, or has a rate that is not from 1 to 768 kHz.
        ValueError: If `value` is of another kind, or a row with a URL that it may not have, see `stored_source`.
        OSError: If the machine cannot read the file, such as for a denied permission.
        ModuleNotFoundError: If soundfile is not installed, or a URL needs a package that is not.

    Example:
        >>> read_sound({"array": np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 1.0]]), "sampling_rate": 8000})
        Sound(samples=array([0.5, 0.5, 1. ], dtype=float32), rate=8000)
    """
    stored = value if isinstance(value, dict) else {}
    place = str(value)[:300] if isinstance(value, str | Path) else str(stored.get("path") or name)
    try:
        if "sampling_rate" in stored:
            return _from_array(stored.get("array", stored.get("raw")), stored["sampling_rate"])
        source = stored_source(stored) if isinstance(value, dict | None) else value
        if isinstance(source, np.ndarray):
            return _from_array(source, None)
        if not isinstance(source, str | Path | bytes):
            raise ValueError(
                "`audio` must be a path, a URL, bytes, base64 text, an array or a dict of them, but got "
                f"{type(source).__name__}."
            )
        return _decode(read_bytes(source))
    except UnreadableError as error:
        raise UnreadableSoundError(error.reason, place) from error


def sound_inputs(extractor: SequenceFeatureExtractor, sounds: Sequence[Sound]) -> dict[str, torch.Tensor]:
    """What a feature extractor makes of decoded sounds, resampled to its rate.

    Sounds are padded to the longest of them, with an `attention_mask`; or, by extractors of a fixed size such as AST's,
    Whisper's and CLAP's, padded or cut to that size. Of a longer sound CLAP's takes the beginning, and no random part.

    Returns:
        `input_values` or `input_features`, and `attention_mask` where the extractor makes one: each with N rows.

    Raises:
        ValueError: If the extractor is CLAP's of fused clips, which draws at random, or its settings contradict each
            other.
    """
    rate = int(cast(Any, extractor).sampling_rate)
    samples = [_resample(sound, rate) for sound in sounds]
    settings: dict[str, Any] = {}
    if isinstance(extractor, ClapFeatureExtractor):
        if extractor.truncation != "rand_trunc":
            raise ValueError(
                "`feature_extractor` must have the truncation 'rand_trunc', since fused clips are drawn at random, but "
                f"has {extractor.truncation!r}."
            )
        samples = [some[: extractor.nb_max_samples] for some in samples]
    elif _pads_nothing(extractor):
        settings = {"padding": True, "return_attention_mask": True}
    found = cast(Any, extractor)(samples, sampling_rate=rate, return_tensors="pt", **settings)
    return {name: found[name] for name in _INPUTS if name in found}


def forward_evenly(
    call: Callable[..., torch.Tensor], model: PreTrainedModel, inputs: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Call a model on a batch so that no sound depends on the padding of another.

    A backbone of samples sees the padding in spite of the mask where it has a group norm over time, as Wav2Vec2's base
    models, or convolutions that mix it in, as conformers. Its sounds go through it one length at a time.

    Returns:
        What `call`, which runs the model, makes of the inputs: one tensor, in the order of the rows.
    """
    mask = inputs.get("attention_mask")
    config = getattr(model.config, "backbone_config", None) or model.config
    is_even = getattr(config, "feat_extract_norm", None) == "layer" and "conformer" not in config.model_type
    if "input_values" not in inputs or mask is None or is_even:
        return call(**inputs)
    lengths = mask.sum(1)  # (N,)
    groups = [(lengths == length).nonzero().flatten() for length in lengths.unique()]
    parts = [call(**{name: values[rows, : lengths[rows[0]]] for name, values in inputs.items()}) for rows in groups]
    return torch.cat(parts)[torch.cat(groups).argsort()]


def _pads_nothing(extractor: SequenceFeatureExtractor) -> bool:
    """Whether an extractor leaves sounds of several lengths as they are, unless it is told to pad them."""
    padding = inspect.signature(type(extractor).__call__).parameters.get("padding")
    return padding is not None and padding.default is False


def _resample(sound: Sound, rate: int) -> NDArray[np.float32]:
    """Samples at another rate, padded with silence to the shortest length."""
    samples, own_rate = sound
    if own_rate not in (None, rate):
        resample_poly = _packages()[1]
        divisor = math.gcd(own_rate, rate)
        samples = resample_poly(samples, rate // divisor, own_rate // divisor).astype(np.float32)
    missing = math.ceil(_SHORTEST * rate) - len(samples)
    return samples if missing <= 0 else np.pad(samples, (0, missing))


def _packages() -> tuple[Any, Any]:
    """Import what decodes and what resamples: soundfile, and a function of SciPy."""
    try:
        import soundfile
        from scipy.signal import resample_poly
    except ImportError as error:  # a model that travels alone may meet neither
        raise ModuleNotFoundError(
            f"Sound needs soundfile and SciPy: pip install 'modeling-crh[audio]' ({error})."
        ) from error
    return soundfile, resample_poly


def _decode(content: bytes) -> Sound:
    """Decode the bytes of a file in small blocks, since a header may claim any length and many channels."""
    soundfile = _packages()[0]
    blocks: list[NDArray[np.float32]] = []
    total = 0
    try:
        with soundfile.SoundFile(BytesIO(content)) as file:
            if file.format not in _FORMATS:
                raise UnreadableSoundError(f"no known format of sound: {file.format}")
            most = _most_samples(file.samplerate)
            at_a_time = max(1, _AT_A_TIME // file.channels)
            while len(block := file.read(at_a_time, dtype="float32", always_2d=True)):
                total += len(block)
                if total > most:
                    raise UnreadableSoundError(_TOO_LONG)
                blocks.append(block.mean(1))
            if _is_cut(file.extra_info) or (total < file.frames and file.format != "MP3"):  # its length is a guess
                raise UnreadableSoundError("its end is missing")
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise UnreadableSoundError(reason if error.code != 1 else "no known format of sound") from error
    return _checked(np.concatenate(blocks) if blocks else np.empty(0, np.float32), rate)


def _is_cut(log: str) -> bool:
    """Whether the log of libsndfile tells of fewer bytes than the header of a WAV, AIFF or AU file claims."""
    found = re.search(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", log)
    return found is not None and int(found[2]) < int(found[1]) < _UNKNOWN_LENGTH


def _from_array(values: Any, rate: Any) -> Sound:
    samples = np.asarray(values)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "if":
        found = f"{samples.dtype} {samples.shape}"
        raise ValueError(f"`audio` must be signed or floating numbers, (T,) or (channels, T), but got {found}.")
    if rate is not None and not isinstance(rate, int | np.integer):
        raise ValueError(f"`sampling_rate` must be a whole number of Hz, but got {rate!r}.")
    if samples.dtype.kind == "i":  # 16 bits, say
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if samples.ndim == 2:
        samples = samples.mean(0 if samples.shape[0] < samples.shape[1] else 1)
    return _checked(samples.astype(np.float32), None if rate is None else int(rate))


def _checked(samples: NDArray[np.float32], rate: int | None) -> Sound:
    if not len(samples):
        raise UnreadableSoundError("it has no samples")
    if len(samples) > (_MOST_SAMPLES if rate is None else _most_samples(rate)):
        raise UnreadableSoundError(_TOO_LONG)
    if not np.isfinite(samples).all():
        raise UnreadableSoundError("its samples are not finite")
    return Sound(samples, rate)


def _most_samples(rate: int) -> int:
    if rate not in _RATES:
        raise UnreadableSoundError(f"its rate must be from {_RATES[0]:,} to {_RATES[-1]:,} Hz, but is {rate:,}")
    return min(_MOST_SAMPLES, _LONGEST * rate)
