"""What a mixture holds: of corpora that are built what they say, of others what their recipes say.

    found = survey(load_mixture("mixtures/libri"))
    found.epoch, found.unique_in(1.4e9)

Nothing is written. A recipe that states what to expect (`expected`) is believed; rows of another
are built in a temporary folder and forgotten, as by `unitcorpus plan RECIPE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unitcorpus.build.estimate import TAR_BYTES, estimate
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import Recipe, list_recipes, load_recipe
from unitcorpus.recipe.mixture import Ingredient, Mixture
from unitcorpus.shards.format import fingerprint
from unitcorpus.shards.reader import Corpus, open_corpus

SPLIT = "train"

SPOKEN = 123.0
"""Hours of speech an hour of one GPU, by Kokoro in batches: reported of an RTX 3090 (30,000 hours
in 244 GPU-hours), not measured here."""

HEARD = 750.0
"""Hours of speech an hour of one GPU, to HuBERT units: computed, 9 GFLOP a second of speech (the
convolutions 4.9, eleven layers at 25 Hz 3.9) at a quarter of an A5000's 27.8 TFLOP/s."""

PER_SAMPLE = 15.0
"""Seconds of a sample, where nothing is known of it."""

BYTES = 6
"""Of a unit and its run length."""


@dataclass(frozen=True)
class Holding:
    """The training split of one corpus: `tokens` that are learnt, which are its units and one end a
    sample; `times` a sample is seen in an epoch of the mixture. `known` says where from.
    `gpu_hours` to build it, where its recipe states what to expect; `work_hours` on one worker of
    this machine, where rows were measured."""

    name: str
    known: Literal["built", "expected", "measured"]
    hours: float
    tokens: int
    bytes: int
    times: float = 1.0
    gpu_hours: float = 0.0
    work_hours: float = 0.0

    @property
    def seen(self) -> int:
        """Tokens in an epoch of the mixture."""
        return round(self.times * self.tokens)


@dataclass(frozen=True)
class Survey:
    """All corpora of a mixture, in its order, and their units in words."""

    holdings: list[Holding]
    units: str

    @property
    def epoch(self) -> int:
        """Tokens of an epoch."""
        return sum(one.seen for one in self.holdings)

    def unique_in(self, tokens: float) -> int:
        """How many of the first so many tokens are different ones: none is seen a second time
        before all of its corpus were seen once."""
        epochs = tokens / self.epoch
        return round(sum(min(1.0, one.times * epochs) * one.tokens for one in self.holdings))


def survey(
    mixture: Mixture,
    rows: int = 8,
    device: str = "cpu",
    tick: Callable[[str, int], None] = lambda *_: None,
) -> Survey:
    """What each corpus holds. Raises UnitcorpusError: a corpus that is neither built nor has a
    recipe, one without a training split, other units than the first's, the same corpus twice."""
    opened = [_open(one) for one in mixture.corpora]
    _check_units(mixture, opened)
    _check_twice(mixture, opened)
    found = [
        _holding(one, of) if isinstance(of, Corpus) else _expected(one, of, rows, device, tick)
        for one, of in zip(mixture.corpora, opened, strict=True)
    ]
    times = mixture.repeats([one.tokens for one in found])
    mixed = [replace(one, times=n) for one, n in zip(found, times, strict=True)]
    return Survey(mixed, units_of(opened[0], codebook=False))


def _open(one: Ingredient) -> Corpus | Recipe:
    """The finished corpus, or the recipe that stands for it."""
    if "://" in one.path or (Path(one.path).expanduser() / "corpus.json").is_file():
        return open_corpus(one.path)
    if one.recipe is None and one.name not in list_recipes(Recipe):
        raise UnitcorpusError(
            f"{one.path} is no finished corpus, and no recipe is called '{one.name}'; build it, or "
            "name in `recipe` what it will be"
        )
    return load_recipe(one.recipe or one.name)


