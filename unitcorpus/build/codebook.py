"""Fitting a codebook on the features of a recipe's own speech.

The utterances are taken in the corpus's order, which is a hash of (seed, id), until there are
enough frames: the same recipe gives the same codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.rows import Candidate, prepare, texts_of
from unitcorpus.build.spool import Spool
from unitcorpus.build.stages import set_numerics
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.seeds import pick, seed_of
from unitcorpus.shards.layout import LAYOUTS
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow
from unitcorpus.speech import ENGINES
from unitcorpus.speech.base import Utterance
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import save_codebook
from unitcorpus.units.kmeans import fit
from unitcorpus.units.resample import resample


@dataclass(frozen=True)
class Fitted:
    """A codebook that was fitted and written. `inertia` is the mean squared distance of a frame."""

    sha256: str
    width: int
    frames: int
    utterances: int
    inertia: float


def fit_codebook(recipe: Recipe, clusters: int, frames: int, device: str, out: Path) -> Fitted:
    """Speaks the recipe's texts, extracts up to `frames` frames, fits, and writes `out`.

    Raises UnitcorpusError where the recipe makes no features or gives too few of them.
    """
    if out.is_dir():
        raise UnitcorpusError(f"{out} is a folder; give the name of a .npy file with --out")
    features, utterances = collect_features(recipe, frames, device)
    centroids, inertia = fit(features, clusters, seed=recipe.seed, threads=recipe.compute.threads)
    book = save_codebook(out, centroids)
    return Fitted(book.sha256, features.shape[1], len(features), utterances, inertia)


def collect_features(recipe: Recipe, frames: int, device: str) -> tuple[NDArray[np.float32], int]:
    """(features [n, width], utterances they came from) with n at most `frames`."""
    if recipe.speech is None:
        raise UnitcorpusError(f"recipe {recipe.name} speaks no texts: there is nothing to fit on")
    set_numerics(recipe.compute.threads)
    engine = ENGINES[recipe.speech.engine](
        recipe.speech, ENGINES[recipe.speech.engine].resolve(recipe.speech), device
    )
    extractor_class = EXTRACTORS[recipe.units.extractor]
    extractor = extractor_class(recipe.units, extractor_class.resolve(recipe.units), device)
    found: list[NDArray[np.float32]] = []
    count = 0
    try:
        for name, text in _texts(recipe):
            voice = pick(recipe.seed, recipe.speech.voices, "voice", name)
            seed = seed_of(recipe.seed, "speech", name)
            wave = engine.synthesize([Utterance(name, text, voice, seed)])[0]
            if isinstance(wave, Reject):
                continue
            wave = resample(wave, engine.sample_rate, extractor.sample_rate)
            found.append(extractor.features([wave])[0].cpu().numpy())
            count += len(found[-1])
            if count >= frames:
                break
    finally:
        engine.close()
    if not found:
        raise UnitcorpusError("no text of the source gave any speech: there is nothing to fit on")
    return np.concatenate(found)[:frames], len(found)


def _texts(recipe: Recipe) -> list[tuple[str, str]]:
    """(id, text) of the usable rows in the corpus's order."""
    with TemporaryDirectory(prefix="unitcorpus-fit-") as folder:
        spool = Spool(Path(folder) / "rows", recipe.seed)
        for row in open_source(recipe.source, recipe.seed).rows():
            candidate = None if isinstance(row, BadRow) else prepare(row, recipe, True)
            if isinstance(candidate, Candidate):
                spool.add(candidate)
        spool.freeze()
        rows = [spool.read(int(row)) for row in np.argsort(spool.order, kind="stable")]
    return [(name, texts_of(payload, LAYOUTS[recipe.layout])) for name, payload in rows]
