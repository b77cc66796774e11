"""The benchmark: an oracle scores near 1, shuffled labels fall to chance, baselines are what they are called."""

import json
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining, MT2Model
from mt2_music.music import KEY_RATINGS, key_name, key_of_chroma
from mt2_music.song.embed import embed_audio
from mt2_music.song.keys import estimate_key, mean_profile
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.clips import Clip, MissingDataError, split_by_group
from mt2_music.train.probing.encoders import Embedding, MT2Encoder, load_encoder
from mt2_music.train.probing.heads import Beats, Chords, Classes, Keys, Numbers, Tags, Tempo
from mt2_music.train.probing.metrics import load_metric
from mt2_music.train.probing.probe import probe
from mt2_music.train.probing.report.__main__ import main as report
from mt2_music.train.probing.report.report import load_results, table
from mt2_music.train.probing.rules import Tapping, ZeroShotKey
from mt2_music.train.probing.run.__main__ import main
from mt2_music.train.probing.run.benchmark import Benchmark, shuffled
from mt2_music.train.probing.tasks import TASKS
from mt2_music.train.synth import Beat, Segment, compose, find_soundfont
from support import RATE, pitch_fork, song, tone

FRAME_RATE = 31.25


def score_of(name, answers, references):
    return load_metric(name).compute(predictions=answers, references=references)


