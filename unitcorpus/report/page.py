"""The page itself: what was measured, put into words and plots, in one HTML file.

The file asks for nothing: styles, script, units and audio are inside, and its content security
policy forbids the rest. Every text of the corpus goes through jinja2's escaping; the script gets
its data from a JSON block, never from markup.

    write_report(Path("corpora/demo"), Path("corpora/demo/report.html"))
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from unitcorpus.build.meter import duration
from unitcorpus.hub.describe import (
    filter_in_words,
    source_in_words,
    speech_in_words,
    units_in_words,
)
from unitcorpus.report.audio import CLIP_SECONDS, Audio, embed
from unitcorpus.report.colours import palette
from unitcorpus.report.figures import Figure, histogram, run_lengths, usage
from unitcorpus.report.rejects import reasons
from unitcorpus.report.samples import Shown, choose
from unitcorpus.report.stats import Statistics, measure
from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.layout import PAIRS
from unitcorpus.shards.mirror import files_of
from unitcorpus.shards.reader import Corpus, open_corpus
from unitcorpus.shards.receipt import read_receipt
from unitcorpus.shards.writer import write_atomic

HERE = Path(__file__).parent

STRIP_SECONDS = 120.0
"""Units are drawn up to here."""

Tick = Callable[[str, int], None]


@dataclass(frozen=True)
class Written:
    """What `write_report` wrote: `size` in bytes, and what the page says of its audio."""

    samples: int
    clips: int
    size: int
    note: str


def write_report(
    where: Path | str, out: Path, *, audio: bool = True, tick: Tick = lambda *_: None
) -> Written:
    """Writes the page of the corpus in `where`, a folder or URL, to `out`, whole or not at all.

    Raises UnitcorpusError where there is no finished corpus, DamagedError where one is damaged.
    """
    corpus = open_corpus(where)
    statistics = measure(corpus, tick)
    shown = choose(corpus, statistics)
    tick("making the audio of samples", len(shown))
    with files_of(where) as files:
        found = embed(corpus, files, [s.sample for s in shown]) if audio else Audio()
        page = render(corpus, files.root, statistics, shown, found)
    write_atomic(out, page.encode("utf-8", "replace"))
    return Written(len(shown), len(found.clips), len(page.encode("utf-8", "replace")), found.note)


def render(
    corpus: Corpus, root: Path, statistics: Statistics, shown: list[Shown], audio: Audio
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=lambda n: f"{n:,}", duration=duration, size=_size)
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    colours = palette(int(corpus.unit_spec["size"]), _centroids(root))
    return environment.get_template("page.html").render(
        info=corpus.info,
        layout=corpus.layout,
        statistics=statistics,
        style=style,
        script=script,
        policy=_policy(style, script),
        facts=_facts(corpus, root),
        figures=_figures(corpus, statistics, colours),
        voices=_voices(statistics),
        reasons=reasons(root, corpus.info["rejected"]),
        filters=_filters(corpus),
        cards=[_card(corpus, s, audio) for s in shown],
        data=_data(corpus, shown, colours, audio),
        note=audio.note,
        clip_seconds=CLIP_SECONDS,
        strip_seconds=STRIP_SECONDS,
    )


def _policy(style: str, script: str) -> str:
    """A content security policy under which nothing is fetched and no other script runs."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; media-src data:; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )


def _centroids(root: Path) -> Any:
    """The codebook, if there is one that numpy can read."""
    try:
        return np.load(root / "codebook.npy", allow_pickle=False)
    except (OSError, ValueError):
        return None


def _facts(corpus: Corpus, root: Path) -> list[tuple[str, str]]:
    """How the corpus was made, as (what, how)."""
    info = corpus.info
    recipe = info["recipe"]
    facts = [
        ("Source", source_in_words(recipe)),
        ("Speech", speech_in_words(info)),
        ("Units", units_in_words(info["units"])),
        ("Unit spec", info["units"]["fingerprint"][:16]),
        ("Plan", info["plan"][:16]),
        ("Licence", recipe["licence"] or "not said"),
        ("Language", recipe["language"]),
    ]
    if (cost := _cost(corpus, root)) is not None:
        facts.append(("Cost", cost))
    return facts


def _cost(corpus: Corpus, root: Path) -> str | None:
    """Hours of speech per hour of one device, by the receipts, and where the time went."""
    stages: dict[str, float] = {}
    try:
        for shard in corpus.shards():
            for stage, seconds in read_receipt(root, shard).timings.items():
                stages[stage] = stages.get(stage, 0.0) + seconds
    except DamagedError:
        return None
    spent = stages.pop("all", 0.0)
    speech = sum(split["seconds"] for split in corpus.info["splits"].values())
    if not spent or not speech:
        return None
    shares = sorted(((s / spent, name) for name, s in stages.items()), reverse=True)
    told = ", ".join(f"{100 * share:.0f} % {name}" for share, name in shares[:3])
    return f"{speech / spent:,.0f} hours of speech an hour of one device ({told})"


