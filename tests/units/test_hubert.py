"""HuBERT features are the full model's hidden states, from checkpoints of the real file layout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertForCTC, HubertModel, Wav2Vec2Config
from transformers.utils import logging

from checkpoints_hubert import make_hubert
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import HubertUnits
from unitcorpus.units.base import count_frames
from unitcorpus.units.hubert import HubertExtractor

Style = Literal["base", "mhubert25"]


def section(model: Path | str, **changes: Any) -> HubertUnits:
    return HubertUnits(**{"model": str(model), "layer": 2, "codebook": "demo", **changes})


def load(model: Path | str, **changes: Any) -> HubertExtractor:
    chosen = section(model, **changes)
    return HubertExtractor(chosen, HubertExtractor.resolve(chosen), "cpu")


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(samples)) / 10


WAVES = [noise(samples) for samples in (16_000, 100, 4_001)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hubert(tmp_path_factory.mktemp("hubert") / "tiny-base")


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own to damage."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


@pytest.fixture(autouse=True, scope="module")
def no_bars() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def full_states(folder: Path, wave: torch.Tensor, padding: int = 0) -> tuple[torch.Tensor, ...]:
    """All hidden states [frames, width] of a waveform by transformers' own loading and forward."""
    model = HubertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        padded = torch.nn.functional.pad(wave, (padding, padding))
        states = model(padded[None], output_hidden_states=True).hidden_states
    return tuple(state[0] for state in states)


@pytest.mark.parametrize("style", ["base", "mhubert25"])
@pytest.mark.parametrize("stable", [False, True])
def test_every_layer_is_the_hidden_state_of_the_full_model(
    style: Style, stable: bool, tmp_path: Path
) -> None:
    folder = make_hubert(tmp_path / "m", style=style, stable_layer_norm=stable, layers=3)
    expected = full_states(folder, WAVES[0], 40)
    for layer in (1, 2, 3):
        (found,) = load(folder, layer=layer, input_padding=40).features(WAVES[:1])
        torch.testing.assert_close(found, expected[layer], rtol=0, atol=1e-5)


@pytest.mark.parametrize("style", ["base", "mhubert25"])
@pytest.mark.parametrize("padding", [0, 40])
def test_frames_are_those_of_the_description(style: Style, padding: int, tmp_path: Path) -> None:
    chosen = section(make_hubert(tmp_path / "m", style=style), input_padding=padding)
    resolved = HubertExtractor.resolve(chosen)
    waves = [noise(samples) for samples in (0, 319, 320, 399, 400, 719, 720, 1_000, 9_999)]
    found = HubertExtractor(chosen, resolved, "cpu").features(waves)
    counts = [count_frames(len(wave), resolved["frames"]) for wave in waves]
    assert [tuple(states.shape) for states in found] == [(count, 32) for count in counts]
    assert counts[0] == 0
    assert resolved["frame_rate"] == (50.0 if style == "base" else 25.0)


def test_an_utterance_gives_the_same_bits_whatever_was_beside_it(base: Path) -> None:
    extractor = load(base)
    together = extractor.features(WAVES)
    alone = [load(base).features([wave])[0] for wave in WAVES]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_layers_above_are_not_loaded(base: Path) -> None:
    count = sum(p.numel() for p in load(base, layer=1)._model.parameters())
    assert count < sum(p.numel() for p in load(base, layer=4)._model.parameters())


# --- ways in which checkpoints are saved ----------------------------------------------------------


def as_ctc(folder: Path) -> None:
    """Fine-tuned: names with the prefix `hubert.`, and a head."""
    model = HubertForCTC.from_pretrained(folder)
    model.hubert.load_state_dict(HubertModel.from_pretrained(folder).state_dict())
    model.save_pretrained(folder)


