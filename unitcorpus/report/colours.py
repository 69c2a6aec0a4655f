"""A colour for every unit: units whose centroids lie close together look alike.

The centroids' first two principal components give the hue, the third the lightness, each by rank,
so that all of the range is used whatever the scale of the features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHROMA = 0.085
LIGHTNESS = (0.55, 0.82)
"""In OKLCH: seen well on white and on near black."""

GOLDEN = 0.6180339887498949


def palette(size: int, centroids: NDArray[np.float32] | None) -> list[str]:
    """`size` colours as "rrggbb". Without `centroids` [size, width], neighbouring numbers differ
    most: then colours mean nothing but the same unit."""
    if centroids is not None and centroids.shape[1] >= 3:
        centred = centroids.astype(np.float64) - centroids.mean(0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
        first, second, third = _signed(axes) @ centred.T
        hue: NDArray[np.floating[Any]] = _rank(np.arctan2(second, first))
        light: NDArray[np.floating[Any]] = _rank(third)
    else:
        hue, light = (np.arange(size) * GOLDEN) % 1, (np.arange(size) * GOLDEN**2) % 1
    lightness = LIGHTNESS[0] + light * (LIGHTNESS[1] - LIGHTNESS[0])
    rgb = _from_oklch(lightness, CHROMA, 2 * np.pi * hue)
    return [f"{r:02x}{g:02x}{b:02x}" for r, g, b in rgb.tolist()]


def _signed(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The axes with their largest entry positive: an SVD leaves the sign open."""
    largest = np.abs(axes).argmax(1)
    signs = np.sign(axes[np.arange(len(axes)), largest])
    return np.asarray(axes * signs[:, None])


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, scaled to [0, 1)."""
    return np.asarray(values.argsort(kind="stable").argsort() / len(values))


def _from_oklch(
    lightness: NDArray[np.floating[Any]], chroma: float, hue: NDArray[np.floating[Any]]
) -> NDArray[np.uint8]:
    """sRGB [n, 3] of OKLCH colours (B. Ottosson, "A perceptual color space for image processing",
    2020), clipped to what a screen shows."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    roots = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ roots**3, 0, 1).T
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * curve), np.uint8)
