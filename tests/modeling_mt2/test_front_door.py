"""The front door: one line opens a model by any of its names, and importing the package costs next to nothing."""

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import mt2_music
from mt2_music.feature_extraction.feature_extraction_mt2 import AudioWarning
from mt2_music.loading import find_model
from mt2_music.music import KEY_LABELS, camelot, fifths_between, open_key
from support import RATE, pitch_fork, python, song

# Runs transformers' own classes on a folder without trust_remote_code, in an order of imports that comes before it.
USE_AUTO_CLASSES = """
import numpy
config = transformers.AutoConfig.from_pretrained(FOLDER)
assert type(config) is mt2_music.MT2Config
model = transformers.AutoModel.from_pretrained(FOLDER)
assert type(model) is mt2_music.MT2Model
assert type(transformers.AutoModelForPreTraining.from_config(config)) is mt2_music.MT2ForPreTraining
frames = transformers.AutoModelForAudioFrameClassification.from_config(config)
assert type(frames) is mt2_music.MT2ForAudioFrameClassification
assert type(transformers.AutoFeatureExtractor.from_pretrained(FOLDER)) is mt2_music.MT2FeatureExtractor
"""
USE_PIPELINE = """
name = transformers.pipeline("audio-classification", FOLDER)
assert type(name.model) is mt2_music.MT2ForAudioClassification
assert len(name({"raw": numpy.zeros(16000, numpy.float32), "sampling_rate": 16000}, top_k=24)) == 24
model.save_pretrained("saved")
import pathlib
assert pathlib.Path("saved/modeling_mt2.py").is_file()  # whatever is saved carries its code
"""
ORDERS = {
    "package first": "import mt2_music, transformers",
    "transformers first": "import transformers; transformers.AutoModel; import mt2_music",
    "our module first": "import mt2_music.modeling_mt2, transformers",
    # Within the import of another model's module, MT2's cannot be imported: it has to come later.
    "another model's module first": "import mt2_music, transformers.models.bert.modeling_bert, transformers",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, so that torch is imported once for all")
def test_auto_classes_know_mt2_in_any_order_of_imports(tmp_path):
    code = f"""
import os, sys, torch
FOLDER = {find_model("mt2-small-key")!r}
for order in {list(ORDERS.values())}:
    child = os.fork()
    if child == 0:
        exec(order + {USE_AUTO_CLASSES!r})
        if order == {ORDERS["package first"]!r}:
            exec({USE_PIPELINE!r})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, order
"""
    python("-c", code, cwd=tmp_path)


def test_the_package_imports_nothing_that_is_heavy(tmp_path):
    code = """
import sys
import mt2_music.cli
mt2_music.cli.main  # what the command imports
heavy = {"torch", "transformers", "numpy", "soundfile"} & set(sys.modules)
assert not heavy, heavy
assert {"load", "MT2Model", "__version__"} <= set(dir(mt2_music))
import importlib.util
assert importlib.util.find_spec("transformers") and "torch" not in sys.modules  # to ask for it does not import it
"""
    python("-c", code, cwd=tmp_path)
    for words in (["--help"], ["key", "--help"], ["embed", "--help"], ["similar", "--help"], ["export", "--help"]):
        start = os.times().children_user
        imports = python("-X", "importtime", "-m", "mt2_music.cli", *words).stderr
        assert "argparse" in imports
        assert " torch\n" not in imports and " numpy\n" not in imports, words
        assert os.times().children_user - start < 1.0


def test_broken_packages_are_hidden_before_transformers_sees_them(tmp_path):
    for name, error in (("torchaudio", "AttributeError('_ARRAY_API')"), ("soxr", "OSError('libsoxr.so')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {error}", encoding="utf-8")
        (tmp_path / f"{name}-9.9.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n"
        (tmp_path / f"{name}-9.9.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import mt2_music
    assert not caught  # nothing was imported yet
    from transformers import AutoFeatureExtractor, PreTrainedModel, Wav2Vec2FeatureExtractor
told = [str(warning.message) for warning in caught]
assert any("torchaudio does not load (AttributeError: _ARRAY_API)" in text for text in told), told
assert any("soxr does not load (OSError" in text for text in told), told
mt2_music.load("mt2-small", device="cpu")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    python("-c", code, env=environment)


def test_objects_travel_to_spawned_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import multiprocessing
import mt2_music

def make(config):
    from transformers import AutoModel
    return type(AutoModel.from_config(config)).__module__

if __name__ == "__main__":
    config = mt2_music.MT2Config(hidden_size=96, num_hidden_layers=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(make, [config]) == ["mt2_music.modeling_mt2"]
""",
        encoding="utf-8",
    )
    python(script)
    config = pickle.loads(pickle.dumps(mt2_music.MT2Config(hidden_size=96)))
    assert type(config) is mt2_music.MT2Config and config.hidden_size == 96


def test_a_model_is_found_by_folder_hub_name_or_short_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"mt2-small", "mt2-small-key"} <= set(mt2_music.list_models())
    packaged = Path(find_model("mt2-small"))
    assert (packaged / "model.safetensors").is_file() and packaged.is_absolute()
    (tmp_path / "mt2-small").mkdir()  # a folder of that name which holds no model is in nobody's way
    assert Path(find_model("mt2-small")) == packaged
    (tmp_path / "mt2-small" / "config.json").write_text("{}", encoding="utf-8")
    assert find_model("mt2-small") == "mt2-small"
    assert find_model("someone/their-mt2") == "someone/their-mt2"
    (tmp_path / "someone" / "their-mt2").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no model"):
        find_model("someone/their-mt2")
    for name in ("mt2-smal", "a/b/c", tmp_path / "nothing", ""):
        with pytest.raises(FileNotFoundError, match=r"no model"):
            find_model(name)
    assert mt2_music.load(packaged, device="cpu").name == "mt2-small"
    with pytest.raises(ValueError, match="dtype"):
        mt2_music.load(packaged, dtype="int8")
    with pytest.raises(ValueError, match="cannot compute on"):
        mt2_music.load(packaged, device="cuda:99")


@pytest.fixture(scope="module")
def model():
    return mt2_music.load(device="cpu")


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front door")
    (folder / "deeper").mkdir()
    for name, tonic in (("c.wav", 0), ("g.wav", 7), ("deeper/d.flac", 2)):
        soundfile.write(folder / name, pitch_fork(tonic), RATE)
    (folder / "broken.ogg").write_bytes(b"OggS")
    return folder


def test_one_song_is_embedded_and_its_key_named(model, music):
    embedding = model.embed(music / "c.wav", frames=True)
    assert embedding.mean.shape == embedding.equivariant.shape == embedding.contrastive.shape
    assert np.allclose(embedding.mean, (embedding.equivariant + embedding.contrastive) / 2, atol=1e-5)
    assert len(embedding.frames) == len(embedding.frame_times)
    assert embedding.frame_times[-1] <= embedding.seconds == pytest.approx(embedding.times[-1, 1])
    assert len(repr(embedding)) < 200
    estimate = model.key(music / "c.wav")
    assert (estimate.key, estimate.camelot, estimate.open_key) == ("C major", "8B", "1d")
    samples, rate = soundfile.read(music / "c.wav", dtype="float32")
    assert model.key(samples, rate).key == model.key(list(samples), sampling_rate=rate).key == "C major"
    unnamed = mt2_music.load("mt2-small", device="cpu").key(samples, rate)
    assert (unnamed.key, unnamed.name, unnamed.camelot) == (None, "C major / A minor", None)
    with pytest.raises(ValueError, match="broken.ogg"):
        model.key(music / "broken.ogg")
    with pytest.raises(FileNotFoundError, match="missing"):
        model.embed("missing.ogg")


def test_lists_and_folders_name_what_failed_and_lose_nothing(model, music, tmp_path):
    files = [music / "g.wav", music / "broken.ogg", pitch_fork(2), str(music / "c.wav")]
    keys = model.key(files)
    assert [bool(key) for key in keys] == [True, False, False, True]
    assert keys[0].key == "G major" and keys[3].key == "C major"
    assert keys[1].file.endswith("broken.ogg") and "broken.ogg" in keys[1].error
    assert keys[2].file == "song 2" and "sampling_rate" in keys[2].error
    with pytest.raises(AttributeError, match="broken.ogg could not be used"):
        keys[1].key  # noqa: B018
    assert not pickle.loads(pickle.dumps(keys[1]))
    songs = model.embed(music)
    assert [str(Path(name).relative_to(music)) for name in songs] == ["broken.ogg", "c.wav", "g.wav", "deeper/d.flac"]
    assert [name for name, found in songs.items() if not found] == [str(music / "broken.ogg")]
    assert list(model.key(f"{music}/*.wav")) == [str(music / "c.wav"), str(music / "g.wav")]
    assert model.embed([]) == []
    with pytest.raises(FileNotFoundError, match="no audio files"):
        model.embed(tmp_path)
    with pytest.raises(ValueError, match="hop_seconds"):  # refused once, and not for every song
        model.embed(files, hop_seconds=99)
    with pytest.raises(ValueError, match="transpositions"):
        model.key(music, transpositions=99)


@pytest.mark.parametrize("rate", [RATE, 44100, 48000, 192000])
def test_a_song_of_one_sample_is_a_song_however_it_comes(model, rate, tmp_path):
    """Resampled, less than a sample would be left of it."""
    sample = np.full(1, 0.5, np.float32)
    soundfile.write(tmp_path / "one.wav", sample, rate)
    data = (tmp_path / "one.wav").read_bytes()
    songs = [tmp_path / "one.wav", data, io.BytesIO(data), {"array": sample, "sampling_rate": rate}]
    found = [model.embed(song) for song in songs] + [model.embed(sample, rate)]
    assert all(song.seconds == 1 / RATE and np.isfinite(song.mean).all() for song in found)
    soundfile.write(tmp_path / "none.wav", sample[:0], rate)
    with pytest.raises(ValueError, match="empty"):
        model.embed(tmp_path / "none.wav")


def test_arrays_bytes_and_what_is_no_song(model, music):
    samples, rate = soundfile.read(music / "c.wav", dtype="float32")
    both = np.stack([samples, pitch_fork(7)[: len(samples)]])
    assert [key.key for key in model.key(both, rate)] == ["C major", "G major"]
    assert [key.key for key in model.key(torch.from_numpy(both), rate)] == ["C major", "G major"]
    stereo = np.stack([samples, samples], axis=1)
    with pytest.raises(ValueError, match=r'"array": samples.T, "sampling_rate": rate') as refusal:
        model.key(stereo, rate)
    assert model.key({"array": stereo.T, "sampling_rate": rate}).key == "C major", refusal
    data = (music / "c.wav").read_bytes()
    assert np.array_equal(model.embed(data).mean, model.embed(music / "c.wav").mean)
    for nothing in (None, float("nan"), object(), iter([samples])):
        with pytest.raises(ValueError, match="is not audio: a clip is a path"):
            model.embed(nothing)
    listed = model.embed([data, None, both], rate)
    assert [bool(song) for song in listed] == [True, False, False]
    assert "None is not audio" in listed[1].error and "one clip is expected" in listed[2].error


class Broken:
    """A file object that is none."""

    def read(self, size=-1):
        raise ZeroDivisionError("division by zero")


ODD = {
    "a number": (5, "5 is not audio"),
    "not a number": (float("nan"), "nan is not audio"),
    "a path that is none": ({"path": 5}, "an audio dict needs"),
    "a cell whose path is none": ({"bytes": None, "path": 5}, "'path' is of type int"),
    "bytes that are none": ({"bytes": "abc"}, "an audio dict needs"),
    "a cell whose bytes are none": ({"bytes": "abc", "path": None}, "'bytes' is of type str"),
    "an address that nothing here reads": ({"bytes": None, "path": "nowhere://song.wav"}, "nowhere"),
    "a file object that fails": (Broken(), "cannot be read: ZeroDivisionError: division by zero"),
    "a rate like no other": ({"array": np.zeros(99), "sampling_rate": 10**400}, "whole number of hertz from 100 to"),
    "a tensor of nothing": ({"array": torch.zeros(9, device="meta"), "sampling_rate": RATE}, "a tensor on meta"),
    "an empty name": ("", "an empty name"),
}


@pytest.mark.parametrize("case", ODD)
def test_one_odd_element_costs_a_list_no_other(model, music, case):
    odd, words = ODD[case]
    for song_first in (True, False):
        songs = [music / "c.wav", odd] if song_first else [odd, music / "c.wav"]
        found = model.embed(songs)
        failed = found[song_first]
        assert [bool(one) for one in found] == [song_first, not song_first]
        assert words in failed.error
    if case != "an empty name":
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            model.embed(odd)


def test_a_list_is_samples_only_if_it_holds_nothing_but_numbers(model, music):
    samples = pitch_fork(0)[: 3 * RATE]
    want = model.embed(samples, RATE).mean
    for numbers in (list(samples), samples.tolist(), tuple(samples)):
        assert np.allclose(model.embed(numbers, RATE).mean, want, atol=1e-5)
    assert np.allclose(model.embed(torch.from_numpy(samples).to_sparse(), RATE).mean, want, atol=1e-5)
    assert [bool(song) for song in model.embed([0.5, samples, 0], RATE)] == [False, True, False]


def test_memory_that_does_not_suffice_for_a_song_costs_no_other(model, music, monkeypatch, capsys):
    from mt2_music.cli import main
    from mt2_music.song import embed

    def decode(file, rate, seconds):
        if str(file).endswith("c.wav"):
            raise MemoryError("Unable to allocate 240. GiB")
        return read(file, rate, seconds)

    read = embed.read_blocks
    monkeypatch.setattr(embed, "read_blocks", decode)
    first, second = model.key([music / "c.wav", music / "g.wav"])
    assert first.error == "the memory does not suffice: Unable to allocate 240. GiB"
    assert second.key == "G major"
    assert main(["key", str(music / "c.wav"), str(music / "g.wav")]) == 1
    told = capsys.readouterr()
    assert f"{music / 'c.wav'}: the memory does not suffice" in told.err
    assert told.out.startswith(f"{music / 'g.wav'}\tG major")


def test_a_pipe_is_read_once_and_is_a_song_for_everything(model, music):
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.file = io.BytesIO(data)

        def readinto(self, buffer):
            return self.file.readinto(buffer)

        def readable(self):
            return True

    data = (music / "c.wav").read_bytes()
    flat = io.BytesIO()
    soundfile.write(flat, pitch_fork(0), round(RATE * 0.98), format="WAV")  # out of tune: it is read twice
    assert model.key(Pipe(data)).key == model.key(io.BufferedReader(Pipe(data))).key == "C major"
    assert model.key(Pipe(flat.getvalue())).key == "C major"
    assert np.array_equal(model.embed(Pipe(data)).mean, model.embed(data).mean)
    songs = model.embed(music)
    assert model.similar(Pipe(data), songs, any_key=True) == model.similar(data, songs, any_key=True)
    with open(os.pipe()[0], "rb") as closed:
        closed.close()
        with pytest.raises(ValueError, match="closed"):
            model.key(closed)


OPTIONS = [
    ("embed", "hop_seconds", [float("nan"), float("inf"), "1", 0, -1, 10**400]),
    ("embed", "batch_size", ["8", 1.5, 0]),
    ("embed", "transposition", [1.5, "1"]),
    ("key", "transpositions", [1.5, "1", -1]),
    ("similar", "number", [1.5, "3", 0]),
]


@pytest.mark.parametrize(("method", "option", "values"), OPTIONS)
def test_options_that_make_no_sense_are_refused_by_name(model, method, option, values):
    samples = pitch_fork(0)[:RATE]
    index = {"index": {"song": model.embed(samples, RATE)}} if method == "similar" else {}
    for value in values:
        for audio in (samples, [samples]):
            with pytest.raises(ValueError, match=option):
                getattr(model, method)(audio, sampling_rate=RATE, **index, **{option: value})


def test_paths_as_bytes_folders_in_lists_and_empty_names(model, music, monkeypatch):
    with pytest.raises(ValueError, match=r"is the path of a file, as bytes: give it as text"):
        model.key(os.fsencode(music / "c.wav"))
    first, second = model.key([music, music / "c.wav"])
    assert first.error == f"{music} is a folder, not a file: in a list give files, and folders one by one"
    assert second.key == "C major"
    monkeypatch.chdir(music)
    with pytest.raises(FileNotFoundError, match="an empty name"):
        model.key("")


def test_what_is_no_index_is_refused_and_a_silent_song_is_said_to_be_one(model, music, capsys):
    from mt2_music.cli import main

    songs = model.embed(music)
    for index in (list(songs.values()), songs[str(music / "c.wav")], model.embed([music / "broken.ogg"]), 5):
        with pytest.raises(ValueError, match="an index is what `mt2 index` or `mt2 embed` wrote, or songs by name"):
            model.similar(music / "c.wav", index)
    with pytest.warns(AudioWarning, match="the song is silent"):
        model.similar(np.zeros(RATE, np.float32), songs, RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        model.similar([music / "c.wav"], songs)
    soundfile.write(music / "deeper" / "silence.wav", np.zeros(RATE), RATE)
    try:
        assert main(["index", str(music / "c.wav"), "-o", str(music / "index.npz")]) == 0
        assert main(["similar", str(music / "deeper" / "silence.wav"), "--index", str(music / "index.npz")]) == 0
        assert "silence.wav: the song is silent, and what is similar to it means nothing" in capsys.readouterr().err
    finally:
        (music / "deeper" / "silence.wav").unlink()
        (music / "index.npz").unlink(missing_ok=True)


def test_similar_songs_by_python_and_by_the_command_are_the_same(model, music, tmp_path, capsys):
    from mt2_music.cli import main

    index = tmp_path / "index.npz"
    assert main(["index", str(music), "-o", str(index)]) == 1
    capsys.readouterr()
    assert main(["similar", str(music / "c.wav"), "--index", str(index), "--by", "equivariant", "--json"]) == 0
    told = [tuple(row.values()) for row in json.loads(capsys.readouterr().out)[0]["nearest"]]
    songs = model.embed(music)
    for source in (songs, index, [index], model.open_index(songs)):
        found = model.similar(music / "c.wav", source, by="equivariant")
        assert [(name, round(similarity, 6)) for name, similarity in found] == told
    assert str(music / "c.wav") not in [name for name, _ in told] and len(told) == 2
    assert set(model.similar(music, songs)) == set(songs)
    with pytest.raises(ValueError, match="the index is of"):
        mt2_music.load("mt2-small", device="cpu").similar(music / "c.wav", songs)
    with pytest.raises(ValueError, match="no vectors"):
        model.similar(music / "c.wav", songs, by="loudness")


def test_codes_of_djs():
    pairs = {
        "A minor": ("8A", "1m"),
        "C major": ("8B", "1d"),
        "F# minor": ("11A", "4m"),
        "A major": ("11B", "4d"),
        "E minor": ("9A", "2m"),
        "Db major": ("3B", "8d"),
        "Ab minor": ("1A", "6m"),
        "B major": ("1B", "6d"),
        "E major": ("12B", "5d"),
        "F major": ("7B", "12d"),
    }
    assert {key: (camelot(key), open_key(key)) for key in pairs} == pairs
    assert len({camelot(key) for key in KEY_LABELS}) == len({open_key(key) for key in KEY_LABELS}) == 24
    assert (fifths_between(0, 7), fifths_between(7, 0), fifths_between(0, 6)) == (1, -1, 6)


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert mt2_music.__version__ == version("mt2-music")
    with pytest.raises(AttributeError, match="no attribute 'Load'"):
        mt2_music.Load  # noqa: B018
    assert all(getattr(mt2_music, name) is not None for name in mt2_music.__all__)


def test_a_song_of_a_stranger(tmp_path):
    """In an empty folder, in a process of its own: what the README promises in its first lines."""
    soundfile.write(tmp_path / "song.ogg", song(7), RATE)
    result = subprocess.run(
        [sys.executable, "-m", "mt2_music.cli", "key", "song.ogg", "--always"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("song.ogg\t") and result.stdout.split("\t")[1] in KEY_LABELS
