import base64
import sys

import numpy as np
import pytest
import torch
from backbones.architectures import ARCHITECTURES, feature_extractor, tiny_config
from tiny_data import sound, sound_bytes
from transformers import ClapFeatureExtractor, Wav2Vec2FeatureExtractor, pipeline

from modeling_crh.encoding import Encoder
from modeling_crh.sounds import Sound, UnreadableSoundError, read_sound, sound_inputs

STEREO = sound(1, channels=2)


FORMATS = dict.fromkeys(["WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64"], 1e-4) | {"OGG": 0.2, "MP3": 0.2}


@pytest.mark.parametrize(("sound_format", "loss"), FORMATS.items())
def test_a_file_of_any_format_is_the_mean_of_its_channels_at_its_own_rate(sound_format, loss):
    samples, rate = read_sound(sound_bytes(STEREO, sound_format=sound_format))
    assert (samples.dtype, samples.shape, rate) == (np.float32, (1600,), 8000)
    assert np.abs(samples - STEREO.mean(1)).mean() < loss


def test_a_sound_is_the_same_from_every_source(tmp_path):
    content, path = sound_bytes(STEREO, subtype="FLOAT"), tmp_path / "tone.wav"
    path.write_bytes(content)
    text = base64.b64encode(content).decode()
    sources = [path, str(path), content, text, f"data:audio/wav;base64,{text}"]
    sources += [{"bytes": content, "path": None}, {"bytes": None, "path": str(path)}]
    arrays = [STEREO, STEREO.T, STEREO.mean(1), STEREO.astype(np.float64)]
    sources += [{"array": values, "sampling_rate": 8000} for values in arrays]
    sources.append({"raw": (STEREO * 2**31).astype(np.int32), "sampling_rate": np.int64(8000)})
    for source in sources:
        samples, rate = read_sound(source)
        assert rate == 8000
        assert np.allclose(samples, STEREO.mean(1), atol=1e-6)
    assert read_sound(STEREO[:, 0]).rate is None


def header_claims(content, total):
    """A FLAC file whose header claims so many samples, which are 36 bits at bit 172 of the file."""
    bits = int.from_bytes(content[18:26], "big") & ~(2**36 - 1) | total
    return content[:18] + bits.to_bytes(8, "big") + content[26:]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"it is missing\.$"),
        ({"bytes": None, "path": None}, r"row 3 is not: it is missing\.$"),
        (b"", r"row 3 is not: no known format of sound\.$"),
        (b"no sound" * 99, r"no known format of sound\.$"),
        ("/no/such.wav", r"`audio` must be a complete recording, but /no/such\.wav is not: No such file or dir"),
        (sound_bytes(STEREO)[:3000], r"its end is missing\.$"),
        (sound_bytes(STEREO, sound_format="AIFF")[:3000], r"its end is missing\.$"),
        (sound_bytes(STEREO, sound_format="FLAC")[:3000], r"is not: .*\.$"),
        (header_claims(sound_bytes(STEREO, sound_format="FLAC"), 2**36 - 1), r"is not: .*\.$"),
        (sound_bytes(STEREO[:0]), r"it has no samples\.$"),
        (sound_bytes(STEREO * np.nan, subtype="FLOAT"), r"its samples are not finite\.$"),
        (sound_bytes(STEREO, sound_format="PVF"), r"no known format of sound: PVF\.$"),
        (sound_bytes(STEREO, 900), r"its rate must be from 1,000 to 768,000 Hz, but is 900\.$"),
        ({"array": STEREO, "sampling_rate": 10**9}, r"its rate must be from 1,000 to 768,000 Hz, but is 1,0"),
        ({"array": np.zeros(3_600_001, np.float32), "sampling_rate": 1000}, r"it is longer than an hour, or "),
    ],
)
def test_what_is_no_complete_recording_is_unreadable_and_named(value, message):
    with pytest.raises(UnreadableSoundError, match=message):
        read_sound(value, "row 3")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "`audio` must be a path, a URL, bytes, base64 text, an array or a dict of them, but got int"),
        ({"array": STEREO, "sampling_rate": 8000.5}, "`sampling_rate` must be a whole number of Hz, but got 8000.5"),
        (np.zeros((2, 2, 2)), r"numbers, \(T,\) or \(channels, T\), but got float64 \(2, 2, 2\)"),
    ],
)
def test_what_can_be_no_sound_is_an_error_of_the_caller(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_sound(value)
    assert type(caught.value) is ValueError


def test_without_its_package_sound_is_no_bad_row_but_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'modeling-crh\[audio\]'"):
        read_sound(sound_bytes(STEREO))


def test_a_sound_of_another_rate_is_resampled_and_a_very_short_one_is_padded():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    tones = [np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) for rate in (8000, 16000, 44100)]
    given = [Sound(tone, len(tone)) for tone in tones] + [Sound(tones[1][:10], None)]
    inputs = sound_inputs(extractor, given)
    assert inputs["attention_mask"].sum(1).tolist() == [16000, 16000, 16000, 4000]
    middle = inputs["input_values"][:3, 1000:-1000]
    assert torch.allclose(middle[0], middle[1], atol=0.01)
    assert torch.allclose(middle[2], middle[1], atol=0.01)
    assert torch.equal(inputs["input_values"][3, :10], torch.from_numpy(tones[1][:10]))
    assert not inputs["input_values"][3, 10:].any()


SOUNDS = {row.name: row for row in ARCHITECTURES if row.tower in (None, "audio")}
LAYER = "wav2vec2:feat_extract_norm=layer,do_stable_layer_norm=True"  # with masks


@pytest.mark.parametrize(
    "name",
    ["wav2vec2", LAYER, *"hubert wavlm wav2vec2-bert audio-spectrogram-transformer whisper clap:audio".split()],
)
def test_the_code_of_a_sound_depends_on_no_other_sound_and_on_no_chance(name, tiny_model, tmp_path):
    row = SOUNDS[name]
    config = tiny_config(row.kind, row.fields)
    config.initializer_range = config.init_std = 0.3
    extractor = feature_extractor(config)
    contents = [sound_bytes(sound(n % 3, n, seconds=length)) for n, length in enumerate([0.5, 1.1, 0.01, 2.7, 0.5])]
    encoder = Encoder(tiny_model(config, tower=row.tower, initializer_range=1.0), extractor)
    together = encoder.hash_logits(contents)
    alone = torch.cat([encoder.hash_logits([content]) for content in contents])
    assert torch.allclose(together, alone, atol=1e-4 * float(alone.abs().max()))
    assert (together[0] - together[1]).abs().max() > 1e-3 * float(alone.abs().max())
    assert torch.equal(encoder.hash_logits(contents), together)
    hashing = pipeline("crh-hashing", model=encoder.model, feature_extractor=extractor, code_format="packed")
    hashing.save_pretrained(tmp_path)
    expected = encoder.packed(contents)
    for pipe in (hashing, pipeline("crh-hashing", model=str(tmp_path))):
        assert np.array_equal([output["code"] for output in pipe(contents, batch_size=3)], expected)


def test_fused_clips_which_are_drawn_at_random_are_refused():
    with pytest.raises(ValueError, match=r"must have the truncation 'rand_trunc', .* but has 'fusion'"):
        sound_inputs(ClapFeatureExtractor(), [read_sound(STEREO[:, 0])])
