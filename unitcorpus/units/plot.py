"""How often the clusters of a codebook are used, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unitcorpus.shards.writer import write_atomic


def plot_usage(path: Path, usage: NDArray[np.int64], title: str) -> None:
    """Writes a PNG: the share of frames of each cluster, most used first, beside that of clusters
    used alike. The same usage gives the same bytes."""
    from io import BytesIO

    from matplotlib.figure import Figure

    shares = np.sort(usage)[::-1] / usage.sum()
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.stairs(shares * 100, fill=True, label="frames")
    axes.axhline(100 / len(shares), color="black", linewidth=1, linestyle="--", label="used alike")
    axes.set(xlim=(0, len(shares)), ylim=(0, None), title=title)
    axes.set(xlabel="clusters, most used first", ylabel="frames, %")
    axes.legend(frameon=False)
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    write_atomic(path, stream.getvalue())
