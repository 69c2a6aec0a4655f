"""What a mixture holds: of corpora that are built what they say, of others what their recipes say.

    found = survey(load_mixture("mixtures/libri"))
    found.epoch, found.unique_in(1.4e9)

Nothing is written. A recipe that states what to expect (`expected`) is believed; rows of another
are built in a temporary folder and forgotten, as by `unitcorpus plan RECIPE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unitcorpus.build.estimate import TAR_BYTES, estimate
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import Recipe, list_recipes, load_recipe
from unitcorpus.recipe.mixture import Mixture
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

ENDS = 2
"""Tokens of a sample beside its units: BOS and EOS."""


@dataclass(frozen=True)
class Holding:
    """One corpus of a mixture: `tokens` of its training split, `times` a sample is seen in an epoch
    of the mixture. `known` says where from. `gpu_hours` to build it, where its recipe states what
    to expect; `work_hours` on one worker of this machine, where rows were measured."""

    name: str
    known: Literal["built", "expected", "measured"]
    hours: float
    tokens: int
    bytes: int
    units: str
    times: float = 1.0
    gpu_hours: float = 0.0
    work_hours: float = 0.0

    @property
    def seen(self) -> int:
        """Tokens in an epoch of the mixture."""
        return round(self.times * self.tokens)

    def epochs(self, epochs: float) -> float:
        """How often its samples are seen in so many epochs of the mixture."""
        return self.times * epochs


@dataclass(frozen=True)
class Survey:
    """All corpora of a mixture, in its order."""

    holdings: list[Holding]

    @property
    def epoch(self) -> int:
        """Tokens of an epoch."""
        return sum(one.seen for one in self.holdings)

    def unique_in(self, tokens: float) -> int:
        """How many of the first so many tokens are different ones: none is seen a second time
        before all of its corpus were seen once."""
        epochs = tokens / self.epoch
        return round(sum(min(1.0, one.epochs(epochs)) * one.tokens for one in self.holdings))


def survey(
    mixture: Mixture,
    rows: int = 8,
    device: str = "cpu",
    tick: Callable[[str, int], None] = lambda *_: None,
) -> Survey:
    """What each corpus holds. Raises UnitcorpusError: a corpus that is neither built nor has a
    recipe, one without a training split, other units than the first's, the same corpus twice."""
    found: list[Holding] = []
    opened: dict[str, Any] = {}
    for name in mixture.corpora:
        corpus = _built(mixture, name)
        if corpus is None:
            found.append(_unbuilt(mixture, name, rows, device, tick))
            opened[name] = load_recipe(_recipe_name(mixture, name)).public()["units"]
        else:
            found.append(_holding(name, corpus))
            opened[name] = corpus
    _check_units(opened)
    _check_twice({name: one for name, one in opened.items() if isinstance(one, Corpus)})
    times = mixture.repeats({one.name: one.tokens for one in found})
    return Survey([Holding(**{**vars(one), "times": times[one.name]}) for one in found])


def _built(mixture: Mixture, name: str) -> Corpus | None:
    """The finished corpus, or None where there is none here yet but a recipe."""
    location = mixture.location(name)
    there = "://" in location or (Path(location).expanduser() / "corpus.json").is_file()
    if there:
        return open_corpus(location)
    _recipe_name(mixture, name)
    return None


def _recipe_name(mixture: Mixture, name: str) -> str:
    recipe = mixture.corpora[name].recipe
    if recipe is not None or name in list_recipes(Recipe):
        return recipe or name
    raise UnitcorpusError(
        f"corpora.{name}: {mixture.location(name)} is no finished corpus, and no recipe is called "
        f"'{name}'; build it, or say in corpora.{name}.recipe what it will be"
    )


def _holding(name: str, corpus: Corpus) -> Holding:
    if not corpus.layout.plain:
        raise UnitcorpusError(
            f"corpora.{name} holds {corpus.layout.kind}; a mixture is of corpora of utterances"
        )
    if SPLIT not in corpus.splits:
        raise UnitcorpusError(
            f"corpora.{name} has no split '{SPLIT}', only {', '.join(corpus.splits)}"
        )
    totals = corpus.info["splits"][SPLIT]
    tokens = totals["units"] + ENDS * totals["samples"]
    units = _units_in_words(corpus.info["recipe"]["units"])
    return Holding(name, "built", totals["seconds"] / 3600, tokens, totals["bytes"], units)


def _unbuilt(
    mixture: Mixture, name: str, rows: int, device: str, tick: Callable[[str, int], None]
) -> Holding:
    recipe = load_recipe(_recipe_name(mixture, name))
    if recipe.layout != "utterances":
        raise UnitcorpusError(
            f"corpora.{name}: its recipe makes {recipe.layout}; a mixture is of utterances"
        )
    units = _units_in_words(recipe.public()["units"])
    if recipe.expected is not None:
        hours, tokens = recipe.expected.hours, recipe.expected.tokens
        size = BYTES * tokens + hours * 3600 / PER_SAMPLE * TAR_BYTES
        gpu = hours / HEARD + (hours / SPOKEN if recipe.speech else 0)
        return Holding(name, "expected", hours, tokens, round(size), units, gpu_hours=gpu)
    try:
        made = estimate(recipe, rows, device, tick)
    except UnitcorpusError as error:
        raise UnitcorpusError(f"corpora.{name} is not built yet: {error}") from error
    if not (trained := made.splits.get(SPLIT, 0)):
        raise UnitcorpusError(f"corpora.{name}: its recipe gives no split '{SPLIT}'")
    share = trained / made.plan.rows
    return Holding(
        name,
        "measured",
        share * made.hours,
        round(share * made.units) + ENDS * trained,
        round(share * made.bytes),
        units,
        work_hours=made.work_hours,
    )


def _check_units(opened: dict[str, Any]) -> None:
    """Of built corpora the specs have to be the same, of others what their recipes ask for."""
    (first, one), *others = opened.items()
    for name, other in others:
        if isinstance(one, Corpus) and isinstance(other, Corpus):
            same = one.unit_spec["fingerprint"] == other.unit_spec["fingerprint"]
        else:
            same = _section(one) == _section(other)
        if not same:
            raise UnitcorpusError(
                f"the units of {first} ({_units_in_words(_section(one))}) are not those of {name} "
                f"({_units_in_words(_section(other))}): a mixture is of one kind of units"
            )


def _check_twice(corpora: dict[str, Corpus]) -> None:
    seen: dict[str, str] = {}
    for name, corpus in corpora.items():
        before = seen.setdefault(fingerprint(corpus.info), name)
        if before != name:
            raise UnitcorpusError(f"corpora {before} and {name} are the same corpus")


def _section(of: Any) -> dict[str, Any]:
    """The `units` section of the recipe of a corpus, or that section itself."""
    section: dict[str, Any] = of.info["recipe"]["units"] if isinstance(of, Corpus) else of
    return section


def _units_in_words(section: dict[str, Any]) -> str:
    """`hubert slprl/mhubert-base-25hz layer 11, codebook …km500.bin`."""
    what = [section["extractor"], section.get("model") or section.get("name") or ""]
    layer = [f"layer {section['layer']}"] if "layer" in section else []
    book = section.get("codebook") or f"{section.get('size')} units"
    named = " ".join(filter(None, [*what, *layer]))
    return f"{named}, codebook {Path(str(book)).name}" if "codebook" in section else named