def _figures(corpus: Corpus, statistics: Statistics, colours: list[str]) -> list[Figure]:
    parts = statistics.parts
    plots = []
    for measure_, title, unit in (
        ("seconds", "Length", "seconds"),
        ("units_per_second", "Units a second", "collapsed units over seconds"),
        ("characters_per_second", "Speaking rate", "characters of text a second"),
        ("auto_bleu", "Auto-BLEU of the units", "share of bigrams that occur again"),
    ):
        series = {
            name: part.tallies[measure_] for name, part in parts.items() if measure_ in part.tallies
        }
        if series:
            plots.append(histogram(title, unit, series))
    plots += [_score(corpus, statistics, of) for of in ("text", "units") if statistics.scores]
    if all(part.frames for part in parts.values()):
        plots.append(run_lengths(parts, corpus.unit_spec["frame_rate"]))
    return [*plots, usage(parts, colours)]


def _score(corpus: Corpus, statistics: Statistics, of: str) -> Figure:
    """Both sides of pairs by auto-BLEU, with the filters' bounds."""
    series = {
        f"prompt + {side}": statistics.scores[f"{of}_slam_{side}"]
        for side in ("chosen", "rejected")
    }
    marks = {
        f"{name}: below {rule['below']:g}": rule["below"]
        for name, rule in corpus.info["recipe"]["filters"].items()
        if rule
        and (rule["measure"], rule.get("of"), rule.get("variant")) == ("auto_bleu", of, "slam")
        and rule["below"] is not None
    }
    title = f"Auto-BLEU of the {of}"
    return histogram(title, "share of bigrams that occur again", series, marks)


def _voices(statistics: Statistics, most: int = 12) -> list[tuple[str, int, float, float]]:
    """(voice, samples, seconds, share of the commonest), the commonest first; the rest as one."""
    ranked = statistics.voices.most_common()
    rows = [(name, n, statistics.voice_seconds[name]) for name, n in ranked[:most]]
    if rest := ranked[most:]:
        seconds = sum(statistics.voice_seconds[name] for name, _ in rest)
        rows.append((f"{len(rest):,} others", sum(n for _, n in rest), seconds))
    top = max((n for _, n, _ in rows), default=1)
    return [(name, n, seconds, n / top) for name, n, seconds in rows]


def _filters(corpus: Corpus) -> list[tuple[str, str, int]]:
    """(name, what it asks for, pairs it dropped)."""
    return [
        (name, filter_in_words(rule), corpus.info["rejected"].get(name, 0))
        for name, rule in sorted(corpus.info["recipe"]["filters"].items())
        if rule is not None
    ]


def _card(corpus: Corpus, shown: Shown, audio: Audio) -> dict[str, Any]:
    """What the page shows of a sample."""
    sample, layout = shown.sample, corpus.layout
    meta = sample.meta
    scores = {}
    if layout == PAIRS:
        scores = {side: meta["scores"][f"text_slam_{side}"] for side in ("chosen", "rejected")}
    return {
        "key": sample.key,
        "id": meta["id"],
        "voice": meta.get("voice", ""),
        "group": meta.get("group", ""),
        "scores": scores,
        "suspect": shown.suspect,
        "parts": [
            {
                "name": part,
                "text": meta.get(layout.field(part, "text"), ""),
                "seconds": meta.get(layout.field(part, "seconds")),
                "units": len(sample.part(part)),
                "clip": b64encode(clip).decode()
                if (clip := audio.clips.get((sample.key, part)))
                else "",
            }
            for part in layout.parts
        ],
    }


def _data(corpus: Corpus, shown: list[Shown], colours: list[str], audio: Audio) -> dict[str, Any]:
    """What the script draws: per sample and part, units and run lengths up to STRIP_SECONDS, and
    how many seconds of audio there are."""
    rate = corpus.unit_spec["frame_rate"]
    strips = []
    for one in shown:
        for part in corpus.layout.parts:
            units, runs = one.sample.part(part), one.sample.part_durations(part)
            lengths = np.ones(len(units), np.int64) if runs is None else runs.astype(np.int64)
            end = int(np.searchsorted(np.cumsum(lengths), STRIP_SECONDS * rate)) + 1
            strips.append({"units": units[:end].tolist(), "runs": lengths[:end].tolist()})
    timed = all(s.sample.part_durations(p) is not None for s in shown for p in corpus.layout.parts)
    return {
        "rate": rate,
        "timed": timed,
        "clip": CLIP_SECONDS if audio.clips else 0,
        "colours": "".join(colours),
        "strips": strips,
    }


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:,.0f} kB"
