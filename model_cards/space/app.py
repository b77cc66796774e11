"""Music analysis with MT2 in the browser: the key of a song, its keys over time, its form, and similar songs.

`python app.py --port 7860` serves the page; a Hugging Face Space runs the same file. It needs no network.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from analysis import (
    MAX_SECONDS,
    SIGNATURE_HOP_SECONDS,
    TRIAD_HOP_SECONDS,
    TRIAD_WINDOW_SECONDS,
    SongAnalyser,
    SongAnalysis,
)
from mt2_music.music import MAJOR_TONICS, MINOR_TONICS, PITCH_CLASSES_BY_FIFTHS, SIGNATURES
from mt2_music.options import DEFAULT_MODEL, VECTORS
from mt2_music.collection.similar import nearest
from mt2_music.collection.tables import Embeddings
from mt2_music.train.plots.pictures import plot_profile, plot_self_similarity

HERE = Path(__file__).parent
INDEX_FILE = HERE / "index.npz"
EXAMPLES = sorted((HERE / "examples").glob("*.ogg"))
NUM_NEIGHBOURS = 6
MAX_FILE_SIZE = "300mb"  # ten minutes of stereo in any usual format
# Rows of the pictures over time, by fifths from five flats to six sharps; each minor key under its relative major.
ROWS = [PITCH_CLASSES_BY_FIFTHS[place - 5] for place in range(12)]
TRIAD_ROWS = [place for signature in ROWS for place in (12 + (signature + 9) % 12, signature)]
TRIAD_NAMES = [*MAJOR_TONICS, *(f"{tonic}m" for tonic in MINOR_TONICS)]

INTRODUCTION = """# Music analysis with MT2

MT2 is a small transformer that was pre-trained without labels. It estimates the key of a song, and where the key
changes. It also shows which moments of the song are alike, and finds similar songs. It reads wav, flac, ogg, mp3."""
ABOUT_SIGNATURES = """**Key signatures over time.** The circle of fifths shows the mean of the song, with C on top
and sharps clockwise. Beside it is one estimate per second, each from a window of {window:.0f} seconds. Both come from
the equivariant token, which was trained without key labels. A signature stands for its major and its minor key. The
top and bottom rows are neighbours on the circle of fifths."""
ABOUT_TRIADS = """**Keys in short windows.** This is the key layer's estimate for windows of {window:g} s, every
{hop:g} s. The strongest row is often the triad that sounds. It is not a chord recogniser: it has no classes for
sevenths or silence, and it confuses chords with their neighbours on the circle of fifths."""
ABOUT_SIMILARITY = """**Form.** This is the self-similarity of the song: how alike any two moments are, by their frame
tokens. Squares on the diagonal are sections of one sound. Stripes beside the diagonal are repetitions."""
ABOUT_NEIGHBOURS = """**Nearest of {count} songs** that come with this page. They were composed for it, and are named
by key, tempo and instruments. The contrastive token describes sound and style, the equivariant token harmony."""


def plot_over_time(
    values: np.ndarray, names: list[str], hop_seconds: float, seconds: float, width: float, output: Path
) -> None:
    """Draw probabilities as they change over a song.

    Args:
        values: (moments, rows), the first row at the bottom.
        names: of the rows.
        hop_seconds: from one moment to the next.
        seconds: length of the song.
        width: of the picture, in inches; it is six high.
        output: picture to write; its suffix decides the format.
    """
    figure = Figure(figsize=(width, 6), layout="constrained")
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


def describe(analysis: SongAnalysis) -> str:
    """Return the key, its confidence, and how much of the song was analysed, as Markdown."""
    sure = analysis.key.reason or f"Confidence {analysis.key.confidence:.0%}"
    confidence = f"{sure[0].upper()}{sure[1:]}, estimated from {analysis.seconds:.0f} seconds."
    lines = [f"# {analysis.key.name}", confidence]
    if analysis.cut:
        lines.append(f"**Only the first {MAX_SECONDS // 60} minutes of the song were analysed.**")
    return "\n\n".join(lines)


def table(index: Embeddings, vectors: dict[str, np.ndarray], token: str) -> str:
    """Write the songs nearest by one embedding as a table."""
    found = nearest(index, vectors[token], token, NUM_NEIGHBOURS)
    rows = [f"| {song} | {cosine:.2f} |" for song, cosine in found]
    return "\n".join(["| song | cosine |", "|---|---:|", *rows])


def pictures(analyser: SongAnalyser, analysis: SongAnalysis) -> list[Image.Image]:
    """Draw the mean signature profile, signatures over time, triads over time and self-similarity."""
    rate = analyser.extractor.frame_rate
    hops = [round(hop * rate) / rate for hop in (SIGNATURE_HOP_SECONDS, TRIAD_HOP_SECONDS)]
    names = [SIGNATURES[signature] for signature in ROWS]
    triad_names = [TRIAD_NAMES[place] for place in TRIAD_ROWS]
    signatures, triads = analysis.signatures[:, ROWS], analysis.triads[:, TRIAD_ROWS]
    return [
        render_picture(plot_profile, analysis.signatures.mean(0), "Mean of the song"),
        render_picture(plot_over_time, signatures, names, hops[0], analysis.seconds, 9.0),
        render_picture(plot_over_time, triads, triad_names, hops[1], analysis.seconds, 15.0),
        render_picture(plot_self_similarity, analysis.similarity, analysis.seconds, "Self-similarity"),
    ]


def build(model: str | Path) -> gr.Blocks:
    """Load a model and lay out the page.

    Args:
        model: folder, Hub name or short name of a published model that names keys.

    Raises:
        ValueError: the model does not name keys, or the index is of another model.
        OSError: nothing is there.
    """
    analyser = SongAnalyser(model)
    index = analyser.load_index(INDEX_FILE)
    window = analyser.pretrained.config.max_frames / analyser.extractor.frame_rate

    def analyse(file: str | None, token: str) -> list[Any]:
        try:
            if file is None:
                raise ValueError("choose a sound file or record one first")
            analysis = analyser.analyse(Path(file))
        except (ValueError, OSError) as error:
            reason = str(error).replace(str(file), Path(str(file)).name)
            return [gr.update(value=reason, visible=True), gr.update(visible=False), *[gr.skip()] * 7]
        neighbours = table(index, analysis.vectors, token)
        shown = [describe(analysis), *pictures(analyser, analysis), neighbours, analysis.vectors]
        return [gr.update(visible=False), gr.update(visible=True), *shown]

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
            gr.Markdown(ABOUT_SIGNATURES.format(window=window))
            with gr.Row():
                circle = _picture("Circle of fifths", scale=2)
                signatures = _picture("Key signatures over time", scale=3)
            gr.Markdown(ABOUT_TRIADS.format(window=TRIAD_WINDOW_SECONDS, hop=TRIAD_HOP_SECONDS))
            triads = _picture("Triads over time")
            with gr.Row():
                with gr.Column():
                    gr.Markdown(ABOUT_SIMILARITY)
                    similarity = _picture("Self-similarity")
                with gr.Column():
                    gr.Markdown(ABOUT_NEIGHBOURS.format(count=len(index.files)))
                    token = gr.Radio(VECTORS, value=VECTORS[0], label="token", elem_id="token")
                    neighbours = gr.Markdown(elem_id="neighbours")
        shown = [problem, results, key, circle, signatures, triads, similarity, neighbours, vectors]
        button.click(analyse, [audio, token], shown, show_progress_on=audio)
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
        help="folder, Hub name or short name of a model that names keys (default: $MT2_MODEL or the packaged one)",
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
