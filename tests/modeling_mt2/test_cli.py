"""The `mt2` command: bad files are named and stop nothing, outputs are whole, keys are right on plain cadences."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining, MT2Model
from mt2_music.audio.files import audio_files
from mt2_music.cli import main
from mt2_music.song.keys import estimate_key, mean_profile, rotate_to_c
from mt2_music.train.publish import calibrate
from support import RATE, pitch_fork, song, tiny_config


@pytest.fixture
def files(tmp_path):
    good = []
    for index, rate in enumerate((RATE, 44100)):
        good.append(str(tmp_path / f"song {index}.flac"))
        soundfile.write(good[-1], song(index, 5.0), rate)
    bad = [str(tmp_path / name) for name in ("missing.wav", "text.ogg", "empty.wav", "folder.mp3", "headerless.raw")]
    (tmp_path / "text.ogg").write_text("no audio", encoding="utf-8")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "headerless.raw").write_bytes(bytes(1000))
    return good, bad


def test_embed_writes_what_it_can_and_says_what_it_cannot(published, files, tmp_path, capsys):
    good, bad = files
    output = tmp_path / "out.npz"
    assert main(["embed", bad[0], good[0], *bad[1:], good[1], "--model", str(published), "-o", str(output)]) == 1
    errors = capsys.readouterr().err
    assert all(file in errors for file in bad)
    assert "Traceback" not in errors
    failures = list(csv.DictReader((tmp_path / "out.failures.csv").open(encoding="utf-8")))
    assert [row["file"] for row in failures] == bad
    assert all(row["error"] for row in failures)
    saved = np.load(output)
    assert saved["files"].tolist() == good
    model = MT2Model.from_pretrained(published).eval()
    extractor = MT2FeatureExtractor.from_pretrained(published)
    for index, file in enumerate(good):
        with torch.no_grad():
            outputs = model(**extractor(file, return_tensors="pt"))
        assert np.allclose(saved["mean"][index], outputs.pooler_output[0], atol=1e-5)
        assert np.allclose(saved["equivariant"][index], outputs.equivariant_embeds[0], atol=1e-5)
        assert np.allclose(saved["contrastive"][index], outputs.contrastive_embeds[0], atol=1e-5)
    assert main(["embed", *good, "--model", str(published), "-o", str(tmp_path / "again.npz")]) == 0
    assert np.array_equal(np.load(tmp_path / "again.npz")["mean"], saved["mean"])


def test_embed_writes_nothing_when_nothing_can_be_read(published, files, tmp_path):
    output = tmp_path / "none.npz"
    assert main(["embed", *files[1], "--model", str(published), "-o", str(output)]) == 1
    assert [path.name for path in tmp_path.glob("*none*")] == ["none.failures.csv"]
    assert main(["embed", files[0][0], "--model", str(tmp_path / "no model"), "-o", str(output)]) == 2


def test_folders_stand_for_the_audio_in_them(tmp_path):
    for name in ("b/2.ogg", "b/cover.jpg", "b/deeper/1.FLAC", "a.wav", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    places = [str(tmp_path / name) for name in ("missing.wav", "b", "a.wav", "empty")]
    found = [str(Path(place).relative_to(tmp_path)) for place in audio_files(places)]
    assert found == ["missing.wav", "b/2.ogg", "b/deeper/1.FLAC", "a.wav", "empty"]  # the last is refused by its name


def test_key_prints_one_list_of_objects(published, files, capsys):
    good, bad = files
    assert main(["key", good[0], bad[1], "--model", str(published), "--json", "--always"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first.keys() == {"file", "signature", "reason", "tuning_cents", "profile", "confidence"}
    assert first["file"] == good[0]
    assert len(first["profile"]) == 12
    assert sum(first["profile"]) == pytest.approx(1, abs=1e-4)
    assert first["profile"][first["signature"]] == max(first["profile"]) == first["confidence"]
    assert second == {"file": bad[1], "error": second["error"]}
    assert main(["key", good[0], "--model", str(published), "--always"]) == 0
    assert " major / " in capsys.readouterr().out


def test_half_a_circle_of_calibration_turns_every_key_by_half_a_circle(published, extractor):
    model = MT2ForPreTraining.from_pretrained(published).eval()
    before = [estimate_key(model, extractor, pitch_fork(t), RATE, always=True).signature for t in range(12)]
    assert len(set(before)) > 3
    model.config.key_calibration = (model.config.key_calibration + 6) % 12
    after = [estimate_key(model, extractor, pitch_fork(t), RATE, always=True).signature for t in range(12)]
    assert after == [(signature + 6) % 12 for signature in before]


@pytest.mark.parametrize("place", [0.0, 3.0, 4.5, 11.75])
def test_calibration_finds_where_a_model_that_estimates_keys_puts_c_major(place, extractor, monkeypatch):
    """A stand-in that knows every composed piece and puts C major `place` fifths from index 0."""
    known = {id(features): signature for signature, features in calibrate._composed_pieces(extractor.to_json_string())}
    assert sorted(known.values()) == sorted(2 * list(range(12)))

    def known_profile(model, features):
        by_fifths = torch.zeros(12)
        true = (7 * known[id(features)] + place) % 12
        by_fifths[int(true)] += 1 - true % 1
        by_fifths[(int(true) + 1) % 12] += true % 1
        return by_fifths[7 * torch.arange(12) % 12]

    monkeypatch.setattr(calibrate, "mean_profile", known_profile)
    model = MT2ForPreTraining(tiny_config())
    assert calibrate.calibrate_key(model, extractor) == pytest.approx(place, abs=0.02)


@pytest.mark.parametrize("place", [0.0, 3.0, 4.5, 11.75])
def test_profiles_between_two_keys_are_turned_by_parts_of_a_step(place):
    """A model that puts C major `place` fifths from index 0 must get every key back, also between two bins."""
    for tonic in range(12):
        by_fifths = torch.zeros(12)
        true = (7 * tonic + place) % 12
        by_fifths[int(true)] += 1 - true % 1
        by_fifths[(int(true) + 1) % 12] += true % 1
        raw = by_fifths[7 * torch.arange(12) % 12]
        turned = rotate_to_c(raw, place)
        assert turned.argmax() == tonic
        assert turned.sum() == pytest.approx(1)
        assert turned.min() >= 0


def test_profiles_of_windows_are_averaged_by_length(published, extractor):
    model = MT2ForPreTraining.from_pretrained(published).eval()
    frames = model.config.max_frames
    features = extractor(song(3), sampling_rate=RATE, return_tensors="pt")["input_features"][0, : 2 * frames + 5]
    with torch.no_grad():
        parts = [(model(part[None]).key_signature_profile[0], len(part)) for part in features.split(frames)]
    want = sum(profile * length for profile, length in parts) / len(features)
    assert torch.allclose(mean_profile(model, features), want, atol=1e-5)


def test_a_model_that_is_not_whole_is_refused(published, tmp_path, files, capsys):
    """Transformers would fill what is missing with random numbers."""
    weights = load_file(published / "model.safetensors")
    for name, lacking, command in (("encoder", "layers.0", "embed"), ("head", "key_head", "key")):
        folder = shutil.copytree(published, tmp_path / name)
        kept = {key: value for key, value in weights.items() if lacking not in key}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
        output = ["-o", str(tmp_path / "x.npz")] if command == "embed" else []
        assert main([command, files[0][0], "--model", str(folder), *output]) == 2
        assert "lacks" in capsys.readouterr().err
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert main(["key", files[0][0], "--model", str(folder)]) == 2
    assert "not mt2" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_first(published, files, tmp_path, capsys):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    for output in (tmp_path / "folder.npz", tmp_path / "no" / "x.npz", tmp_path / "x.csv", tmp_path / "file"):
        assert main(["embed", files[0][0], "--model", str(published), "-o", str(output)]) == 2
        assert "cannot write" in capsys.readouterr().err


def test_uncalibrated_or_tokenless_models_are_refused(published, extractor, tmp_path, files, capsys):
    model = MT2ForPreTraining.from_pretrained(published)
    model.config.key_calibration = None
    model.save_pretrained(tmp_path / "raw")
    extractor.save_pretrained(tmp_path / "raw")
    assert main(["key", files[0][0], "--model", str(tmp_path / "raw")]) == 2
    assert "key_calibration" in capsys.readouterr().err
