"""The demo app: its analysis of a song, and its page in a real browser.

With MT2_SCREENSHOT=FILE the picture of the page is written there: model_cards/space/screenshot.png was made so.
"""

import base64
import importlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import torch
import yaml
from packaging.requirements import Requirement

from mt2_music import Beats, ChordSegment, KeyEstimate, KeySegment, SongAnalysis
from mt2_music.collection.similar import nearest
from mt2_music.collection.tables import VECTORS
from mt2_music.music import KEY_LABELS, PITCH_CLASSES_BY_FIFTHS
from mt2_music.options import DEFAULT_MODEL
from mt2_music.song.timeline import Timeline
from mt2_music.train.synth import compose, find_soundfont, play_additive
from support import RATE, ROOT, song

SPACE = ROOT / "model_cards" / "space"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 60
NUM_PICTURES = 3
PIXELS_PER_SECOND = 80
SONG = SongAnalysis(
    key=KeyEstimate(0, np.full(12, 1 / 12), 0.8, "C major"),
    keys=Timeline(
        [KeySegment(0, 4.5, "C major", 0.9), KeySegment(4.5, 6, None, 0), KeySegment(6, 61, "F# minor", 0.7)]
    ),
    chords=Timeline(
        [
            ChordSegment(0, 2.25, "C:maj", "C:maj7", 0.95),
            ChordSegment(2.25, 4.5, "A:min", "A:min7", 0.5),
            ChordSegment(4.5, 6, "N", "N", 0.9),
            ChordSegment(6, 59.96, "Gb:min", "Gb:min", 0.6),
            ChordSegment(59.96, 61, "Db:maj", "Db:7", 0.6),
        ]
    ),
    beats=Beats(np.array([0.5, 1.0, 1.5, 2.25]), np.array([3, 1, 2, 3]), np.ones(4)),
    seconds=61.0,
    chroma=np.eye(12)[[9, 0, 4, 4]],
)


@pytest.fixture(scope="module")
def space():
    """The modules of the Space, which are no part of the package."""
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install '.[demo]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SPACE)
        names = ("analysis", "app", "build_index", "timeline")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture(scope="module")
