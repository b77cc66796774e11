"""Metrics: the same numbers as mir_eval and scikit-learn, values derived by hand, and no guessing on bad input."""

import json
import os
import warnings
from pathlib import Path

import mir_eval
import numpy as np
import pytest
import sklearn.metrics

from mt2_music.train.probing import metrics
from mt2_music.train.probing.metrics import load_metric
from support import python

MAJOR_AND_MINOR = [
    f"{tonic} {mode}" for mode in ("major", "minor") for tonic in "C C# D Eb E F Gb G Ab A Bb B".split()
]
C_AND_A = {"start": [0.0, 2.0], "end": [2.0, 3.0], "label": ["C", "A:min"]}


@pytest.fixture(scope="module")
def metric():
    loaded = {}

    def compute(name, predictions, references, **options):
        loaded[name] = loaded.get(name) or load_metric(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return loaded[name].compute(predictions=predictions, references=references, **options)

    return compute


def track(*segments):
    """Chords as (label, seconds), one after the other from 0 s."""
    ends = np.cumsum([seconds for _, seconds in segments])
    return {"start": [0.0, *ends[:-1]], "end": list(ends), "label": [label for label, _ in segments]}


def intervals(chords):
    return np.stack([chords["start"], chords["end"]], axis=1), list(chords["label"])


@pytest.mark.parametrize(
    ("estimated", "reference", "mirex", "accuracy", "signature", "fifth"),
    [
        ("C major", "C major", 1, 1, 1, 0),
        ("C# major", "Db major", 1, 1, 1, 0),  # another spelling
        ("Cb major", "B major", 1, 1, 1, 0),  # a spelling that mir_eval does not know
        ("eb minor", "D# minor", 1, 1, 1, 0),
        ("G major", "C major", 0.5, 0, 0, 1),  # a fifth above: one sharp more
        ("F major", "C major", 0, 0, 0, 1),  # a fifth below earns nothing in mir_eval, yet is one flat more
        ("A minor", "C major", 0.3, 0, 1, 0),  # relative
        ("Eb major", "C minor", 0.3, 0, 1, 0),  # relative
        ("C minor", "C major", 0.2, 0, 0, 0),  # parallel: three flats more
        ("E minor", "C major", 0, 0, 0, 1),  # relative of the key a fifth above
        ("F# major", "C major", 0, 0, 0, 0),
    ],
)
def test_relations_of_keys(metric, estimated, reference, mirex, accuracy, signature, fifth):
    got = metric("key", [estimated], [reference])
    assert got == {"mirex": mirex, "accuracy": accuracy, "signature": signature, "fifth": fifth}


def test_all_keys_score_by_a_table_of_our_own(metric, monkeypatch):
    def changed(*_, **__):
        raise AssertionError("mir_eval's table may change")

    monkeypatch.setattr("mir_eval.key.weighted_score", changed)
    scored = {
        "Eb major": {"Eb major": 1, "Bb major": 0.5, "C minor": 0.3, "Eb minor": 0.2},
        "B minor": {"B minor": 1, "Gb minor": 0.5, "D major": 0.3, "B major": 0.2},
    }
    for reference, scores in scored.items():
        want = [0.0] * 24
        for name, score in scores.items():
            want[MAJOR_AND_MINOR.index(name)] = score
        assert [metric("key", [name], [reference])["mirex"] for name in MAJOR_AND_MINOR] == want
        got = metric("key", MAJOR_AND_MINOR, [reference] * 24)
        assert got["mirex"] == pytest.approx(np.mean(want))
        # Of 24 keys one is right, two have the signature, and four have a neighbouring one.
        assert (got["accuracy"], got["signature"], got["fifth"]) == pytest.approx((1 / 24, 2 / 24, 4 / 24))


def test_chords_score_as_in_mir_eval(metric):
    reference = track(
        *[
            ("N", 1.3),
            ("C:maj", 2),
            ("A:min7/b3", 1.7),
            ("D:7/3", 2.1),
            ("G:maj7", 1.9),
            ("X", 1.1),
            ("F#:hdim7", 0.8),
        ],
        *[("Bb:sus4", 0.9), ("E:5", 0.7), ("F:maj(9)", 1.6), ("C:min/5", 1.2), ("N", 0.6)],
    )
    estimate = track(
        *[("C", 3.1), ("A:min", 1.8), ("D:maj", 1.5), ("G:7", 2.4), ("E:min", 1.6), ("F#:dim", 1.2), ("A#", 1)],
        *[("E", 0.5), ("D:min7", 1.1), ("C:min", 1.4), ("X", 0.5)],
    )
    late = {**estimate, "start": [t + 0.4 for t in estimate["start"]], "end": [t + 0.4 for t in estimate["end"]]}
    long = {name: values + [last] for (name, values), last in zip(estimate.items(), (16.1, 30.0, "N"), strict=True)}
    for prediction in (estimate, late, long):
        want = mir_eval.chord.evaluate(*intervals(reference), *intervals(prediction))
        got = metric("chord", [prediction], [reference])
        assert got == pytest.approx({name: want[name] for name in got})
        assert all(0.2 < score < 0.9 for score in got.values())


def test_chords_are_pooled_by_the_seconds_that_a_vocabulary_covers(metric):
    references = [track(("C", 3), ("B:dim", 1), ("X", 5)), track(("C", 1), ("D:5", 2))]
    estimates = [track(("C:7", 3), ("B:dim", 1), ("C", 5)), track(("A:min7", 1), ("D", 2))]
    got = metric("chord", estimates, references)
    # X is never compared. root: 3 + 1 + 0 + 2 of 7 s. majmin: 3 + 0 of 4 s, without dim and the fifth, and C:7 counts
    # as major. mirex: 3 + 1 + 1 of 5 s, without the fifth; A:min7 shares C, E and G with C.
    assert got == pytest.approx({"root": 6 / 7, "majmin": 3 / 4, "mirex": 1})


def test_chords_right_wrong_missing_and_split(metric):
    ideal = {"root": 1, "majmin": 1, "mirex": 1}
    assert metric("chord", [C_AND_A], [C_AND_A]) == ideal
    assert metric("chord", [track(("C", 0.5), ("C", 1.5), ("A:min", 1))], [C_AND_A]) == ideal
    split = {"start": [0.0, 1.25, 2.0], "end": [1.25, 2.0, 3.0], "label": ["C", "C", "A:min"]}
    half_right = track(("C", 1), ("G", 1.5), ("A:min", 0.5))
    assert metric("chord", [half_right], [split]) == pytest.approx(metric("chord", [half_right], [C_AND_A]))
    assert metric("chord", [track(("B", 3))], [C_AND_A]) == dict.fromkeys(ideal, 0)
    nothing = {"start": [], "end": [], "label": []}
    assert metric("chord", [nothing], [C_AND_A]) == dict.fromkeys(ideal, 0)
    assert metric("chord", [nothing], [track(("N", 2), ("C", 2))]) == dict.fromkeys(ideal, 0.5)  # filled up with N
    assert metric("chord", [track(("C#", 3))], [track(("Db", 3))]) == ideal


def test_beats_score_as_in_mir_eval(metric):
    rng = np.random.default_rng(0)
    references = [np.arange(0.3, 30, 60 / bpm) for bpm in (92, 140, 118)]
    estimates = [
        np.sort(beats + rng.normal(0, 0.05, beats.shape))[rng.random(beats.shape) > 0.2] for beats in references
    ]
    estimates[1] = np.sort(np.append(estimates[1], rng.uniform(0, 30, 8)))
    for start in (5.0, 0.0):
        want = [
            mir_eval.beat.f_measure(mir_eval.beat.trim_beats(true, start), mir_eval.beat.trim_beats(beats, start))
            for true, beats in zip(references, estimates, strict=True)
        ]
        assert 0.4 < min(want) < max(want) < 0.95
        got = metric("beat", estimates, references, min_beat_time=start)
        assert got == pytest.approx({"f1": np.mean(want), "tracks": 3})
    assert metric("beat", references, references) == {"f1": 1, "tracks": 3}


def test_beats_by_hand(metric):
    reference = [1.0, 6.0, 7.0, 8.0, 9.0]
    # After 5 s, three of four are found and nothing else: precision 1, recall 3/4.
    assert metric("beat", [[5.94, 7.0, 8.06]], [reference])["f1"] == pytest.approx(6 / 7)
    assert metric("beat", [[5.92, 7.08, 8.08, 9.08]], [reference])["f1"] == 0  # 80 ms off
    assert metric("beat", [reference, [], [1.0], [6.0]], [reference, reference, [6.0], [1.0]]) == {
        "f1": pytest.approx(1 / 3),  # right, empty, empty after trimming; the last has no reference
        "tracks": 3,
    }


def test_tempi_by_hand(metric):
    reference = [100.0] * 9
    estimate = [100, 104, 96, 106, 200, 300, 50, 33.4, 150]  # the first three are right, 106 and 150 at no level
    assert metric("tempo", estimate, reference) == pytest.approx({"acc1": 3 / 9, "acc2": 7 / 9})
    assert metric("tempo", [104.1], [100]) == {"acc1": 0, "acc2": 0}  # 4 % of the reference, not of the estimate
    assert metric("tempo", [208, 110 * 1.04, 208.5], [100, 110, 100]) == pytest.approx({"acc1": 1 / 3, "acc2": 2 / 3})


def test_multilabel_by_hand_and_as_in_scikit_learn(metric):
    # First label: positives at ranks 1 and 3, so AP = (1 + 2/3) / 2; three of four pairs are in order. The second is
    # perfect, the third has no positive and the fourth no negative.
    references = [[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]]
    scores = [[0.9, 5, 1, 1], [0.8, -1, 2, 2], [0.7, 0, 3, 3], [0.1, -2, 4, 4]]
    want = {"map": (5 / 6 + 1) / 2, "roc_auc": (3 / 4 + 1) / 2, "labels": 2}
    assert metric("multilabel", scores, references) == pytest.approx(want)
    rng = np.random.default_rng(0)
    references, scores = rng.integers(0, 2, (40, 5)), rng.normal(size=(40, 5)).round(1)
    got = metric("multilabel", scores, references)
    assert got["map"] == pytest.approx(sklearn.metrics.average_precision_score(references, scores))
    assert got["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(references, scores))
    assert metric("multilabel", 3 * scores - 7, references) == got


def test_accuracy_by_hand_and_as_in_scikit_learn(metric):
    got = metric("accuracy", ["a", "a", "b", "c"], ["a", "a", "a", "b"])
    assert got == pytest.approx({"accuracy": 1 / 2, "balanced_accuracy": (2 / 3 + 0) / 2})
    estimate, reference = np.random.default_rng(0).choice(["waltz", "tango", "cha cha"], (2, 50), p=[0.6, 0.3, 0.1])
    want = sklearn.metrics.balanced_accuracy_score(reference, estimate)
    assert metric("accuracy", estimate, reference)["balanced_accuracy"] == pytest.approx(want)


def test_r2_by_hand_and_as_in_scikit_learn(metric):
    reference = [[0, 1], [1, 3], [2, 5]]
    # Column 0: squared errors 1 of 2. Column 1: the mean of the references everywhere.
    assert metric("r2", [[0, 3], [1, 3], [1, 3]], reference) == pytest.approx({"r2": 0.25, "r2_0": 0.5, "r2_1": 0})
    assert metric("r2", reference, reference) == {"r2": 1, "r2_0": 1, "r2_1": 1}
    values = np.random.default_rng(0).normal(size=(2, 30, 3))
    assert metric("r2", *values)["r2"] == pytest.approx(sklearn.metrics.r2_score(values[1], values[0]))


@pytest.mark.parametrize(
    ("name", "predictions", "references", "message"),
    [
        *[(name, ["C major"], ["C major"] * 2, "[Mm]ismatch in the number") for name in ("key", "accuracy")],
        *[(name, [], [], "there are no") for name in ("key", "chord", "tempo", "multilabel", "accuracy", "r2")],
        ("key", ["H major"], ["C major"], "unknown key 'H major'"),
        ("key", ["C major"], ["C dorian"], "unknown key 'C dorian'"),
        ("key", ["C major"], ["N"], "unknown key 'N'"),
        ("chord", [{**C_AND_A, "label": ["C"]}], [C_AND_A], "prediction 0: every segment needs"),
        ("chord", [C_AND_A], [{**C_AND_A, "label": ["C", "A:moll"]}], "reference 0: 'A:moll' is not a chord"),
        ("chord", [{**C_AND_A, "end": [1.0, 3.0]}], [C_AND_A], "one ends at 1.0 s and the next starts at 2.0 s"),
        ("chord", [C_AND_A], [{**C_AND_A, "end": [2.0, 2.0]}], "after its start"),
        ("chord", [C_AND_A], [{"start": [], "end": [], "label": []}], "reference 0 has no segments"),
        ("chord", [C_AND_A], [track(("B:dim", 3))], "vocabulary of 'majmin'"),
        ("beat", [[7.0, 6.0]], [[6.0]], "prediction 0: .*increasing"),
        ("beat", [[6.0]], [[6.0, float("nan")]], "reference 0: .*finite"),
        ("beat", [[6.0]], [[1.0]], "no track has a reference beat"),
        ("tempo", [0], [100], "above 0"),
        ("multilabel", [[0.5]], [[1]], "both a positive and a negative"),
        ("multilabel", [[0.5], [0.5]], [[1], [2]], "0 or 1"),
        ("multilabel", [[0.5], [0.5, 0.2]], [[1], [0]], "same number"),
        ("multilabel", [[0.5], [0.1]], [[1, 0], [0, 1]], "1 labels and references 2"),
        ("accuracy", ["a", None], ["a", "b"], "needs a class"),
        ("r2", [[0.0], [1.0]], [[1.0], [1.0]], "not defined"),
        ("r2", [[0.0], [float("inf")]], [[1.0], [2.0]], "finite"),
    ],
)
def test_bad_input_is_refused(metric, name, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metric(name, predictions, references)
    good = {"key": "C major", "chord": C_AND_A, "beat": [6.0], "tempo": 100, "accuracy": "C"}.get(name, None)
    rows = [[0], [1]] if good is None else [good]
    assert set(metric(name, rows, rows).values()) <= {0, 1}  # a refusal leaves nothing behind


def test_metrics_load_by_name():
    with pytest.raises(ValueError, match="'mood'; known are accuracy, beat, chord, key, multilabel, r2, tempo"):
        load_metric("mood")


def test_metrics_load_from_their_files_offline_and_without_the_package(tmp_path):
    script = """
import json, sys, evaluate
folder = sys.argv[1]
key, chord, accuracy = (evaluate.load(f"{folder}/{name}.py") for name in ("key", "chord", "accuracy"))
track = {"start": [0], "end": [1], "label": ["C"]}
print(json.dumps([
    key.compute(predictions=["G major"], references=["C major"])["mirex"],
    chord.compute(predictions=[track], references=[track])["mirex"],
    accuracy.compute(predictions=["a"], references=["b"])["accuracy"],
    "mt2_music" in sys.modules,
]))
"""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    result = python("-c", script, Path(metrics.__file__).parent, cwd=tmp_path, env=env)
    assert json.loads(result.stdout.splitlines()[-1]) == [0.5, 1, 0, False]