def as_old_names(folder: Path) -> None:
    """Before torch's parametrizations: weight_g and weight_v."""
    weights = load_file(folder / "model.safetensors")
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = f"encoder.pos_conv_embed.conv.parametrizations.weight.{new}"
        weights[f"encoder.pos_conv_embed.conv.{old}"] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def as_torch(folder: Path) -> None:
    """Without safetensors, as hubert-base-ls960 is published."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder: Path) -> None:
    model = HubertModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def without_training_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["masked_spec_embed"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "saved_as", [as_ctc, as_old_names, as_torch, as_shards, without_training_weights]
)
def test_weights_are_found_however_the_checkpoint_was_saved(
    saved_as: Any, base: Path, copy: Path
) -> None:
    saved_as(copy)
    expected = full_states(base, WAVES[0])[2]
    torch.testing.assert_close(load(copy).features(WAVES[:1])[0], expected, rtol=0, atol=1e-5)


def test_a_half_precision_checkpoint_is_computed_in_float32(copy: Path) -> None:
    HubertModel.from_pretrained(copy).half().save_pretrained(copy)
    (found,) = load(copy).features(WAVES[:1])
    expected = HubertModel.from_pretrained(copy, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = expected(WAVES[0][None], output_hidden_states=True).hidden_states
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, states[2][0], rtol=0, atol=1e-5)


# --- what is wrong with a checkpoint --------------------------------------------------------------

POSITIONAL = "encoder.pos_conv_embed.conv.parametrizations.weight.original0"


@pytest.mark.parametrize(
    "lost", [POSITIONAL, "encoder.layers.1.attention.k_proj.bias", "feature_projection.layer_norm"]
)
def test_a_checkpoint_that_lacks_weights_is_refused(lost: str, copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(lost)}
    assert len(kept) < len(weights)
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnitcorpusError, match=f"weights are missing .* such as {lost}"):
        load(copy)


def test_weights_that_only_layers_above_need_may_be_missing(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "encoder.layers.3" not in name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    load(copy, layer=3)
    with pytest.raises(UnitcorpusError, match=r"such as encoder\.layers\.3"):
        load(copy, layer=4)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_weights_of_another_shape_than_the_config_are_refused(copy: Path) -> None:
    change_config(copy, intermediate_size=48)
    with pytest.raises(UnitcorpusError, match=r"another shape .* such as encoder\.layers\.0"):
        load(copy)


def test_batch_norm_is_not_taken_for_weight_norm(tmp_path: Path) -> None:
    folder = make_hubert(tmp_path / "m", style="mhubert25")
    change_config(folder, conv_pos_batch_norm=False)
    with pytest.raises(UnitcorpusError, match="weights are missing"):
        load(folder)


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def another_kind(folder: Path) -> None:
    Wav2Vec2Config().save_pretrained(folder)


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def uneven(folder: Path) -> None:
    change_config(folder, conv_kernel=[10, 3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "its weights cannot be loaded"),
        (no_weights, "there are no weights in it"),
        (another_kind, "is a wav2vec2 model; the extractor hubert needs"),
        (no_json, r"its config\.json is damaged"),
        (uneven, r"its config\.json is damaged"),
        (shutil.rmtree, r"there is no config\.json in it"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(damage: Any, message: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(UnitcorpusError, match=message) as caught:
        load(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_not_there_is_refused_with_how_many_there_are(base: Path) -> None:
    with pytest.raises(UnitcorpusError, match=r"units\.layer 5: .* has 4 layers; choose one of 1"):
        HubertExtractor.resolve(section(base, layer=5))


def test_a_model_that_is_not_in_the_cache_is_said_to_be_out_of_reach() -> None:
    with pytest.raises(
        UnitcorpusError, match=r"nobody/none .* cannot be had from the Hugging Face"
    ):
        HubertExtractor.resolve(section("nobody/none"))


# --- the description ------------------------------------------------------------------------------


def test_the_revision_of_a_folder_follows_its_content_and_not_its_place(
    base: Path, copy: Path
) -> None:
    first = HubertExtractor.resolve(section(base))
    assert first["model"] == "tiny-base"
    assert first["revision"].startswith("sha256:")
    moved = HubertExtractor.resolve(section(copy))
    assert moved == {**first, "model": "copy"}
    (copy / "README.md").write_text("not what decides features")
    assert HubertExtractor.resolve(section(copy)) == moved
    make_hubert(copy, seed=1)
    assert HubertExtractor.resolve(section(copy))["revision"] != first["revision"]


LOAD_FROM_HUB = """
import json, torch
from unitcorpus.recipe.models import HubertUnits
from unitcorpus.units.hubert import HubertExtractor
section = HubertUnits(model="someone/tiny", layer=2, codebook="demo")
resolved = HubertExtractor.resolve(section)
wave = torch.ones(4000) / 10
(states,) = HubertExtractor(section, resolved, "cpu").features([wave])
print(json.dumps([resolved["model"], resolved["revision"], states.double().sum().item()]))
"""


def test_a_cached_hub_model_is_known_by_its_commit_and_loads_without_a_word(
    base: Path, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(base, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_FROM_HUB], env=environment, capture_output=True, text=True
    )
    assert (done.stderr, done.returncode) == ("", 0)
    model, revision, total = json.loads(done.stdout)
    assert (model, revision) == ("someone/tiny", commit)
    (local,) = load(base).features([torch.ones(4_000) / 10])
    assert total == pytest.approx(local.double().sum().item())
