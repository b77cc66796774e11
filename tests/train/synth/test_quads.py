"""Rendered quads: two scores x two orchestrations, resumable to the same bytes, and refused where that cannot be."""

import json
import shutil

import numpy as np
import pytest

from mt2_music.train.data.prepared import PreparedTracks
from mt2_music.train.data.quads import QUADS_FILE, Quads
from mt2_music.train.synth import find_soundfont
from mt2_music.train.synth.quads import RANGE, RANGES, isolated_notes
from mt2_music.train.synth.quads.__main__ import main
from mt2_music.train.synth.render import PROGRAMS, programs_of
from support import RATE

pytestmark = pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")


def render(folder, *more, quads=8):
    options = ["--output_dir", folder, "--quads", quads, "--seconds", 4, "--solo_share", 0.5, "--workers", 1]
    return main([str(option) for option in [*options, "--soundfonts", find_soundfont(), *more]])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def rendered(once):
    """Two shards."""

    def make(folder):
        assert render(folder) == 0

    return once("rendered quads", make)


def test_a_quad_is_two_scores_by_two_orchestrations(rendered):
    quads, tracks = Quads(rendered), PreparedTracks(rendered, 4.0)
    rows = [json.loads(line) for line in (rendered / QUADS_FILE).read_text(encoding="utf-8").splitlines()]
    assert len(quads.quads) == len(rows) == 8 and len(tracks) == 32
    assert {quad.solo for quad in quads.quads} == {True, False}
    for quad, row in zip(quads.quads, rows, strict=True):
        assert len({track for score in quad.tracks for track in score}) == 4
        assert quad.solo == row["solo"]
        audio = [[tracks.samples(track, 0, 4 * RATE).astype(float) for track in score] for score in quad.tracks]
        assert all(len(one) == 4 * RATE and np.abs(one).max() > 3000 for score in audio for one in score)
        if quad.solo:
            assert all(len(set(programs.values())) == 1 for programs in row["programs"])
        else:
            assert all(60 < tempo < 240 for tempo in quad.tempos)
    # The same score sounds at the same time, whoever plays it: levels of 50 ms go together more than those of scores.
    same, other = [], []
    for quad in quads.quads:
        levels = [
            [np.log(tracks.samples(t, 0, 4 * RATE).reshape(80, -1).astype(float).std(1) + 10) for t in score]
            for score in quad.tracks
        ]
        same += [np.corrcoef(*score)[0, 1] for score in levels]
        other += [np.corrcoef(levels[0][which], levels[1][1 - which])[0, 1] for which in (0, 1)]
    assert np.mean(same) > np.mean(other) + 0.2


def test_only_what_is_missing_is_rendered_again_to_the_same_bytes(rendered, tmp_path):
    folder = shutil.copytree(rendered, tmp_path / "quads")
    whole, before = content(folder), (folder / "shard-00000.arrow").stat().st_mtime_ns
    (folder / "shard-00001.arrow").unlink()
    (folder / "shard-00001.arrow.1.part").write_bytes(b"torn")
    assert render(folder) == 0
    assert content(folder) == whole
    assert (folder / "shard-00000.arrow").stat().st_mtime_ns == before


def test_another_recipe_is_refused_also_where_the_first_was_killed(rendered, tmp_path, caplog):
    folder = shutil.copytree(rendered, tmp_path / "quads")
    (folder / QUADS_FILE).unlink()  # written last
    before = content(folder)
    for other in (["--seed", 1], ["--seconds", 5], ["--solo_share", 0.2]):
        assert render(folder, *other) == 2
        assert "begun with another recipe" in caplog.text
        caplog.clear()
    assert content(folder) == before
    assert render(tmp_path / "late", "--seconds_limit", 1e-9) == 2
    assert "not one shard was finished in time" in caplog.text
    assert render(tmp_path / "late", "--seed", 1) == 2


def test_out_of_time_what_is_done_is_kept(rendered, tmp_path):
    folder = shutil.copytree(rendered, tmp_path / "quads")
    for name in ("shard-00001.arrow", "rows-00001.jsonl"):
        (folder / name).unlink()
    assert render(folder, "--seconds_limit", 1e-9) == 0
    assert [len(Quads(each).quads) for each in (folder, rendered)] == [4, 8]


def test_wrong_options_are_refused(tmp_path, caplog):
    for options, message in (
        (["--soundfonts", tmp_path / "none.sf2"], "no such SoundFont"),
        (["--solo_share", 2], "solo_share must be from 0 to 1"),
    ):
        assert render(tmp_path / "quads", *options) == 2
        assert message in caplog.text
        caplog.clear()
    (tmp_path / "text.sf2").write_text("no bank", encoding="utf-8")
    assert render(tmp_path / "quads", "--soundfonts", tmp_path / "text.sf2") == 2
    assert "no SoundFont" in caplog.text


def test_a_bank_tells_its_programs(tmp_path):
    """The one that pretty_midi carries is a whole General MIDI bank; a cut one holds what is left of its list."""
    assert programs_of(find_soundfont()) == set(range(128))
    data = find_soundfont().read_bytes()
    start = data.index(b"phdr")
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    records = [data[start + 8 + place : start + 46 + place] for place in range(0, size, 38)]
    melodic = [record for record in records[:-1] if record[22:24] == b"\0\0"][:3]
    cut = b"".join([*melodic, records[-1]])
    path = tmp_path / "cut.sf2"
    path.write_bytes(b"RIFF" + bytes(8) + b"phdr" + len(cut).to_bytes(4, "little") + cut)
    assert programs_of(path) == {record[20] for record in melodic}


def test_isolated_notes_do_not_meet_and_stay_in_range():
    assert {program for role in PROGRAMS.values() for program in role} >= RANGES.keys()
    assert all(high - low >= 24 for low, high in [RANGE, *RANGES.values()])
    for seed in range(20):
        notes = isolated_notes(np.random.default_rng(seed), 10.0, 50, 62).notes
        assert all(after.start >= before.end + 0.05 for before, after in zip(notes, notes[1:], strict=False))
        assert {note.pitch for note in notes} <= set(range(50, 63))
