"""Speed and accuracy of exported models: `python benchmarks/speed/export.py`, or `... MODEL_FOLDER` for another model.

Exports an encoder and a classifier of keys as `mt2 export` does, with and without `--int8`; times them in turns with
torch, waveform in; and compares their keys of composed music with the true ones. Writes export.md.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from timing import ROUNDS, best_in_turns

from mt2_music import MT2ForAudioClassification, MT2Model
from mt2_music.export import export_onnx
from mt2_music.loading import find_model, load_extractor, load_model
from mt2_music.music import KEY_LABELS, parse_key, signature
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.synth import compose, play_additive

SMALL = Path(__file__).parents[2] / "model_cards" / "mt2-small"
SAMPLING_RATE = 16000
SONG_SECONDS, TIMED_SECONDS = 12.0, 60
SONGS_PER_KEY = 10
OUTPUTS = {
    "pooler_output": "mean",
    "equivariant_embeds": "equivariant",
    "contrastive_embeds": "contrastive",
    "logits": "logits",
}
Encoder = Callable[[np.ndarray], dict[str, np.ndarray]]  # samples of one song to named vectors


def play(key: str, number: int) -> np.ndarray:
    """Compose and play a piece; it may visit the relative key, so what stays is the key signature."""
    rng = np.random.default_rng(number)
    tonic, mode = parse_key(key)
    return play_additive(compose(rng, SONG_SECONDS, tonic, mode), rng, SAMPLING_RATE)


def session(path: Path) -> Encoder:
    """Open an exported file with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    opened = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    return lambda song: dict(zip(names, opened.run(None, {"waveform": song[None]}), strict=True))


def torch_model(model_class: Any, folder: Path) -> Encoder:
    """Load extractor and model as the Hub's user does; outputs have the names of the exported file."""
    extractor = load_extractor(folder)
    model = load_model(model_class, folder).float()

    @torch.no_grad()
    def encode(song: np.ndarray) -> dict[str, np.ndarray]:
        outputs = model(extractor.extract(torch.from_numpy(song)[None]))
        return {OUTPUTS[name]: value.numpy() for name, value in outputs.items() if name in OUTPUTS}

    return encode


def estimate_signature(logits: np.ndarray, places: list[int]) -> int:
    """Name the signature whose two keys are likeliest together, as `mt2_music.song.keys.classify_key` does."""
    major, minor = torch.from_numpy(logits[0]).softmax(-1)[places].unflatten(0, (2, 12))
    return int((major + minor.roll(3)).argmax())


def cosines(some: list[dict[str, np.ndarray]], others: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """Compare one output of all songs."""
    left, right = (torch.from_numpy(np.concatenate([one[name] for one in each])).double() for each in (some, others))
    return torch.nn.functional.cosine_similarity(left, right).numpy()


def main() -> None:
    """Export, time, compare, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=SMALL, help="encoder (default: mt2-small)")
    parser.add_argument(
        "--key_model", type=Path, default=find_model(DEFAULT_MODEL), help="classifier (default: the package's)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    numbers = json.loads((arguments.key_model / "config.json").read_text(encoding="utf-8"))["label2id"]
    places = [numbers[label] for label in KEY_LABELS]
    names = ("torch float32", "onnxruntime float32", "onnxruntime int8")
    with tempfile.TemporaryDirectory() as folder:
        encoders = {names[0]: torch_model(MT2Model, arguments.model)}
        classifiers = {names[0]: torch_model(MT2ForAudioClassification, arguments.key_model)}
        sizes = {names[0]: (arguments.model / "model.safetensors").stat().st_size}
        for name, int8 in zip(names[1:], (False, True), strict=True):
            for models, source in ((encoders, arguments.model), (classifiers, arguments.key_model)):
                path = Path(folder) / f"{source.name}-{name}.onnx"
                export_onnx(source, path, int8=int8)
                models[name] = session(path)
                if models is encoders:
                    sizes[name] = path.stat().st_size
    keys = [key for key in KEY_LABELS for _ in range(SONGS_PER_KEY)]
    songs = [play(key, number) for number, key in enumerate(keys)]
    long = np.concatenate(songs)[: TIMED_SECONDS * SAMPLING_RATE]
    times = best_in_turns(*(lambda encode=encode: encode(long) for encode in encoders.values()))
    vectors = {name: [encode(song) for song in songs] for name, encode in encoders.items()}
    estimated = {
        name: np.array([estimate_signature(classify(song)["logits"], places) for song in songs])
        for name, classify in classifiers.items()
    }
    played = np.array([signature(key) for key in keys])
    outputs = list(vectors[names[0]][0])
    lines = [
        "| | seconds of audio per second | file, MB | " + " | ".join(f"cosine of {name}" for name in outputs) + " | "
        "signatures as in torch | signatures right |",
        "|---|" + "---:|" * (len(outputs) + 4),
    ]
    for name, seconds in zip(names, times, strict=True):
        alike = [cosines(vectors[names[0]], vectors[name], output) for output in outputs]
        cells = [f"{TIMED_SECONDS / seconds:.0f}", f"{sizes[name] / 1e6:.1f}"]
        cells += [f"{each.mean():.6f} (worst {each.min():.6f})" for each in alike]
        cells += [
            f"{(estimated[name] == estimated[names[0]]).mean():.1%}",
            f"{(estimated[name] == played).mean():.1%}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    note = (
        f"{arguments.model.name}, waveform in: best of {ROUNDS} runs in turns over one song of {TIMED_SECONDS} s, "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}. Files hold the front end too; "
        "the one of torch holds half-precision weights and no front end. Cosines to torch, and key signatures by "
        f"{arguments.key_model.name}, over {len(songs)} composed pieces of {SONG_SECONDS:g} s, "
        f"{SONGS_PER_KEY} in each of {len(KEY_LABELS)} keys. Written by benchmarks/speed/export.py."
    )
    arguments.out.write_text("\n".join([*lines, "", note]) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
