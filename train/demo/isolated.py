"""Embed sound files with a published folder, without this package: the demo runs this in an isolated process.

Needs transformers, torch, numpy, soundfile and soxr. It never imports this package: model and feature extractor come
from the folder's own code.
"""

import sys

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel


def main(model_dir: str, output: str, files: list[str]) -> None:
    """Write the mean embedding of every file, (files, hidden_size), to an npy file."""
    model = AutoModel.from_pretrained(model_dir, trust_remote_code=True).eval()
    extractor = AutoFeatureExtractor.from_pretrained(model_dir, trust_remote_code=True)
    if "mt2_music" in sys.modules:
        raise RuntimeError("the package was imported: this would not show that the folder stands alone")
    with torch.no_grad():
        embeddings = [model(**extractor([file], return_tensors="pt")).pooler_output[0].numpy() for file in files]
    np.save(output, np.stack(embeddings))
