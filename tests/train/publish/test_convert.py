"""Released weights: the front end is theirs, the converted model says the same, and what is unknown is refused."""

import json

import numpy as np
import pytest
import soundfile
import torch

import mt2_music
from mt2_music import MT2FeatureExtractor
from mt2_music.cli import main
from mt2_music.song.embed import stream_features
from mt2_music.train.publish.convert import MIN_TURNING, read_weights, split_qkv
from published import PublishedMT2
from support import RATE, pitch_fork, song

WINDOW = 64000
CARD = ["--weights_license", "cc-by-nc-4.0", "--source", "Their page, a million songs."]


@pytest.fixture(scope="module")
def random():
    return PublishedMT2().eval()


@pytest.fixture(scope="module")
def chroma():
    return PublishedMT2(chroma=True).eval()


def sounds():
    noise = 0.2 * np.random.default_rng(0).standard_normal(WINDOW)
    half_silent = np.concatenate([song(2)[: WINDOW // 2], np.zeros(WINDOW // 2)])
    return torch.tensor(np.stack([song(0)[:WINDOW], song(1)[-WINDOW:], half_silent, noise]), dtype=torch.float32)


@pytest.mark.parametrize("num_vqt_bins", [84, 99])
def test_the_front_end_is_that_of_nnaudio(num_vqt_bins):
    """Constant-Q to float32, mel to 0.05 dB, which is what its transforms of single precision leave 100 dB down."""
    reference = PublishedMT2(num_vqt_bins=num_vqt_bins)
    extractor = MT2FeatureExtractor(front_end="published", num_cqt_bins=84, num_vqt_bins=num_vqt_bins)
    got, mel = extractor.extract(sounds()), reference.spec(sounds())[:, 0].mT
    assert got.shape == (4, 126, 84 + 128)
    assert torch.allclose(got[..., :84].mT, reference.hcqt(sounds())[:, 0], rtol=0, atol=1e-6)
    assert torch.allclose(got[..., 84:], mel, rtol=0, atol=0.05)
    assert torch.allclose(got[3, :, 84:], mel[3], rtol=0, atol=1e-4)  # noise has no depths
    # The other number of bins puts octaves at other rates, and our own front end is another one altogether.
    other = MT2FeatureExtractor(front_end="published", num_cqt_bins=84, num_vqt_bins=183 - num_vqt_bins)
    assert not torch.allclose(got[..., :84], other.extract(sounds())[..., :84], rtol=0, atol=1e-3)
    local = MT2FeatureExtractor(cqt_scale="decibel", num_cqt_bins=84).extract(sounds())
    assert not torch.allclose(got[..., :84], local[..., :84], rtol=0, atol=0.1)


def test_a_converted_model_says_what_the_published_one_does(random):
    model, extractor = read_weights(random.state_dict())
    assert (extractor.num_vqt_bins, model.config.num_attention_heads, len(model.mt2.layers)) == (99, 2, 2)
    with torch.no_grad():
        tokens, profile = random(sounds())
        got = model(extractor.extract(sounds()))
    assert tokens.std() > 0.5 and profile.std(0).min() > 1e-3  # clips differ
    assert torch.allclose(got.equivariant_embeds, tokens[:, 0], rtol=0, atol=1e-4)
    assert torch.allclose(got.contrastive_embeds, tokens[:, 1], rtol=0, atol=1e-4)
    assert torch.allclose(got.last_hidden_state, tokens[:, 2:], rtol=0, atol=1e-4)
    assert torch.allclose(got.key_signature_profile, profile, rtol=0, atol=1e-4)
    assert torch.equal(got.projection, got.contrastive_embeds)
    # Of the last layer, what is left after octave pooling counts; and attention may have no bias.
    bare = {name: None for name in random.state_dict() if name.endswith("qkv.bias")}
    wide = torch.randn(96, 128)
    other, _ = read_weights(changed(random.state_dict(), linear_out_stone__weight=wide, **bare))
    pooled = (tokens[:, 0] @ wide.T).view(4, 8, 12).mean(1) + other.key_head.linear.bias.view(7, 12).mean(0)
    assert torch.allclose(other.key_head(tokens[:, 0]), pooled, rtol=0, atol=1e-4)
    assert other.mt2.layers[0].attention.q_proj.bias is None
    # The usual layout, (qkv h e), is another model.
    joined = random.state_dict()["backbone.blocks.0.attn.qkv.weight"]
    with torch.no_grad():
        for name, part in zip("qkv", joined.chunk(3), strict=True):
            getattr(model.mt2.layers[0].attention, f"{name}_proj").weight.copy_(part)
        other = model(extractor.extract(sounds()))
    assert (other.last_hidden_state - tokens[:, 2:]).abs().max() > 0.1
    with pytest.raises(ValueError, match="384 rows"):
        split_qkv(joined, 5)


def test_windows_of_a_long_song_are_each_what_the_published_model_says(random):
    model, extractor = read_weights(random.state_dict())
    audio = song(3, 12.0)[:150000]
    audio += 1e-3 * np.random.default_rng(0).standard_normal(len(audio), np.float32)
    step = 126 * 512
    whole = extractor.extract(torch.from_numpy(audio)[None])[0]
    assert len(whole) == extractor.num_frames(len(audio)) == 293
    blocks = np.split(audio, [10, 70000, 70001, 140000])
    streamed = torch.cat(list(stream_features(extractor, blocks)))
    assert torch.allclose(streamed, whole, rtol=0, atol=1e-3)
    with torch.no_grad():
        frames = model(whole[None]).last_hidden_state[0]
        for start in (0, step):
            tokens, _ = random(torch.from_numpy(audio[start : start + WINDOW])[None])
            # How several windows at once are rounded decides on the faintest of their values, in nnAudio as well.
            assert torch.allclose(frames[start // 512 :][:126], tokens[0, 2:], rtol=0, atol=2e-3)
            assert (frames[start // 512 + 1 :][:126] - tokens[0, 2:]).abs().max() > 0.1  # a frame off is far off
    clips = extractor([audio, audio[:20000]], sampling_rate=RATE, return_tensors="pt")
    assert clips["attention_mask"].sum(1).tolist() == [293, 40]
    assert torch.allclose(clips["input_features"][0], whole, rtol=0, atol=1e-3)


def changed(state, **changes):
    state = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm_in_stone__running_mean": torch.zeros(84)}, "norm_in_stone.running_mean is not known"),
        (
            {"backbone__norm__bias": None, "head__weight": torch.ones(1)},
            "head.weight is not known; backbone.norm.bias",
        ),
        ({"pos_emb__pos_emb": None}, "pos_emb is lacking"),
        ({"pos_emb__pos_emb": torch.zeros(1, 64, 128)}, "position_embeddings"),
        ({"hcqt__vqt__extra": torch.zeros(1)}, "hcqt.vqt.extra is not known"),
        ({"spec__mel_scale__fb": torch.zeros(513, 128)}, "spec.mel_scale.fb differ"),
        ({"hcqt__vqt__lenghts": torch.ones(99)}, "hcqt.vqt.lenghts differ"),
        ({"cls_stone": torch.zeros(64)}, "do not fit"),
    ],
)
def test_what_is_not_understood_is_named(random, changes, named):
    with pytest.raises(ValueError) as refused:
        read_weights(changed(random.state_dict(), **changes))
    assert named in str(refused.value)


def figure_of(folder):
    return json.loads((folder / "training.json").read_text(encoding="utf-8"))["converted"]["turning"]


def test_the_command_writes_a_whole_folder_or_none(random, chroma, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(chroma.state_dict(), "model_state_dict.pt")
    assert main(["convert", "model_state_dict.pt", "my-mt2", *CARD]) == 0
    figure = figure_of(tmp_path / "my-mt2")
    assert figure > MIN_TURNING + 0.1
    assert f"{figure:.2f} of 1" in capsys.readouterr().out
    card = (tmp_path / "my-mt2" / "README.md").read_text(encoding="utf-8")
    for said in ("license: cc-by-nc-4.0", CARD[-1], f"to {figure:.2f} (1: exactly", "`model_state_dict.pt`"):
        assert said in card, said
    assert "$" not in card
    soundfile.write("song.wav", pitch_fork(2), RATE, subtype="FLOAT")
    loaded = mt2_music.load("my-mt2", device="cpu")
    model, extractor = read_weights(chroma.state_dict())
    with torch.no_grad():
        want = model(extractor.extract(torch.from_numpy(pitch_fork(2))[None])).pooler_output[0]
    assert np.allclose(loaded.embed("song.wav").mean, want, atol=1e-4)
    assert main(["key", "song.wav", "--always", "--model", "my-mt2"]) == 0
    assert "major" in capsys.readouterr().out
    assert main(["convert", "model_state_dict.pt", "my-mt2", *CARD]) == 2  # it is there
    assert main(["export", "my-mt2", "model.onnx"]) == 2
    assert "input features" in capsys.readouterr().err

    torch.save(random.state_dict(), "random.pt")
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    torch.save({"model": random}, "code.pt")  # loading it would run code
    torch.save([torch.zeros(1)], "list.pt")
    said = {
        "random.pt": "does not turn",
        "text.pt": "read safely",
        "code.pt": "read safely",
        "list.pt": "holds a list",
    }
    for name, reason in {**said, "missing.pt": "missing.pt"}.items():
        assert main(["convert", name, "other", *CARD]) == 2
        assert reason in capsys.readouterr().err
        assert not list(tmp_path.glob("*other*"))
    assert main(["convert", "random.pt", "other", "--unchecked", *CARD]) == 0
    assert "do not rely on this model" in (tmp_path / "other" / "README.md").read_text(encoding="utf-8")
    assert figure_of(tmp_path / "other") < MIN_TURNING - 0.2


def test_settings_of_the_published_front_end_are_checked():
    with pytest.raises(ValueError, match="front_end"):
        MT2FeatureExtractor(front_end="mine")
    with pytest.raises(ValueError, match="num_vqt_bins"):
        MT2FeatureExtractor(num_vqt_bins=99)
    with pytest.raises(ValueError, match="num_vqt_bins"):
        MT2FeatureExtractor(front_end="published", num_cqt_bins=99, num_vqt_bins=84)
    with pytest.raises(ValueError, match="halved"):
        MT2FeatureExtractor(front_end="published", hop_length=500)
    assert (
        MT2FeatureExtractor().mel_fmax_hz == 8000 and MT2FeatureExtractor(front_end="published").mel_fmax_hz == 11025
    )
