"""transformers' own audio-classification example, unchanged, on a published model and a data set of this machine.

The source distribution of transformers holds no examples, so the file is that of the repository at the installed
version, or TRANSFORMERS_EXAMPLE names a copy. It decodes with torchcodec, which is installed for this test alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from support import RATE, ROOT, python, tone, weights_of

EXAMPLE = "examples/pytorch/audio-classification/run_audio_classification.py"
SOURCE = f"https://raw.githubusercontent.com/huggingface/transformers/v{transformers.__version__}/{EXAMPLE}"
DECODER = "torchcodec==0.13.0"  # later wheels need CUDA
# Where the example looks first for its metric, which it otherwise loads from the Hub.
METRIC = """
import datasets
import evaluate
import numpy as np

class Accuracy(evaluate.Metric):
    def _info(self):
        features = datasets.Features(predictions=datasets.Value("int32"), references=datasets.Value("int32"))
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"accuracy": float(np.mean(np.array(predictions) == np.array(references)))}
"""


@pytest.fixture
def example(tmp_path) -> Path:
    if "TRANSFORMERS_EXAMPLE" in os.environ:
        return Path(os.environ["TRANSFORMERS_EXAMPLE"])
    try:
        with urlopen(SOURCE, timeout=20) as answer:
            (tmp_path / "example.py").write_bytes(answer.read())
    except OSError as error:
        pytest.skip(f"{SOURCE} is out of reach ({error}), and TRANSFORMERS_EXAMPLE names no copy")
    return tmp_path / "example.py"


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Variables for a process that has torchcodec, no network, and a cache of its own."""
    places = [str(tmp_path / "decoder"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    variables["PYTHONPATH"] = os.pathsep.join(places)
    for arguments in (["-m", "pip", "install", "-q", "--no-deps", "--target", places[0], DECODER], ["-c", TRY]):
        done = subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1]
            pytest.skip(f"{DECODER} is not to be had, or does not load beside this torch and FFmpeg: {reason}")
    return variables


TRY = "from torchcodec.decoders import AudioDecoder"


@pytest.mark.slow
def test_the_example_trains_and_evaluates_a_published_model(example, environment, tmp_path):
    base, tuned = ROOT / "model_cards" / "mt2-small", tmp_path / "tuned"
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy" / "accuracy.py").write_text(METRIC, encoding="utf-8")
    for split, label, lowest in (
        (s, *pair) for s in ("train", "validation") for pair in (("low", 220), ("high", 880))
    ):
        (tmp_path / "data" / split / label).mkdir(parents=True)
        for number in range(4):  # of another rate than the model's
            samples = tone(lowest + 9 * number, 0.6 + 0.1 * number, rate=22050)
            soundfile.write(tmp_path / "data" / split / label / f"{number}.wav", samples, 22050)
    options = {"model_name_or_path": base, "dataset_name": tmp_path / "data", "output_dir": tuned, "max_steps": 12}
    options |= {"learning_rate": 3e-3, "per_device_train_batch_size": 4, "max_length_seconds": 1, "report_to": "none"}
    options |= {"remove_unused_columns": False, "disable_tqdm": True}
    words = [f"--{name}={value}" for name, value in options.items()]
    python(
        example, *words, "--trust_remote_code", "--do_train", "--do_eval", "--use_cpu", cwd=tmp_path, env=environment
    )
    results = json.loads((tuned / "all_results.json").read_text(encoding="utf-8"))
    assert results["eval_accuracy"] == 1 and results["eval_loss"] < np.log(2) / 2
    model = AutoModelForAudioClassification.from_pretrained(tuned, trust_remote_code=True).eval()
    assert model.config.id2label == {0: "high", 1: "low"} and model.config.label2id == {"high": 0, "low": 1}
    extractor = AutoFeatureExtractor.from_pretrained(tuned, trust_remote_code=True)
    heard = extractor([tone(230), tone(890)], sampling_rate=RATE, return_tensors="pt")
    assert [model.config.id2label[int(row.argmax())] for row in model(**heard).logits] == ["low", "high"]
    before, after = weights_of(base), weights_of(tuned)
    moved = {name.split(".")[1] for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])}
    assert "layers" in moved and "embeddings" not in moved  # the example freezes what it calls the feature encoder
