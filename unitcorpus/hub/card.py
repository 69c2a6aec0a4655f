"""The data set card, README.md of a corpus: enough for `datasets` to find the splits, and for a
person to know what the corpus is and how to load it. Made from corpus.json
and index.json alone."""

from __future__ import annotations

from typing import Any

import yaml

from unitcorpus.shards.layout import LAYOUTS, Layout


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
    header: dict[str, Any] = {
        "language": [recipe["language"]],
        "tags": ["speech units", "speech language model", "webdataset", "unitcorpus"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    if recipe["licence"]:
        header["license"] = recipe["licence"]
    return str(yaml.safe_dump(header, sort_keys=True, allow_unicode=True))


def _files(split: str, shards: list[dict[str, Any]]) -> str | list[str]:
    """A pattern for the shards of a split; their names where some hold no sample, since `datasets`
    cannot read those."""
    own = [shard for shard in shards if shard["url"].startswith(f"data/{split}-")]
    if all(shard["nsamples"] for shard in own):
        return f"data/{split}-*.tar"
    return [shard["url"] for shard in own if shard["nsamples"]]


def _body(corpus: dict[str, Any]) -> str:
    recipe, units = corpus["recipe"], corpus["units"]
    rows = "\n".join(_split_row(name, split) for name, split in corpus["splits"].items())
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in corpus["rejected"].items()) or "none"
    runs = "with run lengths, so that nothing is lost" if units["durations"] else "no run lengths"
    layout = LAYOUTS[corpus["layout"]["kind"]]
    return f"""# {corpus["name"]}

{recipe["description"]}

| split | {layout.noun} | hours | units | shards |
|---|---:|---:|---:|---:|
{rows}

- Units: {_units(units)}; repeats collapsed, {runs}.
- Speech: {_speech(corpus)}
{_filters(recipe)}- Rows left out: {dropped}.
- Unit spec `{units["fingerprint"][:16]}`; mix only with corpora of the same one.

Each sample is {_members(layout, units["durations"])} and `KEY.json`.

```python
import unitcorpus
for sample in unitcorpus.open("."):              # or "hf://datasets/user/name"
    {", ".join(_reading(layout))}

from datasets import load_dataset
data = load_dataset(".")                         # or "user/name"
```
"""


def _members(layout: Layout, durations: bool) -> str:
    """The arrays of a sample."""
    units = ", ".join(f"`KEY.{layout.units(part)}`" for part in layout.parts)
    runs = ", ".join(f"`KEY.{layout.durations(part)}`" for part in layout.parts)
    return f"{units} (uint16)" + (f", {runs} (uint32, in frames)" if durations else "")


def _filters(recipe: dict[str, Any]) -> str:
    """What pairs were filtered by, one line each."""
    lines = []
    for name, rule in recipe["filters"].items():
        if rule is not None:
            said = ", ".join(f"{key} {value}" for key, value in rule.items() if value is not None)
            lines.append(f"- Filter `{name}`: {said}.\n")
    return "".join(lines)


def _reading(layout: Layout) -> list[str]:
    """How a sample's parts are read."""
    if layout.plain:
        return ["sample.units", "sample.durations", 'sample.meta["text"]']
    last = layout.parts[-1]
    return [*(f'sample.part("{part}")' for part in layout.parts), f'sample.meta["{last}_text"]']


def _split_row(name: str, split: dict[str, Any]) -> str:
    hours = f"{split['seconds'] / 3600:,.2f}" if split["seconds"] else "?"
    return f"| {name} | {split['samples']:,} | {hours} | {split['units']:,} | {split['shards']:,} |"


def _units(units: dict[str, Any]) -> str:
    extractor = units["extractor"]
    what = extractor.get("model") or extractor.get("name") or extractor["kind"]
    layer = f" layer {extractor['layer']}" if "layer" in extractor else ""
    return f"{what}{layer}, {units['size']} clusters, {units['frame_rate']:g} frames a second"


def _speech(corpus: dict[str, Any]) -> str:
    speech = corpus["recipe"]["speech"]
    if speech is None and corpus["speech"] is not None:
        return "recordings, as the source has them."
    if speech is None:
        return "not made here; the units were published."
    model = f" ({speech['model']})" if "model" in speech else ""
    return f"{speech['engine']}{model}, voices {', '.join(speech['voices'])}."
