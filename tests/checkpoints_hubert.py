"""Small checkpoints with random weights in the real file layout, written by the real libraries."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


def make_hubert(
    folder: Path,
    *,
    style: Literal["base", "mhubert25"] = "base",
    layers: int = 4,
    hidden: int = 32,
    stable_layer_norm: bool = False,
    seed: int = 0,
) -> Path:
    """A HuBERT as `save_pretrained` writes it; returns the folder.

    Convolutions are those of hubert-base (50 Hz), or with one more of stride 2 and batch norm
    before the positional convolution, as the 25 Hz mHuBERT has them.
    """
    import torch
    from transformers import HubertModel

    torch.manual_seed(seed)
    model = HubertModel(_config(style, layers, hidden, stable_layer_norm)).eval()
    _spread(model)
    model.save_pretrained(folder)
    return folder


def make_full_size(
    folder: Path, style: Literal["base", "mhubert25"], layers: int, seed: int = 0
) -> Path:
    """The same in the width of hubert-base, or of the 25 Hz mHuBERT."""
    import torch
    from transformers import HubertConfig, HubertModel

    extra = 1 if style == "mhubert25" else 0
    torch.manual_seed(seed)
    config = HubertConfig(
        num_hidden_layers=layers,
        conv_dim=(512,) * (7 + extra),
        conv_kernel=(10, 3, 3, 3, 3, 2, 2) + (2,) * extra,
        conv_stride=(5, 2, 2, 2, 2, 2, 2) + (2,) * extra,
        conv_pos_batch_norm=bool(extra),
    )
    model = HubertModel(config).eval()
    _spread(model)
    model.save_pretrained(folder)
    return folder


def _spread(model: Any) -> None:
    """Values of their own for what a fresh model has at 0 or 1."""
    import torch

    for name, value in model.named_parameters():
        if value.ndim == 1 or "pos_conv_embed" in name:
            # Fresh norms are all 1 and biases 0: give each its own values, so that none can be
            # mixed up, left out or initialised anew without a difference.
            torch.nn.init.normal_(value, 0.5, 0.2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)


def _config(style: str, layers: int, hidden: int, stable_layer_norm: bool) -> Any:
    from transformers import HubertConfig

    extra = 1 if style == "mhubert25" else 0
    return HubertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        conv_dim=(16,) * (7 + extra),
        conv_kernel=(10, 3, 3, 3, 3, 2, 2) + (2,) * extra,
        conv_stride=(5, 2, 2, 2, 2, 2, 2) + (2,) * extra,
        conv_pos_batch_norm=style == "mhubert25",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=stable_layer_norm,
        feat_extract_norm="layer" if stable_layer_norm else "group",
        conv_bias=stable_layer_norm,
    )


def make_kmeans_pickle(
    path: Path, centroids: NDArray[Any], how: Literal["pickle", "joblib"] = "pickle"
) -> Path:
    """A fitted scikit-learn MiniBatchKMeans with these centroids, as published codebooks are."""
    import joblib
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(len(centroids), init=centroids, n_init=1, random_state=0)
    model.fit(np.repeat(centroids, 2, axis=0))
    model.cluster_centers_ = centroids
    if how == "joblib":
        joblib.dump(model, path)
    else:
        path.write_bytes(pickle.dumps(model))
    return path
