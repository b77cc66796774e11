"""MT2 as the common tests of transformers want it: its classes, a small config, and inputs.

`test_transformers_common.py` runs this file in a process where the folder `tests` of transformers can be imported.
"""

import sys
import unittest
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from transformers import set_seed
from transformers.models.auto import modeling_auto

from mt2_music import (
    MT2Config,
    MT2FeatureExtractor,
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForMusicAnalysis,
    MT2ForPreTraining,
    MT2Model,
)

# What they import from folders that the source distribution leaves out. Nothing of the first two concerns MT2: it
# does not generate, and its own export has its own tests. The third holds settings that every config must keep.
LEFT_OUT = {
    "tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "tests.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "tests.utils.test_configuration_utils": {
        "config_common_kwargs": {
            "architectures": ["MT2Model"],
            "chunk_size_feed_forward": 5,
            "dtype": "float16",
            "id2label": {0: "label"},
            "label2id": {"label": 0},  # "0" there; MT2Config makes numbers of strings
            "output_attentions": True,
            "output_hidden_states": True,
            "problem_type": "regression",
            "return_dict": False,
        }
    },
}
for name, contents in LEFT_OUT.items():
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(contents)
common = import_module("tests.test_modeling_common")
configuration = import_module("tests.test_configuration_common")
extraction = import_module("tests.test_sequence_feature_extraction_common")

# They know by these tables which classes have no loss, and which classify.
modeling_auto.MODEL_MAPPING_NAMES["mt2"] = "MT2Model"
modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES["mt2"] = (
    "MT2ForAudioClassification",
    "MT2ForMusicAnalysis",
)


class ModelTester:
    batch_size = 3
    num_frames = 20
    num_hidden_layers = 2
    num_attention_heads = 4
    hidden_size = 96
    is_training = True
    # Of `hidden_states` and `attentions`, where class tokens come first; `last_hidden_state` holds frames alone.
    seq_length = 2 + num_frames

    def get_config(self):
        return MT2Config(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            max_frames=32,
            projection_size=16,
            frame_labels=["C:maj", "beat"],
            num_context_layers=2,
            context_size=16,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        frames = common.floats_tensor([self.batch_size, self.num_frames, config.input_size])
        lengths = torch.tensor([[self.num_frames], [17], [12]])
        mask = (torch.arange(self.num_frames) < lengths).long()
        return config, {"input_features": frames, "attention_mask": mask}


class MT2ModelTest(common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (
        MT2Model,
        MT2ForPreTraining,
        MT2ForAudioClassification,
        MT2ForAudioFrameClassification,
        MT2ForMusicAnalysis,
    )
    test_resize_embeddings = False  # there is no vocabulary
    test_can_init_all_missing_weights_before_2023 = True  # the year is read off a copyright line, which we have not

    def setUp(self):
        set_seed(0)
        self.model_tester = ModelTester()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is MT2ForPreTraining:
            # Its loss is of pairs of windows without padding, one of them transposed, by chance unless one says so.
            frames = inputs["input_features"]
            pairs = torch.stack([frames, frames.flip(1)], dim=1)
            return {"input_features": pairs, "transposition": torch.tensor([3, -2]).expand(len(pairs), 2)}
        if return_labels and model_class is MT2ForAudioFrameClassification:
            inputs["labels"] = torch.zeros_like(inputs["attention_mask"])
        return inputs

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs=None):
        """The loss of `MT2ForMusicAnalysis` is of clips, and gives no gradient to its head for frames."""
        for model_class in type(self).all_model_classes:
            self.all_model_classes = (model_class,)
            self.test_all_params_have_gradient = model_class is not MT2ForMusicAnalysis
            super().check_training_gradient_checkpointing(gradient_checkpointing_kwargs)

    def test_config(self):
        configuration.ConfigTester(self, MT2Config, has_text_modality=False, hidden_size=96).run_common_tests()

    def test_model_get_set_embeddings(self):
        """As in other audio models, what the input is embedded by is a linear layer."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            self.assertIsInstance(model.get_input_embeddings(), torch.nn.Linear)
            self.assertIsNone(model.get_output_embeddings())
            replaced = torch.nn.Linear(84, 96)
            model.set_input_embeddings(replaced)
            self.assertIs(model.get_input_embeddings(), replaced)

    def test_a_model_whose_clips_see_each_other_fails(self):
        """So that what passes says something."""

        class Leaky(MT2Model):
            def forward(self, input_features, **kwargs):
                return super().forward(input_features + 0.1 * input_features.mean(0), **kwargs)

        self.all_model_classes = (Leaky,)
        with self.assertRaises(AssertionError):
            self.test_batching_equivalence()


class ExtractorTester:
    batch_size = 7
    min_seq_length, seq_length_diff, max_seq_length = 5, 3, 23
    feature_size = 227

    def prepare_feat_extract_dict(self):
        return {"feature_size": self.feature_size, "padding_value": 0.0, "sampling_rate": 16000}

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        shortest = self.max_seq_length if equal_length else self.min_seq_length
        rng = np.random.default_rng(0)
        lengths = np.linspace(shortest, self.max_seq_length, self.batch_size).astype(int)
        clips = [rng.random((length, self.feature_size), np.float32) for length in lengths]
        return clips if numpify else [clip.tolist() for clip in clips]


class MT2FeatureExtractorTest(extraction.SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = MT2FeatureExtractor
    feat_extract_tester = ExtractorTester()
