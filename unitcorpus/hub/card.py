"""The data set card, README.md of a corpus: enough for `datasets` to find the splits, and for a
person to know what the corpus is, how it was made, how to load it and what it is not good for.

Made from corpus.json and index.json alone, through card.md; every value is escaped there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from unitcorpus.hub.describe import (
    filter_in_words,
    source_in_words,
    speech_in_words,
    units_in_words,
)
from unitcorpus.hub.licences import HUB, ingredients
from unitcorpus.hub.markdown import Markdown, block, code, escape
from unitcorpus.shards.layout import LAYOUTS, Layout

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
"""The Hub's size categories, by what they lie below."""


def card(corpus: dict[str, Any], index: dict[str, Any]) -> str:
    """The card of a corpus, from the content of its corpus.json and index.json."""
    return f"---\n{_header(corpus, index)}---\n\n{_body(corpus)}"


def _header(corpus: dict[str, Any], index: dict[str, Any]) -> str:
    recipe = corpus["recipe"]
    files = [
        {"split": split, "path": path}
        for split in corpus["splits"]
        if (path := _files(split, index["shardlist"]))
    ]
    samples = sum(split["samples"] for split in corpus["splits"].values())
    header: dict[str, Any] = {
        "language": [recipe["language"]],
        "pretty_name": corpus["name"],
        "size_categories": [next((s for below, s in SIZES if samples < below), "1B<n<10B")],
        "tags": ["speech-units", "speech-language-model", "webdataset", "unitcorpus"],
        "configs": [{"config_name": "default", "data_files": files}],
        **_licence(recipe["licence"]),
    }
    return str(yaml.safe_dump(header, sort_keys=True, allow_unicode=True))


def _licence(said: str) -> dict[str, str]:
    """`license` as the Hub knows it, else `other` with a name."""
    if not said:
        return {}
    if said.lower() in HUB:
        return {"license": said.lower()}
    return {"license": "other", "license_name": said}


def _files(split: str, shards: list[dict[str, Any]]) -> str | list[str]:
    """A pattern for the shards of a split; their names where some hold no sample, since `datasets`
    cannot read those."""
    own = [shard for shard in shards if shard["url"].startswith(f"data/{split}-")]
    if all(shard["nsamples"] for shard in own):
        return f"data/{split}-*.tar"
    return [shard["url"] for shard in own if shard["nsamples"]]


def _body(corpus: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        finalize=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    recipe, layout = corpus["recipe"], LAYOUTS[corpus["layout"]["kind"]]
    first = next(iter(corpus["splits"]))
    return environment.get_template("card.md").render(
        corpus=corpus,
        recipe=recipe,
        layout=layout,
        first=Markdown(first),
        member=Markdown(layout.units(layout.parts[-1])),
        made=_made(corpus),
        filters={name: filter_in_words(r) for name, r in recipe["filters"].items() if r},
        reading=Markdown(", ".join(_reading(layout, corpus["units"]["durations"]))),
        limits=_limits(corpus),
        ingredients=ingredients(corpus),
        yaml=block(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), "yaml"),
    )


def _made(corpus: dict[str, Any]) -> list[tuple[str, str]]:
    """How a corpus was made, as (what, how): models with their revisions, digests, versions."""
    from unitcorpus import __version__

    units = corpus["units"]
    extractor = units["extractor"]
    made = [("source", source_in_words(corpus["recipe"])), ("speech", speech_in_words(corpus))]
    speech, known = corpus["speech"] or {}, ("engine", "version", "sample_rate")
    versions = [f"{k} {v}" for k, v in sorted(speech.items()) if k not in known]
    if versions:
        made.append(("versions", ", ".join(versions)))
    made.append(("units", units_in_words(units)))
    if extractor.get("revision"):
        made.append(("revision of the extractor", extractor["revision"]))
    if "codebook" in units:
        made.append(("sha256 of codebook.npy", units["codebook"]["sha256"]))
    runs = "with run lengths" if units["durations"] else "without run lengths"
    made.append(("repeats", f"collapsed, {runs}"))
    made.append(("unit spec", units["fingerprint"]))
    made.append(("plan", corpus["plan"]))
    made.append(("format", f"{corpus['format']}, by unitcorpus {__version__}"))
    return made


def _reading(layout: Layout, durations: bool) -> list[str]:
    """How a sample's parts are read."""
    if layout.plain:
        return ["sample.units", *(["sample.durations"] if durations else []), "sample.meta"]
    return [*(f'sample.part("{part}")' for part in layout.parts), "sample.meta"]


def _limits(corpus: dict[str, Any]) -> list[str]:
    """What the corpus is not good for, as far as its recipe tells."""
    recipe, units = corpus["recipe"], corpus["units"]
    limits = []
    if recipe["speech"] is not None:
        number = len(recipe["speech"]["voices"])
        limits.append(
            f"The speech is synthetic, in {number} voice{'s' if number > 1 else ''}: there is no "
            "noise, no spontaneous speech and little variety of prosody to learn from it."
        )
    if units["extractor"]["kind"] == "mfcc":
        limits.append("Units of MFCC features are for trying out, not for training a model.")
    if not units["durations"]:
        limits.append("Without run lengths, neither timing nor the length of speech can be told.")
    if recipe["dedup"]["near"] is None:
        exact = (
            "only equal rows were dropped" if recipe["dedup"]["exact"] else "nor were equal rows"
        )
        limits.append(f"Near-duplicates were not looked for; {exact}.")
    limits.append("Units mix only with those of the same unit spec.")
    return limits
