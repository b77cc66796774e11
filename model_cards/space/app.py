"""Music analysis with MT2 in the browser: the keys, chords and beats of a song, its form, and similar songs.

`python app.py --port 7860` serves the page; a Hugging Face Space runs the same file. It needs no network.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from analysis import MAX_SECONDS, SIGNATURE_HOP_SECONDS, Findings, SongAnalyser
from mt2_music import SongAnalysis
from mt2_music.collection.similar import nearest
from mt2_music.collection.tables import Embeddings
from mt2_music.music import NO_CHORD, PITCH_CLASSES_BY_FIFTHS, SIGNATURES
from mt2_music.options import DEFAULT_MODEL, VECTORS
from mt2_music.train.plots.pictures import plot_profile, plot_self_similarity
from timeline import render, time_line

HERE = Path(__file__).parent
INDEX_FILE = HERE / "index.npz"
EXAMPLES = sorted((HERE / "examples").glob("*.ogg"))
NUM_NEIGHBOURS = 6
MAX_FILE_SIZE = "300mb"  # ten minutes of stereo in any usual format
# Rows of the picture over time, by fifths from five flats to six sharps.
ROWS = [PITCH_CLASSES_BY_FIFTHS[place - 5] for place in range(12)]
FILES = {"Keys": ".key.lab", "Chords": ".chords.lab", "Beats": ".beats.txt", "Everything": ".json"}

INTRODUCTION = """# Music analysis with MT2

MT2 is a small transformer that was pre-trained without labels of keys, chords and beats. It estimates those of a song. It
also shows which moments of the song are alike, and finds similar songs. It reads wav, flac, ogg, mp3."""
ABOUT_TIME_LINE = """**Time line.** Play the song, or click to go to a moment. Long beats are the first of a bar. The
chroma below them shows how strong each pitch class is. Point at a chord to see its seventh, and how sure its triad
is."""
ABOUT_SIGNATURES = """**Key signatures over time.** The circle of fifths shows the mean of the song, with C on top
and sharps clockwise. Beside it is one estimate per second, each from a window of {window:.0f} seconds. Both come from
the equivariant token, which was trained without key labels. A signature stands for its major and its minor key. The
top and bottom rows are neighbours on the circle of fifths."""
ABOUT_SIMILARITY = """**Form.** This is the self-similarity of the song: how alike any two moments are, by their frame
tokens. Squares on the diagonal are sections of one sound. Stripes beside the diagonal are repetitions."""
ABOUT_NEIGHBOURS = """**Nearest of {count} songs** that come with this page. They were composed for it, and are named
by key, tempo and instruments. The contrastive token describes sound and style, the equivariant token harmony."""


def plot_over_time(values: np.ndarray, names: list[str], hop_seconds: float, seconds: float, output: Path) -> None:
    """Draw probabilities as they change over a song.

    Args:
        values: (moments, rows), the first row at the bottom.
        names: of the rows.
        hop_seconds: from one moment to the next.
        seconds: length of the song.
        output: picture to write; its suffix decides the format.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    extent = (0, len(values) * hop_seconds, -0.5, len(names) - 0.5)
    image = axes.imshow(
        values.T, aspect="auto", origin="lower", extent=extent, vmin=0, cmap="Blues", interpolation="nearest"
    )
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="seconds", xlim=(0, seconds))
    figure.colorbar(image, label="probability", pad=0.01)
    figure.savefig(output, dpi=120)