def _holding(one: Ingredient, corpus: Corpus) -> Holding:
    if not corpus.layout.plain:
        raise UnitcorpusError(f"{one.path} holds {corpus.layout.kind}; a mixture is of utterances")
    if SPLIT not in corpus.splits:
        raise UnitcorpusError(f"{one.path} has no split '{SPLIT}', only {', '.join(corpus.splits)}")
    totals = corpus.info["splits"][SPLIT]
    tokens = totals["units"] + totals["samples"]
    return Holding(one.name, "built", totals["seconds"] / 3600, tokens, totals["bytes"])


def _expected(
    one: Ingredient,
    recipe: Recipe,
    rows: int,
    device: str,
    tick: Callable[[str, int], None],
) -> Holding:
    if recipe.layout != "utterances":
        raise UnitcorpusError(f"{one.path}: its recipe makes {recipe.layout}, not utterances")
    if recipe.expected is not None:
        hours, tokens = recipe.expected.hours, recipe.expected.tokens
        size = BYTES * tokens + hours * 3600 / PER_SAMPLE * TAR_BYTES
        gpu = hours / HEARD + (hours / SPOKEN if recipe.speech else 0)
        return Holding(one.name, "expected", hours, tokens, round(size), gpu_hours=gpu)
    try:
        made = estimate(recipe, rows, device, tick)
    except UnitcorpusError as error:
        raise UnitcorpusError(f"{one.path} is not built yet, and {error}") from error
    if not (trained := made.splits.get(SPLIT, 0)):
        raise UnitcorpusError(f"{one.path}: its recipe gives no split '{SPLIT}'")
    share = trained / made.plan.rows
    tokens = round(share * made.units) + trained
    size = round(share * made.bytes)
    work = made.work_hours
    return Holding(one.name, "measured", share * made.hours, tokens, size, work_hours=work)


def _check_units(mixture: Mixture, opened: list[Corpus | Recipe]) -> None:
    """Of built corpora the specs have to be the same, of others what their recipes ask for."""
    first = opened[0]
    for one, other in zip(mixture.corpora, opened, strict=True):
        if isinstance(first, Corpus) and isinstance(other, Corpus):
            same = first.unit_spec["fingerprint"] == other.unit_spec["fingerprint"]
        else:
            same = _section(first) == _section(other)
        if not same:
            raise UnitcorpusError(
                f"the units of {mixture.corpora[0].path} ({units_of(first)}) are not those of "
                f"{one.path} ({units_of(other)}): a mixture is of one kind of units"
            )


def _check_twice(mixture: Mixture, opened: list[Corpus | Recipe]) -> None:
    """Copies of one corpus are the same one."""
    seen: dict[str, str] = {}
    for one, corpus in zip(mixture.corpora, opened, strict=True):
        if isinstance(corpus, Corpus):
            if before := seen.get(content := fingerprint(corpus.info)):
                raise UnitcorpusError(f"{before} and {one.path} hold the same corpus")
            seen[content] = one.path


def _section(of: Corpus | Recipe) -> dict[str, Any]:
    """The `units` section of the recipe."""
    recipe = of.info["recipe"] if isinstance(of, Corpus) else of.public()
    return dict(recipe["units"])


def units_of(of: Corpus | Recipe, codebook: bool = True) -> str:
    """`hubert slprl/mhubert-base-25hz layer 11, codebook …km500.bin`: the units, in words."""
    section = _section(of)
    what = [section["extractor"], section.get("model") or section.get("name") or ""]
    layer = [f"layer {section['layer']}"] if "layer" in section else []
    file = section.get("codebook") if codebook else None
    book = [f"codebook {Path(file).name}"] if file else []
    spec = [f"spec {of.unit_spec['fingerprint'][:8]}"] if isinstance(of, Corpus) else []
    return ", ".join([" ".join(filter(None, [*what, *layer])), *book, *spec])