def pieces(count, rich):
    for index in range(count):
        mode = ("major", "minor")[index // 12 % 2]
        yield Path(f"piece {index}"), compose(np.random.default_rng([3, index]), 30.0, index % 12, mode, rich)


def chroma_of(notes, num_frames):
    """The true chroma of a score: which pitch classes sound in every frame, (T, 12)."""
    chroma = np.zeros((num_frames, 12), np.float32)
    for note in notes:
        chroma[round(note.start * FRAME_RATE) : round(note.end * FRAME_RATE), note.pitch % 12] += 1
    return chroma


def run_oracle(embeddings, labels, task, readout, shuffle=False):
    clips = [Clip(path, label, path.name) for path, label in labels.items()]
    splits = split_by_group(clips)
    splits = shuffled(splits, 0) if shuffle else splits
    task = TASKS[task]
    return probe(
        lambda clip: embeddings[clip.path],
        splits,
        readout,
        task.head,
        lambda answers, references: score_of(task.metric, answers, references),
        task.main,
        seed=0,
    ).test


def test_the_true_chroma_knows_the_chords():
    """The chroma of each bar of the score, and of its bass: above 95 % of chord roots."""
    embeddings, labels = {}, {}
    for path, score in pieces(240, rich=False):
        num_frames = int(score.duration * FRAME_RATE)
        pitched = [note for note in score.notes if note.role != "drums"]
        chroma = np.concatenate(
            [chroma_of(notes, num_frames) for notes in (pitched, [n for n in pitched if n.role == "bass"])], axis=1
        )
        bars = np.searchsorted(
            [b.time for b in score.beats if b.position == 1], np.arange(num_frames) / FRAME_RATE + 1e-6
        )
        by_bar = np.stack(
            [chroma[bars == bar].mean(0) if (bars == bar).any() else chroma[0] for bar in range(bars.max() + 1)]
        )
        embeddings[path] = Embedding({}, {"frames": by_bar[bars]}, FRAME_RATE)
        labels[path] = score.chords
    right = run_oracle(embeddings, labels, "corpus-chord", "frames")
    assert right["root"] > 0.95 and right["majmin"] > 0.95
    assert run_oracle(embeddings, labels, "corpus-chord", "frames", shuffle=True)["majmin"] < 0.15


def test_the_true_chroma_knows_the_key():
    """Mean chroma of score and bass, pieces that stay in one key: above 95 % of keys; shuffled, one in 24."""
    embeddings, labels = {}, {}
    for path, score in pieces(2400, rich=True):
        if len(score.keys) == 1:
            num_frames = int(score.duration * FRAME_RATE)
            pitched = [note for note in score.notes if note.role != "drums"]
            parts = [
                chroma_of(notes, num_frames).sum(0) for notes in (pitched, [n for n in pitched if n.role == "bass"])
            ]
            embeddings[path] = Embedding({"chroma": np.concatenate([part / part.sum() for part in parts])})
            labels[path] = score.key
    assert run_oracle(embeddings, labels, "corpus-key", "chroma")["accuracy"] > 0.95
    assert run_oracle(embeddings, labels, "corpus-key", "chroma", shuffle=True)["accuracy"] < 0.12


def test_true_onsets_know_the_beats():
    """Onsets of the drums, one value per drum and loudness: F1 above 0.95; read a fifth of a second late, far less."""
    with_drums = [(path, s) for path, s in pieces(160, rich=True) if any(n.role == "drums" for n in s.notes)]
    kinds = sorted({(n.pitch, n.velocity) for _, score in with_drums for n in score.notes if n.role == "drums"})
    embeddings, labels, late = {}, {}, {}
    for path, score in with_drums:
        onsets = np.zeros((int(score.duration * FRAME_RATE) + 1, len(kinds)), np.float32)
        for note in score.notes:
            if note.role == "drums":
                onsets[round(note.start * FRAME_RATE), kinds.index((note.pitch, note.velocity))] = 1
        embeddings[path] = Embedding({}, {"frames": onsets}, FRAME_RATE)
        labels[path] = score.beats
        late[path] = tuple(replace(beat, time=beat.time + 0.2) for beat in score.beats)
    assert run_oracle(embeddings, labels, "corpus-beat", "frames")["f1"] > 0.95
    assert run_oracle(embeddings, late, "corpus-beat", "frames")["f1"] < 0.7


def one_of_each(count=600):
    """For every kind of head, labels drawn at random and a vector or frames that spell them out, with noise."""
    rng = np.random.default_rng(0)
    num_frames = 400
    for kind, head, metric, main_metric in [
        ("classes", Classes(), "accuracy", "accuracy"),
        ("keys", Keys(), "key", "mirex"),
        ("tags", Tags(), "multilabel", "map"),
        ("numbers", Numbers(), "r2", "r2"),
        ("tempo", Tempo(), "tempo", "acc1"),
        ("chords", Chords(), "chord", "majmin"),
        ("beats", Beats(), "beat", "f1"),
        ("downbeats", Beats(downbeats=True), "beat", "f1"),
    ]:
        clips, embeddings, label = [], {}, ()
        for index in range(count // 4 if head.in_time else count):
            path, noise = Path(f"{kind} {index}"), 0.1 * rng.standard_normal((num_frames, 25)).astype(np.float32)
            if kind == "classes":
                place = int(rng.integers(8))
                label, noise[0, place] = f"class {place}", 1
            elif kind == "keys":
                place = int(rng.integers(24))
                label, noise[0, place] = key_name(place % 12, "major" if place < 12 else "minor"), 1
            elif kind == "tags":
                chosen = rng.random(6) < 0.3
                label, noise[0, :6] = tuple(f"tag {i}" for i in np.flatnonzero(chosen)), noise[0, :6] + chosen
            elif kind == "numbers":
                label = tuple(rng.normal(5, 2, 2))
                noise[0, :2] += label
            elif kind == "tempo":
                place = int(rng.integers(20))
                label, noise[0, place] = 60 * 1.06**place, 1
            elif kind == "chords":
                bounds = np.concatenate([[0], np.sort(rng.uniform(0, 12.8, 5)), [12.8]])
                label = tuple(
                    Segment(
                        a, b, f"{key_name(int(rng.integers(12)), 'major').split()[0]}:{rng.choice(['maj', 'min7'])}"
                    )
                    for a, b in zip(bounds, bounds[1:], strict=False)
                )
                classes = Chords().targets(label, np.arange(num_frames) / FRAME_RATE)
                noise[np.arange(num_frames), classes] += 1
            else:
                for train in range(12):  # the first is the label, and the others happen just as regularly
                    times = rng.uniform(0, 0.5) + np.arange(40) * rng.uniform(0.3, 0.5)
                    first = int(rng.integers(4))  # or every clip would begin with a downbeat: a thing to learn
                    beats = tuple(Beat(float(t), (first + i) % 4 + 1) for i, t in enumerate(times) if t < 12.7)
                    label = label if train else beats
                    for beat in beats:
                        noise[round(beat.time * FRAME_RATE), 2 * train + (beat.position > 1)] += 3
            clips.append(Clip(path, label, path.name))
            embeddings[path] = Embedding({"x": noise[0]}, {"x": noise}, FRAME_RATE)
        yield kind, head, metric, main_metric, split_by_group(clips), embeddings


@pytest.mark.parametrize("case", list(one_of_each()), ids=lambda case: case[0])
def test_oracles_score_high_and_shuffled_labels_fall_to_chance(case):
    """For every kind of task. Chance is what the true labels of other clips would score, or tapping."""
    kind, head, name, main_metric, splits, embeddings = case

    def metric(answers, references):
        return score_of(name, answers, references)

    scores = [
        probe(lambda clip: embeddings[clip.path], some, "x", head, metric, main_metric, seed=0).test[main_metric]
        for some in (splits, shuffled(splits, 1))
    ]
    assert scores[0] > 0.9
    if kind == "numbers":
        chance = 0.0
    elif kind == "tags":
        chance = float(
            np.mean([[tag in clip.label for tag in (f"tag {i}" for i in range(6))] for clip in splits["test"]])
        )
    else:
        references = [head.reference(clip.label) for clip in splits["test"]]
        guesses = [references[1:] + references[:1]]
        if kind in ("beats", "downbeats"):  # knowing nothing, one can still tap at the best of all rates
            taps = (list(np.arange(0, 12.8, period)) for period in (0.2, 0.3, 0.4, 0.8, 1.6))
            guesses += [[tapped] * len(references) for tapped in taps]
        chance = max(metric(guess, references)[main_metric] for guess in guesses)
    # Any mixture of regular events has peaks, and these meet the beats more often than steady taps do.
    assert scores[1] < chance + (0.3 if head.in_time and kind != "chords" else 0.15)


def test_the_test_split_decides_nothing():
    """Other labels of the test split change its score only: not the layer, nor what validation says."""
    *_, splits, embeddings = next(one_of_each(200))
    other = {**splits, "test": [replace(clip, label="class 0") for clip in splits["test"]]}
    answers = []

    def metric(predictions, references):
        answers.append(tuple(predictions))
        return score_of("accuracy", predictions, references)

    results = [
        probe(lambda clip: embeddings[clip.path], s, "x", Classes(), metric, "accuracy", 0) for s in (splits, other)
    ]
    assert answers[: len(answers) // 2] == answers[len(answers) // 2 :]
    assert results[0].validation == results[1].validation
    assert results[0].test != results[1].test


def test_an_empty_split_or_a_missing_readout_is_named():
    *_, splits, embeddings = next(one_of_each(100))
    arguments = (Classes(), lambda a, r: score_of("accuracy", a, r), "accuracy", 0)
    with pytest.raises(ValueError, match="validation split is empty"):
        probe(lambda clip: embeddings[clip.path], {**splits, "validation": []}, "x", *arguments)
    with pytest.raises(ValueError, match="no readout 'y'.*'x'"):
        probe(lambda clip: embeddings[clip.path], splits, "y", *arguments)


def test_chord_classes_and_frames():
    assert [Chords.class_of(c) for c in ("C:maj", "Db:min7", "B:7/3", "N", "X", "C:dim", "A:sus4", "G:aug")] == [
        0, 13, 11, 24, -1, -1, -1, -1,
    ]  # fmt: skip
    label = (Segment(0.0, 1.0, "C:maj"), Segment(1.0, 2.0, "A:min"))
    times = np.arange(64) / 32
    logits = np.eye(25)[Chords().targets(label, times)]
    answer = Chords().answer(logits, times)
    assert answer["label"] == ["C:maj", "A:min"]
    assert answer["start"] == pytest.approx([0.0, 1.0], abs=1 / 32)
    assert answer["end"][0] == answer["start"][1]
    holes = Chords().reference((Segment(0.0, 1.0, "C:maj"), Segment(2.0, 3.0, "A:min")))
    assert holes["label"] == ["C:maj", "X", "A:min"] and holes["start"][1:] == holes["end"][:-1]


def test_beats_lie_between_frames():
    """A peak between two frames is found there, a plateau once, and what is below the threshold not at all."""
    times = np.arange(100) / FRAME_RATE
    probability = 0.9 * np.exp(-0.5 * ((times - 1.01) / 0.03) ** 2) + 0.01
    logits = np.log(probability / (1 - probability))[:, None]
    assert Beats().answer(logits, times) == pytest.approx([1.01], abs=0.005)
    assert Beats().answer(np.full((100, 1), 2.0), times) == [0.0]
    assert Beats().answer(np.full((100, 1), -9.0), times) == []


def test_statistics_are_what_they_are_called():
    waveform = tone(440 * 2 ** (-9 / 12), 1.0)  # C4
    chroma = load_encoder("chroma").embed(waveform).vectors["statistics"][:12]
    assert chroma.argmax() == 0 and chroma.sum() == pytest.approx(1, abs=1e-4)
    mel = load_encoder("log-mel").embed(song(0))
    mfcc = load_encoder("mfcc").embed(song(0))
    wanted = scipy.fft.dct(mel.frames["frames"], norm="ortho", axis=1)[:, :20]
    assert np.allclose(mfcc.frames["frames"], wanted, atol=1e-4)
    assert np.allclose(mel.vectors["statistics"][128:], mel.frames["frames"].std(0), atol=1e-5)
    assert load_encoder("cqt").embed(waveform).frames["frames"].mean(0).argmax() == 39  # 27.5 Hz and 39 semitones


def test_mt2_readouts_are_those_of_the_package(published):
    encoder = load_encoder(str(published), layers=None)
    assert isinstance(encoder, MT2Encoder)
    embedding = encoder.embed(song(3))
    package = embed_audio(MT2Model.from_pretrained(published).eval(), encoder.extractor, song(3), RATE)
    for name, value in package.vectors.items():
        assert np.allclose(embedding.vectors[name], value, atol=1e-6)
    assert np.allclose(embedding.vectors["frames"], embedding.frames["frames"].mean(0), atol=1e-5)
    size = encoder.model.config.hidden_size
    assert embedding.vectors["concatenation"].shape == (2 * size,)
    assert {f"mean@{layer}" for layer in range(encoder.model.config.num_hidden_layers + 1)} < set(embedding.vectors)
    with pytest.raises(ValueError, match="layers"):
        load_encoder(str(published), layers=[99])


def test_fingerprints_tell_encoders_apart(published):
    random = [
        load_encoder(name).fingerprint for name in ("random-mt2", "random-mt2-chroma", "random-mt2", "mfcc", "cqt")
    ]
    assert random[0] == random[2]
    model = MT2ForPreTraining.from_pretrained(published).eval()
    first = MT2Encoder(model, MT2FeatureExtractor(), "one").fingerprint
    assert first == MT2Encoder(model, MT2FeatureExtractor(), "two").fingerprint
    others = [MT2Encoder(model, MT2FeatureExtractor(cqt_power=0.7), "one").fingerprint]
    with torch.no_grad():
        model.mt2.layernorm.weight[0] += 1e-3
    others.append(MT2Encoder(model, MT2FeatureExtractor(), "one").fingerprint)
    assert len({first, *others, *random}) == 7


@pytest.fixture
def other_models(tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    wav2vec = Wav2Vec2Config(
        **sizes, conv_dim=(16, 16), conv_stride=(160, 2), conv_kernel=(400, 3), num_conv_pos_embedding_groups=2
    )
    Wav2Vec2Model(wav2vec).save_pretrained(tmp_path / "wav2vec")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "wav2vec")
    ASTModel(ASTConfig(**sizes, max_length=128)).save_pretrained(tmp_path / "ast")
    ASTFeatureExtractor(max_length=128).save_pretrained(tmp_path / "ast")
    return tmp_path


def test_any_model_of_transformers_can_be_probed(other_models):
    speech = load_encoder(str(other_models / "wav2vec"), layers=[1]).embed(song(1, 12.0))
    assert speech.vectors["frames"].shape == speech.vectors["frames@1"].shape == (24,)
    assert speech.frame_rate == 50
    assert abs(len(speech.frames["frames"]) - 50 * len(song(1, 12.0)) / RATE) <= 1
    patches = load_encoder(str(other_models / "ast")).embed(song(1, 12.0))
    assert patches.vectors["frames"].shape == (24,)
    assert not patches.frames  # patches are no row of frames
    with pytest.raises(ValueError, match=r"layers \[3\] of a model that has 0 to 2"):
        load_encoder(str(other_models / "wav2vec"), layers=[3])


def test_a_function_of_ones_own_can_be_probed(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef energy(audio, rate):\n"
        "    return np.abs(audio[: len(audio) // 160 * 160]).reshape(-1, 160)\n",
        encoding="utf-8",
    )
    encoder = load_encoder(f"{tmp_path / 'mine.py'}:energy")
    embedding = encoder.embed(tone(440, 2.0))
    assert embedding.frame_rate == 100 and embedding.vectors["frames"].shape == (160,)
    with pytest.raises(ValueError, match="no function 'nothing'"):
        load_encoder(f"{tmp_path / 'mine.py'}:nothing")
    with pytest.raises(ValueError, match="neither a baseline nor a model"):
        load_encoder(str(tmp_path / "no-such-model"))


def test_embeddings_are_kept_by_content(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 2.0), RATE)
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    soundfile.write(tmp_path / "c.wav", tone(450, 2.0), RATE)
    whole = [Clip(tmp_path / f"{name}.wav", None, name) for name in "abc"]
    part = replace(whole[0], start=0.5, seconds=1.0)

    def files(name):
        return len([path for path in (tmp_path / "cache").glob(f"{name}-*/*.npz") if ".frames" not in path.name])

    cache = EmbeddingCache(tmp_path / "cache", load_encoder("mfcc"))
    for clips, count in ((whole, 2), ([*whole, part], 3), (whole, 3)):  # a and b are the same
        assert cache.fill(clips) == {}
        assert files("mfcc") == count
    again = load_encoder("mfcc")
    again.embed = None  # nothing is computed twice
    assert EmbeddingCache(tmp_path / "cache", again).fill([*whole, part]) == {}
    without_frames = EmbeddingCache(tmp_path / "cache", load_encoder("log-mel"), with_frames=False)
    assert without_frames.fill(whole) == {} and files("log-mel") == 2
    assert not list((tmp_path / "cache").glob("log-mel-*/*.frames.npz"))
    (tmp_path / "bad.wav").write_text("no audio", encoding="utf-8")
    missing = {Clip(tmp_path / name, None, name) for name in ("bad.wav", "none.wav")}
    assert cache.fill([*missing, whole[0]]).keys() == missing
    audio, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")  # 16 bits: silence is not what it was
    fresh = load_encoder("mfcc").embed(audio)
    kept = cache(whole[1])
    assert np.allclose(kept.vectors["statistics"], fresh.vectors["statistics"], atol=1e-3)
    assert np.allclose(kept.frames["frames"], fresh.frames["frames"], rtol=2e-3, atol=2e-3)
    assert len(cache(part).frames["frames"]) == 32
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_key_templates():
    """Each template names its own key, and the pitch forks of the calibration are estimated right."""
    for mode, ratings in KEY_RATINGS.items():
        assert [key_of_chroma(np.roll(ratings, tonic)) for tonic in range(12)] == [
            key_name(t, mode) for t in range(12)
        ]
    chroma = load_encoder("chroma")
    estimated = [key_of_chroma(chroma.embed(pitch_fork(t)).vectors["statistics"][:12]) for t in range(12)]
    assert estimated == [key_name(tonic, "major") for tonic in range(12)]


def test_silence_has_some_key_template(recwarn):
    assert key_of_chroma(np.zeros(12)) == key_of_chroma(np.full(12, 0.5)) == "C major"
    assert not recwarn


@pytest.mark.parametrize(("rule", "task"), [("krumhansl", "giantsteps-key"), ("tapping", "ballroom-beat")])
def test_a_rule_leaves_out_a_bad_clip_and_scores_the_others(rule, task, tmp_path, caplog):
    beats = tuple(Beat(0.5 + 0.5 * number, 1) for number in range(11))
    clips = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", pitch_fork(number), RATE)
        clips.append(Clip(tmp_path / f"{number}.wav", key_name(number, "major") if rule == "krumhansl" else beats, ""))
    (tmp_path / "bad.wav").write_bytes(b"RIFF and nothing else")
    bad = replace(clips[0], path=tmp_path / "bad.wav")
    arguments = Namespace(cache_dir=tmp_path / "cache", out=tmp_path / "out.json", shuffle_labels=False)

    def run(splits):
        done = Benchmark(arguments, {task: TASKS[task]}, {task: splits}, {"models": {}})
        done.run_model(rule)
        return done, done.results["models"][rule]["tasks"].get(task)

    done, score = run({"train": [], "validation": [bad, *clips[:2]], "test": [clips[2], bad, clips[3]]})
    assert not done.failures
    assert score["left_out"].keys() == {str(tmp_path / "bad.wav")} and "bad.wav" in caplog.text
    assert score["sizes"] == {"train": 0, "validation": 2, "test": 2}
    _, want = run({"train": [], "validation": clips[:2], "test": clips[2:]})
    assert score["readouts"]["no training"]["test"] == want["readouts"]["no training"]["test"]
    done, score = run({"train": [], "validation": [bad], "test": [replace(bad, group="b"), clips[0]]})
    assert score is None and "2 of 3 clips cannot be used" in done.failures[0]


def test_tapping_finds_the_period_that_validation_likes(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 8.0), RATE)
    label = tuple(Beat(0.25 + 0.5 * i, 1) for i in range(16))
    clips = [Clip(tmp_path / "a.wav", label, "a")]
    splits = {"train": clips, "validation": clips, "test": clips}

    def score(answers, references):
        return score_of("beat", answers, references)["f1"]

    assert Tapping().answers(splits, Beats(), tmp_path, score) == [
        pytest.approx([beat.time for beat in label], abs=0.2)
    ]


def test_zero_shot_keys_are_those_of_the_package(published):
    encoder = load_encoder(str(published))
    rule = ZeroShotKey(encoder)
    for tonic in (0, 5):
        fork = pitch_fork(tonic)
        estimate = estimate_key(encoder.model, encoder.extractor, fork, RATE, always=True)
        embedding = rule.embed(fork)
        assert int(embedding.vectors["profile"].argmax()) == estimate.signature
        assert np.allclose(embedding.vectors["profile"], estimate.profile, atol=1e-6)


def test_profiles_averaged_over_transpositions_follow_the_music(published):
    """One bin up turns the average by one, up to the two transpositions that the averages do not share."""
    model, extractor = MT2ForPreTraining.from_pretrained(published).eval(), MT2FeatureExtractor()
    features = extractor(pitch_fork(0), sampling_rate=RATE, return_tensors="pt")["input_features"][0]
    features[:, extractor.num_cqt_bins :] = 0
    up = features.clone()
    up[:, : extractor.num_cqt_bins] = features[:, : extractor.num_cqt_bins].roll(1, 1)
    assert torch.allclose(mean_profile(model, features, 0), mean_profile(model, features), atol=0)
    plain, averaged = (
        (mean_profile(model, up, n) - mean_profile(model, features, n).roll(1)).abs().max() for n in (0, 7)
    )
    assert averaged < 0.2 * max(plain, 0.05)
    with pytest.raises(ValueError, match="from 0 to 7"):
        mean_profile(model, features, 8)


needs_corpus = pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")


@needs_corpus
def test_the_commands_give_a_table_and_pictures(small_corpus, published, tmp_path, caplog):
    out = tmp_path / "results.json"
    models = ["--model", published, "chroma", "krumhansl", "constant", "tapping"]
    data = ["--data", f"corpus={small_corpus}", "--cache_dir", tmp_path / "cache", "--out", out]
    tasks = ["--tasks", "corpus-key", "corpus-chord", "corpus-instrument", "--layers", "0", "1"]
    tasks += ["--readouts", "mean", "mean@0", "mean@1", "frames", "statistics", "constant"]
    arguments = [str(argument) for argument in (*models, *data, *tasks, "--seeds", 0, 1)]
    main(arguments)
    results = json.loads(out.read_text(encoding="utf-8"))
    key = results["models"][str(published)]["tasks"]["corpus-key"]
    assert set(key["readouts"]) == {"mean", "mean@0", "mean@1", "frames", "zero-shot"}
    assert len(key["readouts"]["mean"]["test"]["mirex"]["values"]) == 2
    assert results["models"]["krumhansl"]["tasks"].keys() == {"corpus-key"}
    before = out.read_text(encoding="utf-8")
    with caplog.at_level("INFO"):
        main(arguments)  # finished: nothing is done again
    assert out.read_text(encoding="utf-8") == before
    assert caplog.text.count("is there already") + caplog.text.count("is nothing it answers") == 15
    report([str(out), "--output", str(tmp_path / "table.md"), "--figure", str(tmp_path / "bars.png"),
            "--layer_figure", str(tmp_path / "layers.png")])  # fmt: skip
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    # mean, frames, zero-shot; statistics, frames; no training; constant, frames; and the table of tasks
    assert text.count("\n| ") == 3 + 2 + 1 + 2 + 4
    for row in ("| krumhansl | no training |", "| chroma | statistics |", "| constant | constant |"):
        assert row in text
    value = load_results([out])["constant"]["tasks"]["corpus-key"]["readouts"]["constant"]["test"]["mirex"]["mean"]
    assert f"{100 * value:.1f} ± 0.0" in table(load_results([out]))
    for picture in ("bars", "layers"):
        assert (tmp_path / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "corpus=nowhere"], "python -m mt2_music.train.synth.corpus"),
        (["--data", "gtzan=nowhere"], "train_filtered.txt"),
        (["--data", "corpus=x", "--tasks", "no-task"], "unknown task or data set 'no-task'"),
        (["--data", "corpus=x", "--tasks", "gtzan-genre"], "--data gtzan=DIR"),
        (["--data", "corpus"], "NAME=DIR"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--model", "constant", "--out", str(tmp_path / "out.json"), *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_every_task_has_a_metric_with_its_main_score_and_data_that_says_what_it_needs(tmp_path):
    """A folder without the data set raises the error that tells its layout."""
    for task in TASKS.values():
        load_metric(task.metric)
        with pytest.raises(MissingDataError, match="(?i)layout"):
            task.load(tmp_path)