def render_picture(plot: Callable[..., None], *arguments: Any) -> Image.Image:
    """Return the picture that a function draws into the file named by its last argument."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        plot(*arguments, path)
        with Image.open(path) as image:
            return image.convert("RGB")


def describe(findings: Findings) -> str:
    """Return the key, its confidence, tempo and tuning, and how much of the song was analysed, as Markdown."""
    song = findings.song
    facts = [song.key.reason or f"confidence {song.key.confidence:.0%}"]
    if all(chord.label == NO_CHORD for chord in song.chords):
        facts.append("no chords")
    facts.append("no beats" if song.tempo is None else f"{song.tempo:.0f} beats per minute")
    if song.metre is not None:
        facts.append(f"{song.metre} beats in a bar")
    if song.key.key is not None:
        facts.append(f"tuned {round(song.tuning_cents):+d} cents")
    lines = [f"# {song.key.name}", f"{', '.join(facts).capitalize()}. Estimated from {song.seconds:.0f} seconds."]
    if findings.cut:
        lines.append(f"**Only the first {MAX_SECONDS // 60} minutes of the song were analysed.**")
    return "\n\n".join(lines)


def write_files(song: SongAnalysis, folder: Path, name: str) -> list[Path]:
    """Write what was found in a song as files that other programs read, in the order of `FILES`."""
    texts = [song.keys.to_lab(), song.chords.to_lab(), song.beats.to_lab(), json.dumps(song.to_dict(), indent=1)]
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}{suffix}" for suffix in FILES.values()]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def table(index: Embeddings, vectors: dict[str, np.ndarray], token: str) -> str:
    """Write the songs nearest by one embedding as a table."""
    found = nearest(index, vectors[token], token, NUM_NEIGHBOURS)
    rows = [f"| {song} | {cosine:.2f} |" for song, cosine in found]
    return "\n".join(["| song | cosine |", "|---|---:|", *rows])


def pictures(analyser: SongAnalyser, findings: Findings) -> list[Image.Image]:
    """Draw the mean signature profile, signatures over time and self-similarity."""
    rate = analyser.model.extractor.frame_rate
    hop = round(SIGNATURE_HOP_SECONDS * rate) / rate
    names = [SIGNATURES[signature] for signature in ROWS]
    seconds = findings.song.seconds
    return [
        render_picture(plot_profile, findings.signatures.mean(0), "Mean of the song"),
        render_picture(plot_over_time, findings.signatures[:, ROWS], names, hop, seconds),
        render_picture(plot_self_similarity, findings.similarity, seconds, "Self-similarity"),
    ]


def build(model: str | Path) -> gr.Blocks:
    """Load a model and lay out the page.

    Args:
        model: folder, Hub name or short name of a published model that finds chords and beats.

    Raises:
        ValueError: the model finds none, or the index is of another model.
        OSError: nothing is there.
    """
    analyser = SongAnalyser(model)
    index = analyser.load_index(INDEX_FILE)
    window = analyser.pretrained.config.max_frames / analyser.model.extractor.frame_rate

    def analyse(file: str | None, token: str) -> list[Any]:
        try:
            if file is None:
                raise ValueError("choose a sound file or record one first")
            findings = analyser.analyse(Path(file))
        except (ValueError, OSError) as error:
            reason = str(error).replace(str(file), Path(str(file)).name)
            return [gr.update(value=reason, visible=True), gr.update(visible=False), *[gr.skip()] * len(shown)]
        # gradio keeps the song in a folder of its own, serves what is in it, and deletes it after a while.
        files = write_files(findings.song, Path(file).with_name("analysis"), Path(file).stem)
        neighbours = table(index, findings.vectors, token)
        texts = [describe(findings), render(findings.song, f"gradio_api/file={quote(file)}")]
        values = [*texts, *files, *pictures(analyser, findings), neighbours, findings.vectors]
        return [gr.update(visible=False), gr.update(visible=True), *values]

    with gr.Blocks(title="MT2", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                audio = gr.Audio(type="filepath", label="A song", buttons=["download"], editable=False)
            with gr.Column():
                gr.Examples([[str(path)] for path in EXAMPLES], audio, example_labels=[path.stem for path in EXAMPLES])
                button = gr.Button("Analyse", variant="primary")
        problem = gr.Textbox(label="This file cannot be analysed", visible=False, elem_id="problem")
        vectors = gr.State()
        with gr.Column(visible=False, elem_id="results") as results:
            key = gr.Markdown(elem_id="key")
            gr.Markdown(ABOUT_TIME_LINE)
            line = time_line()
            with gr.Row():
                downloads = [gr.DownloadButton(f"{name} ({suffix})", size="sm") for name, suffix in FILES.items()]
            gr.Markdown(ABOUT_SIGNATURES.format(window=window))
            with gr.Row():
                circle = _picture("Circle of fifths", scale=2)
                signatures = _picture("Key signatures over time", scale=3)
            with gr.Row():
                with gr.Column():
                    gr.Markdown(ABOUT_SIMILARITY)
                    similarity = _picture("Self-similarity")
                with gr.Column():
                    gr.Markdown(ABOUT_NEIGHBOURS.format(count=len(index.files)))
                    token = gr.Radio(VECTORS, value=VECTORS[0], label="token", elem_id="token")
                    neighbours = gr.Markdown(elem_id="neighbours")
        shown = [key, line, *downloads, circle, signatures, similarity, neighbours, vectors]
        button.click(analyse, [audio, token], [problem, results, *shown], show_progress_on=audio)
        token.input(lambda vectors, token: table(index, vectors, token), [vectors, token], neighbours)
    return page


def _picture(label: str, scale: int | None = None) -> gr.Image:
    return gr.Image(label=label, alt_text=label, show_label=False, interactive=False, buttons=[], scale=scale)


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        default=os.environ.get("MT2_MODEL", DEFAULT_MODEL),
        help="folder, Hub name or short name of a model that finds chords (default: $MT2_MODEL or the packaged one)",
    )
    parser.add_argument("--port", type=int, help="default: $GRADIO_SERVER_PORT, or the first free one from 7860")
    arguments = parser.parse_args(argv)
    try:
        page = build(arguments.model)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    page.launch(
        server_port=arguments.port,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        max_file_size=MAX_FILE_SIZE,
        footer_links=[],
        ssr_mode=False,
    )


if __name__ == "__main__":
    main()
