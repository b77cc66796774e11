"""The demo app: its analysis of a song, and its page in a real browser.

With MT2_SCREENSHOT=FILE the picture of the page is written there: model_cards/space/screenshot.png was made so.
"""

import importlib
import os
import shutil
import socket
import subprocess
import sys
import time
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

from mt2_music.music import KEY_LABELS, PITCH_CLASSES_BY_FIFTHS
from mt2_music.options import DEFAULT_MODEL
from mt2_music.collection.similar import nearest
from mt2_music.collection.tables import VECTORS
from mt2_music.train.synth import compose, find_soundfont, play_additive
from support import RATE, ROOT, song

SPACE = ROOT / "model_cards" / "space"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 60


@pytest.fixture(scope="module")
def space():
    """The modules of the Space, which are no part of the package."""
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install '.[demo]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SPACE)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in ("analysis", "app", "build_index")})


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


def test_a_model_that_names_no_keys_is_refused(space):
    with pytest.raises(ValueError, match="does not name keys: .*train.key"):
        space.analysis.SongAnalyser(SPACE.with_name("mt2-small"))


def test_files_of_any_rate_and_length_are_analysed(space, analyser, tmp_path):
    for name, rate, seconds in (("short.flac", 44100, 0.2), ("long.mp3", 48000, 7), ("song.ogg", 22050, 4)):
        stereo = np.random.default_rng(0).normal(0, 0.1, (round(rate * seconds), 2))
        soundfile.write(tmp_path / name, stereo, rate)
        analysis = analyser.analyse(tmp_path / name)
        assert analysis.seconds == pytest.approx(seconds, abs=0.2) and not analysis.cut
        np.testing.assert_allclose(analysis.signatures.sum(1), 1, rtol=0, atol=1e-4)
        np.testing.assert_allclose(analysis.triads.sum(1), 1, rtol=0, atol=1e-4)
        assert "Only the first" not in space.app.describe(analysis)


def test_a_long_song_is_cut_and_the_page_says_so(space, analyser, tmp_path, monkeypatch):
    monkeypatch.setattr(space.analysis, "MAX_SECONDS", 5)
    soundfile.write(tmp_path / "song.wav", song(3, 8.0), RATE)
    analysis = analyser.analyse(tmp_path / "song.wav")
    assert analysis.cut and analysis.seconds == pytest.approx(5, abs=0.1)
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
    assert page.wait_for_selector("#key h1").inner_text() == analyser.analyse(good).key.name
    assert page.inner_text("#key h1") in KEY_LABELS
    loaded = "[...document.querySelectorAll('#results img')].filter(image => image.naturalWidth > 400).length"
    page.wait_for_function(f"{loaded} == 4")
    first = page.inner_text("#neighbours")
    assert first.count("bpm") == space.app.NUM_NEIGHBOURS
    page.get_by_label("equivariant").check()
    page.wait_for_function("before => document.querySelector('#neighbours').innerText != before", arg=first)
    page.mouse.move(0, 0)
    picture = Path(os.environ.get("MT2_SCREENSHOT", tmp_path / "screenshot.png"))
    page.screenshot(path=picture, full_page=True)
    with Image.open(picture) as image:
        assert image.width == 1280  # nothing is so wide that the page scrolls sideways
        image.convert("RGB").quantize(64).save(picture, optimize=True)
    assert not errors

    page.click("button[aria-label=Clear]")
    upload(bad)  # the browser cannot play it either, and says so in the console
    problem = page.wait_for_selector("#problem textarea").input_value()
    assert "bad.wav is text, not audio" in problem and "/" not in problem
    assert not page.locator("#results").is_visible()
    assert not crashes and hosts <= {"127.0.0.1", None}  # None of data: and blob:
