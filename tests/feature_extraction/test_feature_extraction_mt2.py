"""The front end: right bins, right numbers, strictly local frames, any input, clear refusals."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor

from mt2_music import MT2FeatureExtractor, MT2Model
from mt2_music.feature_extraction.feature_extraction_mt2 import cqt_kernels, resample
from support import RATE, song, tiny_config, tone

REFERENCE = Path(__file__).parent / "reference" / "librosa.npz"
A_MINUS_1 = 27.5


def frames(extractor, audio, rate=RATE, **kwargs):
    return extractor(audio, sampling_rate=rate, return_tensors="np", **kwargs)["input_features"][0]


def test_every_centre_tone_peaks_in_its_bin(extractor):
    tones = [tone(A_MINUS_1 * 2 ** (k / 12), seconds=2.0) for k in range(99)]
    features = extractor(tones, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert features[:, 31, :99].argmax(1).tolist() == list(range(99))


def test_semitone_up_moves_the_cqt_by_one_bin():
    extractor = MT2FeatureExtractor(cqt_power=1.0)
    low, high = (frames(extractor, sum(tone(f * s) for f in (196, 247, 294)))[15, :99] for s in (1, 2 ** (1 / 12)))
    assert np.abs(high[25:91] - low[24:90]).max() < 0.05 * high.max()
    assert np.abs(high[25:91] - low[25:91]).max() > 0.3 * high.max()


def test_cqt_equals_the_defining_sum():
    """Against the definition, written out in double precision: exact to float32."""
    extractor = MT2FeatureExtractor(cqt_power=1.0)
    audio = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    got = frames(extractor, audio)
    for k in (0, 13, 50, 98):
        frequency = A_MINUS_1 * 2 ** (k / 12)
        bandwidth = (2 ** (1 / 6) - 1) / (2 ** (1 / 6) + 1)
        length = RATE / frequency / bandwidth
        for t in (0, 20, 39):
            n = np.arange(max(0, int(512 * t - length)), min(len(audio), int(512 * t + length)))
            offset = n - 512 * t
            window = np.where(abs(offset) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * offset / length), 0)
            everywhere = np.arange(-int(length), int(length) + 1)
            norm = np.where(abs(everywhere) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * everywhere / length), 0).sum()
            want = abs((audio[n] * window * np.exp(-2j * np.pi * frequency * offset / RATE)).sum()) / norm
            assert got[t, k] == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_agrees_with_librosa():
    """CQT within 4 % in the Frobenius norm (librosa resamples octaves and rounds lengths); mel dB within 1e-4."""
    reference = np.load(REFERENCE)
    got = frames(MT2FeatureExtractor(cqt_power=1.0), reference["audio"])
    cqt = reference["cqt"][: len(got)]
    assert np.linalg.norm(got[:, : cqt.shape[1]] - cqt) < 0.04 * np.linalg.norm(cqt)
    assert np.linalg.norm(got[:, 1 : cqt.shape[1] + 1] - cqt) > 0.4 * np.linalg.norm(cqt)  # a bin off is far off
    decibels = 10 * np.log10(np.maximum(reference["mel"], 1e-8))
    assert np.abs(got[:, 99:] - (decibels[: len(got)] + 80) / 100).max() < 1e-4


def test_frames_are_local_and_do_not_depend_on_level_elsewhere(extractor):
    long = song(0)
    start, stop = 100 * 512, 140 * 512
    loud_elsewhere = long.copy()
    loud_elsewhere[: start - 6000] *= 0.01
    loud_elsewhere[stop + 6000 :] = 0.9
    assert np.allclose(frames(extractor, long)[100:140], frames(extractor, loud_elsewhere)[100:140], atol=1e-6)


def test_long_clips_are_cut_into_chunks_without_a_seam(extractor, monkeypatch):
    audio = song(1)
    whole = frames(extractor, audio)
    monkeypatch.setattr("mt2_music.feature_extraction.feature_extraction_mt2.FRAMES_PER_CHUNK", 37)
    assert np.allclose(frames(extractor, audio), whole, atol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 2, 511, 512, 1600, 64000])
def test_short_clips_have_a_defined_number_of_frames(extractor, num_samples):
    inputs = extractor(np.zeros(num_samples, np.float32), sampling_rate=RATE, return_tensors="pt")
    assert inputs["input_features"].shape == (1, num_samples // 512 + 1, 227)
    assert torch.isfinite(inputs["input_features"]).all()
    assert inputs["attention_mask"].all()


def test_layouts_types_and_sources_agree(extractor, tmp_path):
    mono = song(4, 4.0)[:RATE] + 0.01 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    stereo = np.stack([mono, np.zeros_like(mono)])
    want = frames(extractor, mono / 2)
    int16 = np.round(stereo * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", stereo.T, RATE)
    in_memory = io.BytesIO()
    soundfile.write(in_memory, stereo.T, RATE, format="FLAC")
    sources = [stereo, stereo.astype(np.float64), int16, torch.from_numpy(stereo), torch.from_numpy(int16)]
    for source in sources:
        assert np.abs(frames(extractor, source, channel_axis=0) - want).max() < 0.02
        assert np.abs(frames(extractor, source.T, channel_axis=1) - want).max() < 0.02
        assert np.abs(frames(extractor, [source.T], channel_axis=-1) - want).max() < 0.02
        assert np.abs(frames(extractor, {"array": source, "sampling_rate": RATE}) - want).max() < 0.02
    decoder = SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(stereo), sample_rate=RATE))
    data = in_memory.getvalue()
    files = [tmp_path / "a.flac", str(tmp_path / "a.flac"), {"path": str(tmp_path / "a.flac"), "bytes": None}]
    files += [{"path": None, "bytes": data}, data, bytearray(data), io.BytesIO(data), decoder]
    batch = extractor(files, return_tensors="np")["input_features"]
    assert len(batch) == 8 and all(np.abs(one - want).max() < 0.02 for one in batch)
    assert np.array_equal(frames(extractor, data), batch[4])
    for mono_clip in ((mono / 2).tolist(), [(mono / 2)[None]], [torch.from_numpy(mono / 2)[:, None]]):
        assert np.abs(frames(extractor, mono_clip) - want).max() < 0.02


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("num_clips", [1, 2, 8, 70])
def test_an_array_of_two_axes_is_a_batch_as_for_other_extractors(extractor, kind, num_clips):
    clips = np.stack([tone(220 + 10 * index, 0.3) for index in range(num_clips)])
    got = extractor(kind(clips), sampling_rate=RATE, return_tensors="np")["input_features"]
    theirs = Wav2Vec2FeatureExtractor()(clips, sampling_rate=RATE, return_tensors="np")["input_values"]
    assert len(got) == len(theirs) == num_clips
    assert np.array_equal(got, extractor(list(clips), sampling_rate=RATE, return_tensors="np")["input_features"])
    assert num_clips == 1 or not np.array_equal(got[0], got[1])


@pytest.mark.parametrize("num_channels", [1, 2, 6, 16])
def test_samples_by_channels_are_no_batch_and_the_refusal_says_what_to_write(extractor, num_channels):
    samples = np.repeat(tone(440)[:, None], num_channels, axis=1)
    want = frames(extractor, tone(440))
    for wrong in (samples, torch.from_numpy(samples)):
        with pytest.raises(ValueError, match="channel_axis=1") as refusal:
            extractor(wrong, sampling_rate=RATE)
        (advice,) = re.findall(r"\{.*?\}", str(refusal.value))
        advised = eval(advice, {"samples": wrong, "rate": RATE})  # noqa: S307
        assert np.allclose(frames(extractor, advised), want, atol=1e-3)
        assert np.allclose(frames(extractor, wrong, channel_axis=1), want, atol=1e-3)
        with pytest.raises(ValueError, match="transpose"):
            extractor({"array": wrong, "sampling_rate": RATE})
    if num_channels > 1:
        with pytest.raises(ValueError, match="clip 1: one clip is expected.*channel_axis=0"):
            extractor([tone(440), samples.T], sampling_rate=RATE)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_other_rates_are_resampled(extractor, rate):
    want, got = frames(extractor, tone(440, 1.0)), frames(extractor, tone(440, 1.0, rate), rate)
    a, b = want[5:25, :84].ravel(), got[5:25, :84].ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_clips_are_padded_where_tensors_are_asked_for_and_cut_in_samples(extractor):
    clips = [tone(440, 2.0), tone(440, 0.5)]
    ragged = extractor(clips, sampling_rate=RATE)
    assert [len(one) for one in ragged["input_features"]] == [63, 16] == [len(one) for one in ragged["attention_mask"]]
    for answer in (extractor(clips, sampling_rate=RATE, return_tensors="pt"), extractor.pad(ragged, padding=True)):
        assert answer["input_features"].shape == (2, 63, 227)
        assert answer["attention_mask"].sum(1).tolist() == [63, 16]
    cut = extractor(clips, sampling_rate=RATE, max_length=16000, truncation=True, return_tensors="np")
    assert cut["attention_mask"].sum(1).tolist() == [32, 16]
    assert np.array_equal(cut["input_features"][0], frames(extractor, clips[0][:16000]))
    at_48k = extractor(tone(440, 2.0, 48000), sampling_rate=48000, max_length=16000, truncation=True)
    assert len(at_48k["input_features"][0]) == 32  # samples at the extractor's own rate: a second
    padded = extractor(clips, sampling_rate=RATE, padding="max_length", max_length=64000, return_tensors="np")
    assert padded["input_features"].shape == (2, 126, 227)
    assert len(extractor(clips, sampling_rate=RATE, max_length=16000)["input_features"][0]) == 63  # nothing is cut
    with pytest.raises(ValueError, match="max_length counts samples"):
        extractor(clips, sampling_rate=RATE, max_length=126, truncation=True)
    with pytest.raises(ValueError, match="max_length"):
        extractor(clips, sampling_rate=RATE, truncation=True)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (tone(440), None, "sampling_rate is missing"),
        (tone(440), -1, "from 100 to 1000000"),
        (np.zeros(0), RATE, "empty"),
        (np.array([0.0, np.nan]), RATE, "NaN"),
        (np.array([0.0, np.inf]), RATE, "NaN or infinite"),
        (np.full(100, 1e25), RATE, "too large"),
        (tone(440), float("inf"), "whole number"),
        (tone(440), 16000.5, "whole number"),
        (np.zeros((1, 2, 300)), RATE, "3 axes"),
        ({"array": np.zeros((100, 300)), "sampling_rate": RATE}, None, "100 channels: several clips are a list"),
        (np.zeros(10, dtype=bool), RATE, "bool"),
        ({"array": tone(440), "sampling_rate": 44100}, RATE, "the audio says 44100"),
        ({"array": tone(440)}, None, "sampling_rate is missing"),
        ({"sampling_rate": RATE}, None, "audio dict"),
        ({"bytes": None, "path": None}, None, "audio dict.*'path': None"),
        (None, None, "^None is not audio: a clip is a path"),
        (None, RATE, "^None is not audio"),
        (float("nan"), None, "^nan is not audio"),
        ([tone(440), None], RATE, "^clip 1: None is not audio"),
        ((tone(440), RATE), None, "sampling_rate is missing"),
        ((tone(440), RATE), RATE, "^clip 1: 16000 is not audio"),
        (pandas.Series(["a.wav", "b.wav"]), None, r"type Series is not audio.*list\(paths\)"),
        (pandas.DataFrame({"file": ["a.wav"]}), RATE, "type DataFrame is not audio"),
        (np.array(["a.wav", "b.wav"]), RATE, "type ndarray is not audio"),
        (iter([tone(440)]), RATE, "is not audio.*several clips are a list"),
        (b"no sound", None, "is text, not audio"),
        (b"", None, "an empty file, not audio"),
        ([], RATE, "no audio"),
        ([tone(440), np.zeros(0)], RATE, "clip 1: .*empty"),
    ],
)
def test_bad_input_is_refused_by_name(extractor, audio, rate, message):
    with pytest.raises(ValueError, match=message):
        extractor(audio, sampling_rate=rate)


def test_bad_files_are_refused_by_name(extractor, tmp_path):
    (tmp_path / "noise.ogg").write_bytes(b"no music at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    for name, message in (("noise.ogg", "noise.ogg"), ("empty.wav", "empty.wav.*empty"), (".", "not a file")):
        with pytest.raises(ValueError, match=message):
            extractor(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        extractor(tmp_path / "missing.wav")


def test_unknown_arguments_and_settings_are_refused(extractor):
    with pytest.raises(TypeError, match="samplingrate"):
        extractor(tone(440), samplingrate=RATE)
    with pytest.raises(TypeError, match="num_mels"):
        MT2FeatureExtractor(num_mels=64)
    with pytest.raises(ValueError, match="half the sampling rate"):
        MT2FeatureExtractor(sampling_rate=8000)
    with pytest.raises(ValueError, match="padding_side"):
        MT2FeatureExtractor(padding_side="left")
    with pytest.raises(ValueError, match="decibel"):
        MT2FeatureExtractor(cqt_scale="db")


def test_settings_survive_saving_and_hold_no_arrays(tmp_path):
    extractor = MT2FeatureExtractor(num_mel_bins=64, mel_fmax_hz=7000, cqt_scale="decibel")
    frames(extractor, tone(440))  # fills the cache of constants
    extractor.save_pretrained(tmp_path)
    again = MT2FeatureExtractor.from_pretrained(tmp_path)
    assert again.to_dict() == extractor.to_dict()
    assert json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))["num_mel_bins"] == 64
    assert np.array_equal(frames(again, song(2)), frames(extractor, song(2)))


def test_input_is_left_as_it_was(extractor):
    audio = tone(440)
    before = audio.copy()
    clips = [audio, audio]
    extractor(clips, sampling_rate=RATE)
    assert np.array_equal(audio, before)
    assert len(clips) == 2


def test_float32_under_autocast(extractor):
    audio = torch.from_numpy(song(3)[None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = extractor.extract(audio)
    assert features.dtype == torch.float32
    assert torch.equal(features, extractor.extract(audio))


def embed_batch(batch, extractor):
    return dict(extractor(batch["audio"]))


def test_works_in_datasets_map(extractor, tmp_path):
    paths = []
    for index, rate in enumerate((RATE, 22050, 44100, RATE)):
        paths.append(str(tmp_path / f"{index}.wav"))
        soundfile.write(paths[-1], resample(song(index), RATE, rate), rate)
    dataset = datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio(decode=False))
    mapped = dataset.map(
        embed_batch, batched=True, batch_size=2, num_proc=2, remove_columns="audio", fn_kwargs={"extractor": extractor}
    )
    batch = extractor.pad([mapped[index] for index in range(4)], return_tensors="pt")
    model = MT2Model(tiny_config()).eval()
    with torch.no_grad():
        got = model(**batch).pooler_output
        want = torch.cat([model(**extractor(path, return_tensors="pt")).pooler_output for path in paths])
    assert torch.allclose(got, want, atol=1e-5, rtol=0)


def test_kernels_have_unit_gain():
    blocks = cqt_kernels(RATE, A_MINUS_1, 99, 12, 512)
    assert len(blocks) == 20
    assert max(block.shape[1] for block in blocks) == 2 * 99
