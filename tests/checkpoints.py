"""Checkpoints with random weights, in the layout of the published ones.

The same seed gives the same weights. `small` keeps every code path and shrinks what can be shrunk:
kokoro's decoder has its widths written into the code.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch

KOKORO_VOICES = ("af_heart", "am_fenrir", "bf_emma", "bm_george", "ef_dora")

# Kokoro-82M's symbols, by the id of the first of each run.
_SYMBOLS = {
    1: ";:,.!?",
    9: '—…"()“” \u0303ʣʥʦʨᵝꭧAI',
    31: "O",
    33: "Q",
    35: "ST",
    39: "W",
    41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ",
    75: "βɔɕç",
    80: "ɖðʤə",
    85: "ɚɛɜ",
    90: "ɟ",
    92: "ɡ",
    99: "ɥ",
    101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø",
    118: "ɸθœ",
    123: "ɹ",
    125: "ɾɻ",
    128: "ʁɽʂʃʈʧ",
    135: "ʊʋ",
    138: "ʌɣɤ",
    142: "χʎ",
    147: "ʒʔ",
    156: "ˈˌː",
    162: "ʰ",
    164: "ʲ",
    169: "↓",
    171: "→↗↘",
    177: "ᵻ",
}
KOKORO_VOCABULARY = {
    symbol: first + i for first, run in _SYMBOLS.items() for i, symbol in enumerate(run)
}


def kokoro_config(small: bool) -> dict[str, Any]:
    """The config.json of Kokoro-82M, or of a small model like it: a frame is 600 samples in both,
    but the small one takes more of them from the inverse STFT and fewer from upsampling."""
    return {
        "istftnet": {
            "upsample_kernel_sizes": [4, 4] if small else [20, 12],
            "upsample_rates": [2, 2] if small else [10, 6],
            "gen_istft_hop_size": 75 if small else 5,
            "gen_istft_n_fft": 300 if small else 20,
            "resblock_dilation_sizes": [[1, 3, 5]] * (1 if small else 3),
            "resblock_kernel_sizes": [3] if small else [3, 7, 11],
            "upsample_initial_channel": 512,
        },
        "dim_in": 64,
        "dropout": 0.2,
        "hidden_dim": 512,
        "max_conv_dim": 512,
        "max_dur": 50,
        "multispeaker": True,
        "n_layer": 1 if small else 3,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": 128,
        "text_encoder_kernel_size": 5,
        "plbert": {
            "hidden_size": 64 if small else 768,
            "num_attention_heads": 4 if small else 12,
            "intermediate_size": 128 if small else 2048,
            "max_position_embeddings": 512,
            "num_hidden_layers": 2 if small else 12,
            "dropout": 0.1,
        },
        "vocab": KOKORO_VOCABULARY,
    }


def make_kokoro(folder: Path, seed: int = 0, small: bool = True) -> Path:
    """A Kokoro checkpoint in `folder`: config.json, kokoro-v1_0.pth and voices/*.pt.

    As in the published file, each part's parameters carry the prefix "module.", and the instance
    norms have none. Phonemes last some 2 frames (50 ms), and the sound stays within [-1, 1].
    """
    config = kokoro_config(small)
    (folder / "voices").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _random_kokoro(config)
        for voice in KOKORO_VOICES:
            styles = 0.3 * torch.randn(1, 1, 256) + 0.03 * torch.randn(510, 1, 256)
            torch.save(styles, folder / "voices" / f"{voice}.pt")
    weights = {
        part: {
            f"module.{name}": value
            for name, value in module.state_dict().items()
            if not name.endswith(("norm.weight", "norm.bias")) or part == "bert"
        }
        for part, module in model.named_children()
    }
    torch.save(weights, folder / "kokoro-v1_0.pth")
    return folder


def _random_kokoro(config: dict[str, Any]) -> Any:
    from kokoro import KModel

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KModel(repo_id="random", config=config, model=nothing)
    generator = model.decoder.generator
    bands = generator.post_n_fft // 2 + 1
    duration = model.predictor.duration_proj.linear_layer
    with torch.no_grad():
        # Frames of a phoneme: 50 sigmoids, summed. What they share is what varies.
        duration.bias.fill_(math.log(2 / 48))
        duration.weight += 0.1 * torch.randn(1, duration.in_features)
        model.predictor.F0_proj.bias.fill_(150.0)  # Hz
        model.predictor.F0_proj.weight *= 100
        generator.conv_post.bias[:bands].fill_(-0.5 if bands > 11 else -1.2)  # log magnitudes
    return model


def make_hub_cache(cache: Path, repo: str, folder: Path, revision: str = "0" * 40) -> Path:
    """`folder` as the snapshot `revision` of `repo` in a Hugging Face cache; returns the snapshot.

    huggingface_hub finds it without a network where HF_HUB_CACHE was `cache` when it was imported.
    """
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(revision)
    snapshot = root / "snapshots" / revision
    for file in (path for path in folder.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    return snapshot