def analyser(space):
    return space.analysis.SongAnalyser(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def index(space, analyser):
    return analyser.load_index(space.app.INDEX_FILE)


@pytest.fixture
def server(space, tmp_path):
    """The app in a process of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "app.log"
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, str(SPACE / "app.py"), "--port", str(port)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def page():
    """A page of a headless Chromium, 1280 wide."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


class Elements(HTMLParser):
    """The elements of a time line in their order, each with the classes of those around it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[SimpleNamespace] = []
        self._open: list[SimpleNamespace] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        style = dict(part.split(": ") for part in attributes.get("style", "").split("; ") if part)
        around = [one.kind for one in self._open]
        kind = attributes.get("class")
        one = SimpleNamespace(tag=tag, kind=kind, attributes=attributes, style=style, around=around, text="")
        self.all.append(one)
        if tag != "img":
            self._open.append(one)

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, data):
        for one in self._open:
            one.text += data

    def of_row(self, row: str) -> list[SimpleNamespace]:
        return [one for one in self.all if one.around == ["song", "view", "track", row]]


def pixels(element: SimpleNamespace, name: str) -> float:
    return float(element.style[name].removesuffix("px"))


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("tonic", [0, 4])
def test_signatures_over_time_follow_a_modulation(analyser, tmp_path, tonic):
    away = (tonic + 6) % 12
    halves = [
        play_additive(compose(np.random.default_rng(1), 9.0, key, "major"), np.random.default_rng(0))
        for key in (tonic, away)
    ]
    soundfile.write(tmp_path / "song.wav", np.concatenate(halves), RATE)
    signatures = analyser.analyse(tmp_path / "song.wav").signatures
    assert len(signatures) == pytest.approx(sum(map(len, halves)) / RATE, abs=2)
    middle = round(len(halves[0]) / RATE)
    first, second = signatures[: middle - 2].mean(0), signatures[middle + 2 :].mean(0)  # no window with both
    for profile, here, there in ((first, tonic, away), (second, away, tonic)):
        assert profile[here] > 3 * profile[there]
        fifths = (
            PITCH_CLASSES_BY_FIFTHS.index(int(profile.argmax())) - PITCH_CLASSES_BY_FIFTHS.index(here) + 6
        ) % 12 - 6
        assert abs(fifths) <= 1


def test_an_indexed_song_rendered_again_is_its_own_nearest(space, analyser, index):
    soundfont = find_soundfont()
    if soundfont is None:
        pytest.skip("no SoundFont can be played here: the index was rendered with one")
    for number in (5, 40):
        name, samples = space.build_index.indexed_song(number, soundfont, RATE)
        vectors = analyser.embed(samples).vectors
        for token in VECTORS:
            (found, cosine), (_, next_cosine) = nearest(index, vectors[token], token, 2)
            assert found == name and cosine > 0.99 and next_cosine < cosine


def test_an_index_of_another_model_is_refused(space, analyser, tmp_path):
    with np.load(space.app.INDEX_FILE) as arrays:
        np.savez(tmp_path / "index.npz", **{**arrays, "revision": np.array(["other"] * len(arrays["files"]))})
    with pytest.raises(
        ValueError, match="index.npz was made by .* other .*: make the index again with build_index.py"
    ):
        analyser.load_index(tmp_path / "index.npz")


def test_a_model_that_finds_no_chords_is_refused(space):
    with pytest.raises(ValueError, match="finds no chords and beats"):
        space.analysis.SongAnalyser(SPACE.with_name("mt2-small"))


def test_files_of_any_rate_and_length_are_analysed(space, analyser, tmp_path):
    for name, rate, seconds in (("short.flac", 44100, 0.2), ("long.mp3", 48000, 7), ("song.ogg", 22050, 4)):
        stereo = np.random.default_rng(0).normal(0, 0.1, (round(rate * seconds), 2))
        soundfile.write(tmp_path / name, stereo, rate)
        analysis = analyser.analyse(tmp_path / name)
        assert analysis.song.seconds == pytest.approx(seconds, abs=0.2) and not analysis.cut
        np.testing.assert_allclose(analysis.signatures.sum(1), 1, rtol=0, atol=1e-4)
        assert "Only the first" not in space.app.describe(analysis)


@pytest.mark.parametrize("level, reason", [(0.0, "Silent"), (0.1, "No pitch")])
def test_of_sound_without_pitch_the_page_says_so_and_shows_the_rest(space, analyser, tmp_path, level, reason):
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, level, 3 * RATE), RATE)
    findings = analyser.analyse(tmp_path / "song.wav")
    assert space.app.describe(findings).startswith(f"# no key\n\n{reason}, no chords, ")
    line = Elements(space.timeline.render(findings.song, "song.wav"))
    assert [one.text for one in line.of_row("keys")] == ["no key"]
    assert [one.text for one in line.of_row("chords")] == ["N.C."]
    assert (level > 0 or [one.text for one in line.of_row("beats")] == ["no beats"]) and len(line.of_row("time")) == 2
    assert len(space.app.pictures(analyser, findings)) == NUM_PICTURES


def test_a_long_song_is_cut_and_the_page_says_so(space, analyser, tmp_path, monkeypatch):
    monkeypatch.setattr(space.analysis, "MAX_SECONDS", 5)
    soundfile.write(tmp_path / "song.wav", song(3, 8.0), RATE)
    analysis = analyser.analyse(tmp_path / "song.wav")
    assert analysis.cut and analysis.song.seconds == pytest.approx(5, abs=0.1)
    assert "Only the first" in space.app.describe(analysis)


@pytest.mark.parametrize("content, reason", [("text", "is text, not audio"), ("empty", "empty|no samples")])
def test_a_bad_file_gives_its_reason(analyser, tmp_path, content, reason):
    path = tmp_path / "bad.wav"
    if content == "text":
        path.write_text("no audio", encoding="utf-8")
    else:
        soundfile.write(path, np.zeros(0), RATE)
    with pytest.raises(ValueError, match=reason):
        analyser.analyse(path)


@pytest.mark.parametrize(
    "row, expected",
    [
        (
            "keys",
            [(0, 4.5, "C major", "C major, 90%"), (4.5, 6, "no key", "no key"), (6, 61, "F# minor", "F# minor, 70%")],
        ),
        (
            "chords",
            [
                (0, 2.25, "C", "Cmaj7, 95%"),
                (2.25, 4.5, "Am", "Am7, 50%"),
                (4.5, 6, "N.C.", "no chord"),
                (6, 59.96, "Gbm", "Gbm, 60%"),
                (59.96, 61, "Db", "Db7, 60%"),
            ],
        ),
    ],
)
def test_the_time_line_has_every_segment_at_its_place(space, row, expected):
    found = Elements(space.timeline.render(SONG, "song.ogg")).of_row(row)
    for segment, (start, end, text, hint) in zip(found, expected, strict=True):
        assert pixels(segment, "left") == pytest.approx(start * PIXELS_PER_SECOND, abs=0.1)
        assert pixels(segment, "width") == pytest.approx((end - start) * PIXELS_PER_SECOND, abs=0.1)
        assert segment.text == text and segment.attributes["title"].startswith(f"{hint}\n")
    assert found[-1].attributes["title"].endswith({"keys": "\n0:06.0 – 1:01.0", "chords": "\n1:00.0 – 1:01.0"}[row])
    colors = {segment.text: segment.style["background"] for segment in found}
    assert len(set(colors.values())) == len(found)


def test_the_time_line_has_every_beat_at_its_place_and_longer_ones_for_downbeats(space):
    line = Elements(space.timeline.render(SONG, "song.ogg"))
    beats = line.of_row("beats")
    assert [pixels(beat, "left") / PIXELS_PER_SECOND for beat in beats] == list(SONG.beats.times)
    assert [beat.kind for beat in beats] == ["beat", "down beat", "beat", "beat"]
    assert [beat.attributes["title"] for beat in beats[:2]] == ["beat 3\n0:00.5", "beat 1\n0:01.0"]
    ticks = line.of_row("time")
    assert [ticks[place].text for place in (0, 1, -1)] == ["0:00", "0:02", "1:00"]
    assert [pixels(tick, "left") for tick in ticks] == [PIXELS_PER_SECOND * second for second in range(0, 61, 2)]


def test_the_time_line_has_a_picture_of_the_chroma_with_c_at_the_bottom(space):
    from PIL import Image

    line = Elements(space.timeline.render(SONG, "song.ogg"))
    (picture,) = line.of_row("chroma")
    content = base64.b64decode(picture.attributes["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert list(11 - np.asarray(image.convert("L")).argmax(0)) == [9, 0, 4, 4]
    (track,) = [one for one in line.all if one.kind == "track"]
    assert pixels(track, "width") == 61 * PIXELS_PER_SECOND and track.attributes["data-rate"] == str(PIXELS_PER_SECOND)
    names = [one.text for one in line.all if one.kind == "pitch"]
    assert (len(names), names[0], names[-1]) == (12, "B", "C")


def test_nothing_in_the_time_line_is_unescaped(space):
    mark = """"'><script>alert(1)</script>&amp;"""
    chord = replace(SONG.chords[0], seventh=f"C:{mark}")
    line = Elements(space.timeline.render(replace(SONG, chords=Timeline([chord])), mark))
    assert {one.tag for one in line.all} == {"audio", "div", "span", "img"}
    names = {name for one in line.all for name in one.attributes}
    assert names == {"controls", "src", "class", "title", "style", "tabindex", "data-rate", "alt"}
    assert line.all[0].attributes["src"] == mark
    assert line.of_row("chords")[0].attributes["title"].startswith(f"C{mark}, 95%")


def test_files_for_other_programs_are_named_after_the_song(space, tmp_path):
    folder = tmp_path / "analysis"
    paths = space.app.write_files(SONG, folder, "My song. No. 2")
    assert [path.name for path in paths] == [
        f"My song. No. 2{suffix}" for suffix in (".key.lab", ".chords.lab", ".beats.txt", ".json")
    ]
    keys, chords, beats, everything = (path.read_text(encoding="utf-8") for path in paths)
    assert (keys, chords, beats) == (SONG.keys.to_lab(), SONG.chords.to_lab(), SONG.beats.to_lab())
    assert json.loads(everything) == SONG.to_dict()


def test_windows_are_full_and_around_their_moment(space):
    frames = torch.arange(100)[:, None]
    cut = space.analysis.windows(frames, 21, 10)[:, :, 0]
    assert cut.shape == (10, 21)
    assert [list(window) for window in cut] == [list(range(int(w[0]), int(w[0]) + 21)) for w in cut]
    assert all(10 * place + 5 in window for place, window in enumerate(cut))
    assert cut[5, 10] == 55
    assert space.analysis.windows(frames[:8], 21, 10).shape == (1, 8, 1)


def test_the_folder_is_a_space():
    _, metadata, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(metadata)
    assert settings["sdk"] == "gradio" and (SPACE / settings["app_file"]).is_file() and settings["models"]
    written = {Requirement(line) for line in (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()}
    needed = {Requirement(line) for line in requires("mt2-music") if "extra" not in line}
    assert needed <= written  # the package lies there as a folder, which brings no requirements
    assert 0 < (SPACE / "index.npz").stat().st_size < 200e3
    assert 0 < sum(path.stat().st_size for path in (SPACE / "examples").iterdir()) < 300e3
    assert 0 < (SPACE / "screenshot.png").stat().st_size < 300e3


def check_that_the_time_line_plays_and_seeks(page, seconds: float) -> None:
    audio, view, cursor = (f"document.querySelector('#timeline {kind}')" for kind in ("audio", ".view", ".cursor"))
    place = f"parseFloat({cursor}.style.left)"

    def wait_for_cursor(second: object) -> None:
        page.wait_for_function(f"Math.abs({place} - {PIXELS_PER_SECOND} * {second}) < 2")
        page.wait_for_function(f"{view}.scrollLeft < {place} && {place} < {view}.scrollLeft + {view}.clientWidth")

    page.evaluate(f"{audio}.play()")
    page.wait_for_function(f"{place} > {PIXELS_PER_SECOND} / 2")
    page.evaluate(f"{audio}.pause()")
    wait_for_cursor(f"{audio}.currentTime")
    assert 0.5 < page.evaluate(f"{audio}.currentTime") < seconds

    page.evaluate(f"{audio}.currentTime = {seconds - 1}")
    wait_for_cursor(seconds - 1)
    assert page.evaluate(f"{view}.scrollLeft") > 0

    page.evaluate(f"{view}.scrollLeft = 0")
    page.locator("#timeline .track .chords").click(position={"x": 4 * PIXELS_PER_SECOND, "y": 10})
    wait_for_cursor(4)
    assert page.evaluate(f"{audio}.currentTime") == pytest.approx(4, abs=0.05)


def test_the_page_in_a_browser(space, analyser, server, page, tmp_path):
    from PIL import Image

    errors, crashes, hosts = [], [], set()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: crashes.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    good, bad = tmp_path / "song.wav", tmp_path / "bad.wav"
    soundfile.write(good, *soundfile.read(next(path for path in space.app.EXAMPLES if "sharp" in path.stem)))
    bad.write_text("no audio", encoding="utf-8")

    def upload(file: Path) -> None:
        page.set_input_files("input[type=file]", file)
        page.wait_for_selector("button[aria-label=Clear]")
        page.get_by_role("button", name="Analyse").click()

    page.goto(server)
    page.wait_for_selector("button:has-text('Analyse')")
    for example in space.app.EXAMPLES:
        assert page.get_by_role("button", name=example.stem).is_visible()
    upload(good)
    found = analyser.analyse(good).song
    assert page.wait_for_selector("#key h1").inner_text() == found.key.name
    assert found.key.name in KEY_LABELS
    for row, parts in (("keys", found.keys), ("chords", found.chords), ("beats", found.beats)):
        assert page.locator(f"#timeline .track .{row} > div").count() == len(parts)
    images = "#results img:not(#timeline img)"
    loaded = f"[...document.querySelectorAll('{images}')].filter(image => image.naturalWidth > 400).length"
    page.wait_for_function(f"{loaded} == {NUM_PICTURES}")
    first = page.inner_text("#neighbours")
    assert first.count("bpm") == space.app.NUM_NEIGHBOURS
    page.get_by_label("equivariant").check()
    page.wait_for_function("before => document.querySelector('#neighbours').innerText != before", arg=first)
    check_that_the_time_line_plays_and_seeks(page, found.seconds)
    with page.expect_download() as download:
        page.get_by_role("button", name=".chords.lab").click()
    assert download.value.suggested_filename == "song.chords.lab"
    assert Path(download.value.path()).read_text(encoding="utf-8") == found.chords.to_lab()
    page.mouse.move(0, 0)
    picture = Path(os.environ.get("MT2_SCREENSHOT", tmp_path / "screenshot.png"))
    page.screenshot(path=picture, full_page=True)
    with Image.open(picture) as image:
        assert image.width == 1280  # nothing is so wide that the page scrolls sideways
        image.convert("RGB").quantize(128).save(picture, optimize=True)
    assert not errors

    page.evaluate("document.querySelector('#timeline audio').play()")  # which ends when the results disappear
    page.click("button[aria-label=Clear]")
    upload(bad)  # the browser cannot play it either, and says so in the console
    problem = page.wait_for_selector("#problem textarea").input_value()
    assert "bad.wav is text, not audio" in problem and "/" not in problem
    assert not page.locator("#results").is_visible()
    assert not crashes and hosts <= {"127.0.0.1", None}  # None of data: and blob:
