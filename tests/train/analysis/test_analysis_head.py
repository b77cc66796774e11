"""The head that is fitted on frame tokens: what it is taught, its loss, and the folder that the command writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mt2_music import MT2ForAudioClassification, MT2ForMusicAnalysis, MT2ForPreTraining, load
from mt2_music.loading import load_extractor, load_model
from mt2_music.music import KEY_LABELS, SEVENTH_LABELS, TRIAD_LABELS
from mt2_music.song.analysis import FRAME_LABELS, GROUPS, TEMPI
from mt2_music.train.analysis import fit, pieces
from mt2_music.train.analysis.__main__ import main
from mt2_music.train.analysis.pieces import UNKNOWN, Piece, chordless_pieces, corpus_pieces
from mt2_music.train.probing.clips import Clip
from mt2_music.train.publish import key_layer
from mt2_music.train.synth import find_soundfont
from mt2_music.train.synth.corpus import read_rows
from support import RATE, song

RATE_OF_FRAMES = 31.25
ROW = {
    "chords": [
        {"start": 0.0, "end": 1.0, "label": "C:maj"},
        {"start": 1.0, "end": 2.0, "label": "A:min7/b3"},
        {"start": 2.0, "end": 3.0, "label": "B:dim"},
        {"start": 3.0, "end": 4.0, "label": "N"},
    ],
    "keys": [{"start": 0.0, "end": 4.0, "label": "C major"}],
    "beats": [{"time": 0.5 * beat, "position": beat % 2 + 1} for beat in range(5)],
}


@pytest.mark.parametrize("shift", [0, 3])
def test_targets_are_what_the_row_says(shift):
    targets = Piece(Clip("x", "", "x"), ROW, shift).targets(125, RATE_OF_FRAMES)
    names = [
        [labels[place] if place != UNKNOWN else None for place in targets[name][[10, 40, 70, 100]]]
        for name, labels in (("chord", TRIAD_LABELS), ("seventh", SEVENTH_LABELS), ("key", KEY_LABELS))
    ]
    wanted = {
        0: [["C:maj", "A:min", None, "N"], ["C:maj", "A:min7", None, "N"], ["C major"] * 4],
        3: [["Eb:maj", "C:min", None, "N"], ["Eb:maj", "C:min7", None, "N"], ["Eb major"] * 4],
    }
    assert names == wanted[shift]
    beats = targets["beat"]
    assert (beats[[0, 16, 31]] == [[1, 1], [1, 0], [1, 1]]).all()  # at 0, 0.5 and 1 s, to the nearest frame
    assert (beats[[1, 15, 17]] == [[0.5, 0.5], [0.5, 0], [0.5, 0]]).all() and not beats[8].any()
    assert (beats[100:] == UNKNOWN).all()  # a second behind the last beat
    assert TEMPI[targets["tempo"][20]] == pytest.approx(120, rel=0.03) and targets["tempo"][-1] == UNKNOWN


def test_what_is_not_known_has_no_loss_and_what_is_right_nearly_none():
    targets = Piece(Clip("x", "", "x"), ROW).targets(125, RATE_OF_FRAMES)
    batch = {name: torch.from_numpy(values)[None] for name, values in targets.items()}
    right = []
    for name, labels in GROUPS.items():
        if name == "beat":
            right.append(torch.logit(batch["beat"].clamp(0.001, 0.999)))
        else:
            right.append(20.0 * torch.nn.functional.one_hot(batch[name].clamp(min=0), len(labels)))
    logits = torch.cat(right, -1).float()
    entropy = 0.5 * np.log(2) * 4.0  # of the frames beside beats, at most
    assert fit.head_loss(logits, batch) < entropy
    assert fit.head_loss(-logits, batch) > 10
    unknown = {name: torch.full_like(values, UNKNOWN) for name, values in batch.items()}
    assert fit.head_loss(logits, unknown) == 0


def test_drums_have_beats_and_noise_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "NUM_DRUMS", 2)
    monkeypatch.setattr(pieces, "NUM_NOISES", 2)
    found = list(chordless_pieces(tmp_path))
    assert [bool(piece.row["beats"]) for piece in found] == [True, True, False, False]
    for piece in found:
        targets = piece.targets(300, RATE_OF_FRAMES)
        assert {TRIAD_LABELS[place] for place in targets["chord"]} == {"N"}
        assert (targets["key"] == UNKNOWN).all()
    assert not found[2].targets(300, RATE_OF_FRAMES)["beat"].any()  # it is known to have none
    before = found[0].clip.path.read_bytes()
    assert next(chordless_pieces(tmp_path)).clip.path.read_bytes() == before  # kept


@pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")
def test_the_command_writes_a_model_that_keeps_its_key_layer(published, small_corpus, tmp_path, monkeypatch, caplog):
    from mt2_music.train.key.__main__ import main as fit_key

    for module, name, value in (
        (key_layer, "NUM_PLAIN_PIECES", 6), (pieces, "NUM_DRUMS", 1), (pieces, "NUM_NOISES", 1), (fit, "STRETCHES", 2)
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    keyed, target = tmp_path / "mt2-test-key", tmp_path / "mt2-test-analysis"
    cache = ["--corpus", str(small_corpus), "--cache_dir", str(tmp_path / "cache")]
    assert fit_key([str(published), str(keyed), *cache]) == 0
    assert main([str(published), str(target), *cache]) == 2  # it names no keys
    assert "names key" in caplog.text or "names no keys" in caplog.text
    assert not target.exists()
    assert main([str(keyed), str(target), *cache, "--steps", "30"]) == 0
    facts = json.loads((target / "training.json").read_text(encoding="utf-8"))
    assert facts["key_model"] == "mt2-test-key" and set(facts["frame_scores"]) == {
        "chord", "seventh", "key", "tempo", "beat", "downbeat"
    }  # fmt: skip
    assert all(0 <= value <= 1 for value in facts["frame_scores"].values())
    analysis, before = load_model(MT2ForMusicAnalysis, target), load_model(MT2ForAudioClassification, keyed)
    assert tuple(analysis.config.frame_labels) == FRAME_LABELS
    assert torch.equal(analysis.classifier.weight, before.classifier.weight)
    for name, tensor in load_model(MT2ForPreTraining, target).state_dict().items():
        assert torch.equal(tensor, load_model(MT2ForPreTraining, keyed).state_dict()[name])
    audio = song(5, 8.0)
    model = load(target, device="cpu")
    assert model.key(audio, RATE).name == load(keyed, device="cpu").key(audio, RATE).name
    assert model.analyze(audio, RATE).chords[-1].end == pytest.approx(8, abs=0.1)
    # Standardisation is part of the weights: the head takes frame tokens as they are.
    rows = read_rows(small_corpus)
    tokens = fit.Tokens(before, load_extractor(keyed), tmp_path / "cache", "mt2-test-key")
    validation = list(corpus_pieces(small_corpus, rows, "validation"))
    scores = fit.score_head(analysis, tokens, validation)
    assert scores == pytest.approx(facts["frame_scores"], abs=1e-3)
    assert main([str(keyed), str(target), *cache]) == 2  # nothing is written over

    def with_another(part: str) -> Path:
        folder = shutil.copytree(keyed, tmp_path / f"mt2-other-{part}")
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if name.startswith(part))
        save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
        return folder

    # The head goes to another key layer as it is, and to another encoder not at all.
    moved, of = tmp_path / "mt2-moved", ["--head_of", str(target)]
    assert main([str(with_another("classifier")), str(moved), *cache, *of]) == 0
    weights, heads = (load_file(folder / "model.safetensors") for folder in (moved, target))
    same = {name: torch.equal(weights[name], heads[name]) for name in heads}
    assert not all(same.values()) and all(value for name, value in same.items() if not name.startswith("classifier"))
    assert main([str(with_another("mt2")), str(tmp_path / "none"), *cache, *of]) == 2
    assert "encoder" in caplog.text and not (tmp_path / "none").exists()
