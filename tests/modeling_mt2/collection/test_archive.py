"""Many files: bad ones are named and change nothing, archives go on, and no two models' embeddings are mixed."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from mt2_music.audio.files import audio_files
from mt2_music.cli import main
from mt2_music.collection.similar import nearest
from mt2_music.collection.table_formats import column_names, read_columns, write_table
from mt2_music.collection.tables import Embeddings, make_row, read_embeddings
from mt2_music.loading import Provenance
from mt2_music.song.embed import SongEmbedding
from mt2_music.storage import write_npz
from support import RATE, ROOT, pitch_fork, song

SECOND = np.sin(np.arange(RATE) / 20).astype(np.float32)


def encoded(audio, rate=RATE, container="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=container, subtype=subtype)
    return file.getvalue()


def hostile_files():
    """Name, content, and whether there is music to be had: every kind of file that an old archive holds."""
    flac, ogg, mp3 = (encoded(SECOND, container=kind, subtype=None) for kind in ("FLAC", "OGG", "MP3"))
    wav = encoded(SECOND)
    noise = np.random.default_rng(3).bytes(5000)
    good = {
        "8 bit.wav": encoded(SECOND / 2, subtype="PCM_U8"),
        "24 bit.wav": encoded(SECOND, subtype="PCM_24"),
        "float.wav": encoded(SECOND, subtype="FLOAT"),
        "double.wav": encoded(SECOND.astype(np.float64), subtype="DOUBLE"),
        "a-law.wav": encoded(SECOND, 8000, subtype="ALAW"),
        "96 kHz.flac": encoded(np.tile(SECOND, 6), 96000, "FLAC", "PCM_24"),
        "192 kHz.wav": encoded(np.tile(SECOND, 12), 192000),
        "odd rate.wav": encoded(SECOND, 12347),
        "six channels.wav": encoded(np.stack([SECOND] * 6, 1)),
        "short.wav": encoded(SECOND[:800]),
        "one sample.wav": encoded(SECOND[1:2]),
        "constant.wav": encoded(np.full(RATE, 0.7)),
        "silence.flac": encoded(np.zeros(RATE), container="FLAC"),
        "square.wav": encoded(np.sign(SECOND)),
        "beyond full scale.wav": encoded(30 * SECOND, subtype="FLOAT"),
        "flac called mp3.mp3": flac,
        "ogg called wav.wav": ogg,
        "wav called flac.flac": wav,
        "mp3 called ogg.ogg": mp3,
        "UPPER CASE.WAV": wav,
        "ümläut 音楽.ogg": ogg,
        "spaces, 'quotes'\" and [brackets].wav": wav,
        "aiff.aiff": encoded(SECOND, container="AIFF"),
        "rubbish at its end.wav": wav + noise,
    }
    bad = {
        "empty.wav": b"",
        "no samples.wav": encoded(np.zeros(0)),
        "no samples at 44100.wav": encoded(np.zeros(0), 44100),
        "text.mp3": b"this is no music" * 100,
        "noise.flac": noise,
        "header alone.wav": wav[:20],
        "header alone.flac": flac[:42],
        "header alone.ogg": ogg[:60],
        "nan.wav": encoded(np.full(RATE, np.nan, np.float32), subtype="FLOAT"),
        "infinite.wav": encoded(np.full(RATE, np.inf, np.float32), subtype="FLOAT"),
        "nan in the middle.wav": encoded(np.where(np.arange(RATE) == 9000, np.nan, SECOND), subtype="FLOAT"),
        "too large.wav": encoded(SECOND.astype(np.float32) * 1e30, subtype="FLOAT"),
        "picture.ogg": b"\x89PNG\r\n\x1a\n" + noise,
    }
    either = {}  # cut files: what a decoder makes of them is its affair, a crash is not
    for kind, data in (("wav", wav), ("flac", flac), ("ogg", ogg), ("mp3", mp3)):
        for share in range(1, 30):
            either[f"cut after {share} of 30.{kind}"] = data[: len(data) * share // 30]
    for seed in range(48):
        rng = np.random.default_rng(seed)
        data = bytearray((flac, ogg, mp3, wav)[seed % 4])
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        either[f"damaged {seed}.{('flac', 'ogg', 'mp3', 'wav')[seed % 4]}"] = bytes(data)
    return good, bad, either


def test_two_hundred_hostile_files(published, tmp_path, capsys):
    folder = tmp_path / "hostile"
    folder.mkdir()
    good, bad, either = hostile_files()
    for name, content in (good | bad | either).items():
        (folder / name).write_bytes(content)
    (folder / "a folder.mp3").mkdir()
    os.mkfifo(folder / "pipe.wav") if hasattr(os, "mkfifo") else (folder / "pipe.wav").mkdir()
    (folder / "dangling.ogg").symlink_to(tmp_path / "nothing")
    bad |= dict.fromkeys(["a folder.mp3", "pipe.wav", "dangling.ogg"], b"")
    num_files = len(good | bad | either)
    assert num_files >= 200
    options = ["--model", str(published), "--json"]
    assert main(["embed", str(folder), "-o", str(tmp_path / "all.npz"), *options]) == 1
    output = capsys.readouterr()
    results = {row["file"].removeprefix(f"{folder}{os.sep}"): row for row in json.loads(output.out)}
    assert results.keys() == (good | bad | either).keys()
    assert "Traceback" not in output.err
    assert all(("error" in row) != ("seconds" in row) for row in results.values())
    assert {name for name in good if "error" in results[name]} == set()
    assert {name for name in bad if "error" not in results[name]} == set()
    assert all(len(row["error"]) > 10 for row in results.values() if "error" in row)
    failures = [row["file"] for row in csv.DictReader((tmp_path / "all.failures.csv").open(encoding="utf-8"))]
    assert failures == [row["file"] for row in results.values() if "error" in row]
    alone = [str(folder / name) for name in good]
    assert main(["embed", *alone, "-o", str(tmp_path / "good.npz"), "--model", str(published)]) == 0
    assert not (tmp_path / "good.failures.csv").exists()
    together, apart = read_embeddings([tmp_path / "all.npz"]), read_embeddings([tmp_path / "good.npz"])
    rows = [together.files.index(file) for file in apart.files]
    for name, vectors in apart.vectors.items():
        assert np.isfinite(together.vectors[name]).all()
        assert np.array_equal(vectors, together.vectors[name][rows])


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    for index in range(6):
        soundfile.write(folder / f"{index}.flac", song(index, 3.0), RATE)
    (folder / "broken.flac").write_bytes(b"fLaC")
    return folder


@pytest.fixture(scope="module")
def at_once(published, songs, tmp_path_factory):
    path = tmp_path_factory.mktemp("once") / "once.npz"
    assert main(["embed", str(songs), "--model", str(published), "-o", str(path)]) == 1
    return read_embeddings([path])


def same(some: Embeddings, others: Embeddings, atol: float = 0.0) -> bool:
    order = [some.files.index(file) for file in others.files]
    return some.source == others.source and all(
        np.allclose(some.vectors[name][order], vectors, rtol=0, atol=atol) for name, vectors in others.vectors.items()
    )


@pytest.mark.parametrize("name", ["songs.npz", "songs.parquet", "songs.arrow", "songs"])
def test_every_format_comes_back(published, songs, at_once, tmp_path, name):
    if not name.endswith("npz"):
        pytest.importorskip("pyarrow")
    options = ["--model", str(published), "-o", str(tmp_path / name), "--windows", "--frames"]
    assert main(["embed", str(songs), *options]) == 1
    assert same(read_embeddings([tmp_path / name]), at_once)
    assert at_once.source.model == published.name


def test_windows_and_frames_are_in_the_tables(published, songs, tmp_path):
    from mt2_music import MT2FeatureExtractor, MT2Model
    from mt2_music.loading import load_model
    from mt2_music.song.embed import embed_audio

    parquet = pytest.importorskip("pyarrow.parquet")
    files = [str(songs / "0.flac"), str(songs / "1.flac")]
    model, extractor = load_model(MT2Model, published), MT2FeatureExtractor.from_pretrained(published)
    want = [embed_audio(model, extractor, file, frames=True) for file in files]
    for name in ("x.npz", "x.parquet"):
        output = ["--model", str(published), "-o", str(tmp_path / name)]
        assert main(["embed", *files, *output, "--windows", "--frames"]) == 0
    table = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    arrays = np.load(tmp_path / "x.npz")
    starts = np.cumsum([0, *arrays["num_windows"]])
    for index, embedding in enumerate(want):
        assert np.array_equal(np.float32(table[index]["times"]), embedding.times)
        assert np.array_equal(np.float32(table[index]["windows_mean"]), embedding.windows["mean"])
        assert np.array_equal(np.float32(table[index]["frames"]), embedding.frames)
        assert np.array_equal(arrays["windows_mean"][starts[index] : starts[index + 1]], embedding.windows["mean"])
    assert arrays["num_frames"].sum() == len(arrays["frames"])


def test_shares_make_the_whole(published, songs, at_once, tmp_path):
    pytest.importorskip("pyarrow")
    folder = tmp_path / "archive"
    for shard in range(3):
        share = ["--shards", "3", "--shard", str(shard)]
        main(["embed", str(songs), "--model", str(published), "-o", str(folder), *share])
    assert same(read_embeddings([folder]), at_once)
    reports = [
        row["file"] for path in folder.glob("failures-*.csv") for row in csv.DictReader(path.open(encoding="utf-8"))
    ]
    assert reports == [str(songs / "broken.flac")]
    assert main(["embed", str(songs), "--model", str(published), "-o", str(folder), "--shard", "3"]) == 2


@pytest.mark.slow
def test_two_processes_of_accelerate_share_a_folder(published, songs, at_once, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("accelerate")
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    command = [*launch, "-m", "mt2_music.cli", "embed", songs, "--model", published, "-o", tmp_path / "archive"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    launched = [sys.executable, *map(str, command)]
    result = subprocess.run(launched, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1  # for the broken file, which must not stop the other process
    assert "broken.flac" in result.stderr
    assert same(read_embeddings([tmp_path / "archive"]), at_once, atol=1e-5)  # with other threads, not to the bit
    assert len(list((tmp_path / "archive").glob("*-of-00002-*.parquet"))) == 2


def test_a_broken_run_goes_on_and_a_torn_part_is_written_again(
    published, songs, at_once, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("mt2_music.collection.archive.ROWS_PER_PART", 2)
    folder = tmp_path / "archive"
    embed = ["embed", "--model", str(published), "-o", str(folder), "--json"]
    assert main([*embed, *(str(songs / f"{index}.flac") for index in range(4))]) == 0
    torn, whole = sorted(folder.glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-100])
    before = whole.stat().st_mtime_ns
    os.utime(songs / "3.flac")
    capsys.readouterr()
    assert main([*embed, str(songs)]) == 1
    output = capsys.readouterr()
    assert "damaged" in output.err
    assert f"1 files are others than when they were embedded, such as {songs / '3.flac'}" in output.err
    finished = [row["file"] for row in json.loads(output.out) if row.get("finished")]
    assert len(finished) == 2
    assert whole.stat().st_mtime_ns == before
    assert same(read_embeddings([folder]), at_once)


def test_a_killed_run_leaves_whole_parts(published, songs, tmp_path):
    pytest.importorskip("pyarrow")
    music = tmp_path / "music"
    music.mkdir()
    for index in range(300):
        shutil.copy(songs / f"{index % 6}.flac", music / f"{index}.flac")
    folder = tmp_path / "archive"
    code = "import sys, mt2_music.cli as cli, mt2_music.collection.archive as archive; archive.ROWS_PER_PART = 3; "
    code += "sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "embed", music, "--model", published, "-o", folder]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    while len(list(folder.glob("*.parquet"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = read_embeddings([folder])
    assert 9 <= len(there.files) < 300
    assert len(there.files) % 3 == 0


def test_a_disk_that_fails_for_once_costs_no_part(published, songs, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    folder = tmp_path / "archive"
    embed = ["embed", str(songs / "0.flac"), "--model", str(published), "-o", str(folder)]
    assert main(embed) == 0
    (part,) = folder.glob("*.parquet")
    before = part.read_bytes()

    def refuse(*_):
        raise PermissionError(13, "permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("mt2_music.collection.table_formats._read_arrow", refuse)
        assert main(embed) == 2
    assert part.read_bytes() == before


def test_rows_of_one_folder_are_made_alike(published, songs, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    embed = ["embed", str(songs / "0.flac"), "--model", str(published), "-o", str(tmp_path / "archive")]
    assert main(embed) == 0
    assert main([*embed, "--windows"]) == 2
    assert "holds rows made with" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--hop", "99"], ["--batch_size", "0"], ["--hop", "0.5", "--frames"], ["--device", "cuda:99"]]
)
def test_senseless_options_are_refused_before_any_file(published, songs, tmp_path, options, capsys):
    output = tmp_path / "x.npz"
    assert main(["embed", str(songs), "--model", str(published), "-o", str(output), *options]) == 2
    assert not list(tmp_path.glob("x*"))
    assert "Traceback" not in capsys.readouterr().err
    assert main(["key", str(songs / "0.flac"), "--transpositions", "99"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
def test_names_that_are_no_utf8_are_written_escaped(published, songs, tmp_path):
    pytest.importorskip("pyarrow")
    for content, name in ((songs / "0.flac", b"caf\xe9.flac"), (songs / "broken.flac", b"bro\xe9.flac")):
        shutil.copy(os.fsencode(content), os.path.join(os.fsencode(tmp_path), name))
    folder = tmp_path / "archive"
    for _ in range(2):
        assert main(["embed", str(tmp_path / "*.flac"), "--model", str(published), "-o", str(folder)]) == 1
        assert [os.path.basename(file) for file in read_embeddings([folder]).files] == ["caf\\udce9.flac"]
    (report,) = folder.glob("failures-*.csv")
    assert "bro\\udce9" in report.read_text(encoding="utf-8")


def test_embeddings_of_two_models_are_never_mixed(published, songs, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    pytest.importorskip("pyarrow")
    weights = load_file(published / "model.safetensors")
    other = shutil.copytree(published, tmp_path / "other" / published.name)
    save_file(
        {name: 1.001 * tensor for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"}
    )
    front_end = shutil.copytree(published, tmp_path / "front" / published.name)
    settings = json.loads((front_end / "preprocessor_config.json").read_text(encoding="utf-8"))
    (front_end / "preprocessor_config.json").write_text(json.dumps({**settings, "cqt_power": 0.6}), encoding="utf-8")
    file, tables = str(songs / "0.flac"), []
    for index, model in enumerate((published, other, front_end)):
        tables.append(tmp_path / f"{index}.parquet")
        assert main(["embed", file, "--model", str(model), "-o", str(tables[-1])]) == 0
    for pair in (tables[:2], tables[::2], tables[1:]):
        with pytest.raises(ValueError, match="different models"):
            read_embeddings(pair)
    assert main(["embed", file, "--model", str(published), "-o", str(tmp_path / "archive")]) == 0
    assert main(["embed", file, "--model", str(other), "-o", str(tmp_path / "archive")]) == 2
    assert "holds embeddings of" in capsys.readouterr().err
    assert main(["similar", file, "--model", str(other), "--index", str(tables[0])]) == 2
    assert "the index is of" in capsys.readouterr().err


def test_a_data_set_is_embedded_like_its_files(published, songs, at_once, tmp_path):
    datasets = pytest.importorskip("datasets")
    files = at_once.files
    data = datasets.Dataset.from_dict({"sound": files}).cast_column("sound", datasets.Audio(decode=False))
    data.to_parquet(tmp_path / "data" / "train.parquet")
    for streaming in ([], ["--streaming"]):
        options = ["--dataset", str(tmp_path / "data"), "--audio_column", "sound", *streaming]
        output = tmp_path / f"rows{len(streaming)}.npz"
        assert main(["embed", *options, "--model", str(published), "-o", str(output)]) == 0
        rows = read_embeddings([output])
        assert rows.files == [f"{tmp_path / 'data'} train row {index}" for index in range(len(files))]
        assert np.array_equal(rows.vectors["mean"], at_once.vectors["mean"])


def test_globs_and_folders_stand_for_files(tmp_path):
    for name in ("a/1.wav", "a/2.mp3", "a/notes.txt", "b/3.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = audio_files([str(tmp_path / "*" / "*.wav"), str(tmp_path / "a")])
    assert [os.path.basename(file) for file in found] == ["1.wav", "3.wav", "2.mp3"]
    assert audio_files([str(tmp_path / "*.flac")]) == [str(tmp_path / "*.flac")]  # refused by its name


def random_index(number=30, size=16):
    rng = np.random.default_rng(1)
    vectors = {name: rng.normal(5, 1, (number, size)).astype(np.float32) for name in ("mean", "contrastive")}
    return Embeddings([f"{row}.wav" for row in range(number)], vectors, Provenance("m", "r", "f"))


def test_nearest_is_what_sklearn_finds():
    neighbors = pytest.importorskip("sklearn.neighbors")
    index = random_index()
    query = index.vectors["contrastive"][7] + 0.1
    centre = index.vectors["contrastive"].mean(0)
    peer = neighbors.NearestNeighbors(metric="cosine").fit(index.vectors["contrastive"] - centre)
    distances, rows = peer.kneighbors([query - centre], 5)
    found = nearest(index, query, "contrastive", 5)
    assert [file for file, _ in found] == [f"{row}.wav" for row in rows[0]]
    assert np.allclose([similarity for _, similarity in found], 1 - distances[0], atol=1e-5)
    assert nearest(index, np.stack([-query, query]), "contrastive", 1)[0][0] == found[0][0]
    with pytest.raises(ValueError, match="no vectors 'equivariant'"):
        nearest(index, query, "equivariant")
    with pytest.raises(ValueError, match="do not fit"):
        nearest(index, query[:5], "mean")


def test_similar_leaves_the_song_out_and_names_bad_files(published, songs, tmp_path, capsys, monkeypatch):
    index = str(tmp_path / "index")
    pytest.importorskip("pyarrow")
    assert main(["index", str(songs), "--model", str(published), "-o", index]) == 1
    capsys.readouterr()
    query = [str(songs / "0.flac"), str(songs / "broken.flac")]
    options = ["--model", str(published), "--index", index, "-k", "3", "--json"]
    assert main(["similar", *query, *options]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert len(first["nearest"]) == 3
    assert query[0] not in [row["file"] for row in first["nearest"]]
    assert "error" in second
    monkeypatch.chdir(songs)  # the same song by another path
    assert main(["similar", "0.flac", *options]) == 0
    assert query[0] not in capsys.readouterr().out.replace('"file": "0.flac"', "")
    copy = tmp_path / "copy.flac"
    shutil.copy(query[0], copy)
    assert main(["similar", str(copy), "--model", str(published), "--index", index, "--by", "contrastive"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1.000", query[0]]


def test_a_transposed_song_is_found_in_any_key(tmp_path, capsys):
    """By the shipped model: the same piece, a tritone higher, is far by its key and near without it."""
    pytest.importorskip("pyarrow")
    for tonic in range(12):
        soundfile.write(tmp_path / f"{tonic}.wav", pitch_fork(tonic), RATE)
    assert main(["index", str(tmp_path), "-o", str(tmp_path / "index")]) == 0
    query = ["similar", str(tmp_path / "0.wav"), "--index", str(tmp_path / "index"), "--by", "equivariant", "--json"]
    query += ["-k", "11"]
    capsys.readouterr()
    assert main(query) == 0
    in_key = {row["file"]: row["similarity"] for row in json.loads(capsys.readouterr().out)[0]["nearest"]}
    assert main([*query, "--any_key"]) == 0
    any_key = {row["file"]: row["similarity"] for row in json.loads(capsys.readouterr().out)[0]["nearest"]}
    far = str(tmp_path / "6.wav")
    assert in_key[far] < 0.1
    assert any_key[far] > 0.7, any_key


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_tables_are_refused_when_they_are_none(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(b"no table")
    with pytest.raises(ValueError, match="damaged, or not a table"):
        read_embeddings([tmp_path / name])
    with pytest.raises(FileNotFoundError):
        read_embeddings([tmp_path / f"missing-{name}"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no embeddings were found"):
        read_embeddings([tmp_path / "empty"])


def test_a_table_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    embedding = SongEmbedding({"mean": np.ones(3, np.float32)}, {}, np.zeros((1, 2)), 1.0)
    rows = [make_row("a.wav", embedding, Provenance("m", "r", "f"))]
    path = tmp_path / "x.npz"
    write_table(path, rows)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"no space.*x\.npz"):
        write_table(path, rows)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.npz", "out.parquet", "out.arrow", "out"])
def test_a_full_disk_is_named_with_the_output(published, songs, tmp_path, name):
    """By a limit on the size of files, which systems answer as they do a full disk."""
    resource = pytest.importorskip("resource")
    code = "import resource, sys; from mt2_music.cli import main\n"
    code += f"resource.setrlimit({resource.RLIMIT_FSIZE}, (1000, 1000)); sys.exit(main(sys.argv[1:]))"
    command = ["embed", songs, "--model", published, "-o", tmp_path / name, "--device", "cpu"]
    result = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert result.returncode == 2
    assert re.search(rf"mt2: .*File too large.*{name}", result.stderr.splitlines()[-1])
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".npz", ".parquet", ".arrow", ".part")] == []


@pytest.mark.parametrize("suffix", ["npz", "parquet", "arrow"])
@pytest.mark.parametrize("content", [b"mine", b"\x93NUMPY\1\0" + bytes(99), b"PK\3\4" + bytes(99), b""])
def test_what_is_no_table_is_named_and_not_believed(suffix, content, tmp_path):
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(content)
    for read in (read_columns, column_names):
        with pytest.raises(ValueError, match=f"mine.{suffix} is damaged, or not a table of embeddings: ") as refusal:
            read(path)
        assert "pickle" not in str(refusal.value)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / f"missing.{suffix}")


def test_an_index_that_is_something_else_stays_as_it_is(songs, tmp_path, capsys):
    path = tmp_path / "mine.npz"
    path.write_text("mine", encoding="utf-8")
    for command in (["index", str(songs), "-o", str(path)], ["similar", str(songs), "--index", str(path)]):
        assert main(command) == 2
        assert f"mt2: {path} is damaged, or not a table of embeddings: it is no npz file" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"


def test_archives_hold_their_arrays_alone_whatever_numpy_is_there(tmp_path, monkeypatch):
    """Before numpy 2, `np.savez` has no option but takes all that is named for arrays."""
    save = np.savez

    def savez(file, *arrays, **named):
        save(file, *arrays, **{name: np.asarray(array) for name, array in named.items()})

    monkeypatch.setattr(np, "savez", savez)
    write_npz(tmp_path / "x.npz", vectors=np.ones(3), path=np.array(["ü"]))
    with np.load(tmp_path / "x.npz") as stored:
        assert sorted(stored.files) == ["path", "vectors"]
    with pytest.raises(ValueError, match="names holds Python objects"):
        write_npz(tmp_path / "y.npz", names=np.array(["a", None]))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_doctor_says_what_works_and_names_what_is_broken(tmp_path, capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "soundfile" in told
    assert "mp3 files" in told
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "modeling_mt2" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name in ("torch", "transformers", "datasets"):
        (line,) = [line for line in told.splitlines() if line.startswith(f"{name} ")]
        lowest, newest = line.split("; tested with ")[1].split(" to ")
        assert re.search(rf'"{name}>={re.escape(lowest)}[",]', declared) and f"{name}=={newest}" in pinned
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(
        "raise OSError('libc10_cuda.so: cannot open shared object')", encoding="utf-8"
    )
    (tmp_path / "torchaudio-9.9.dist-info").mkdir()
    (tmp_path / "torchaudio-9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchaudio\nVersion: 9.9\n", encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "mt2_music.cli", "doctor", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stderr
    rows = {row["name"]: row for row in json.loads(result.stdout)["checks"]}
    assert "libc10_cuda" in rows["torchaudio"]["problem"]
    assert rows["mt2-small-analysis"]["problem"] is None
