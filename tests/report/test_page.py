"""The page as a file: what is on it, that nothing outside is asked for, that texts stay texts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import unitcorpus
from conftest import SMALL
from made import HOSTILE, build_hostile, write_contrasts
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.report.page import write_report
from unitcorpus.shards.tar import scan
from unitcorpus.shards.verify import verify


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its JSON block."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        block: dict[str, Any] = json.loads(next(t for t in self.texts if t.startswith('{"clip"')))
        return block


def build(root: Path, recipe: str, *settings: str) -> Path:
    assert build_corpus(load_recipe(recipe, settings), root).corpus is not None
    return root


def page_of(root: Path, out: Path, **options: Any) -> Elements:
    write_report(root, out, **options)
    return Elements(out)


@pytest.fixture(scope="module")
def page(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Elements:
    return page_of(small_corpus, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pairs") / "p", "demo/spokenswag", "source.count=14")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hostile(tmp_path_factory.mktemp("hostile"))


def clips(page: Elements) -> list[bytes]:
    sources = [audio["src"] or "" for audio in page.named("audio")]
    return [b64decode(source.removeprefix("data:audio/mpeg;base64,")) for source in sources]


def test_nothing_outside_the_page_is_named(page: Elements) -> None:
    for tag, attributes in page.found:
        for name in ("src", "href", "srcset", "action", "data", "poster", "style"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:audio/")), (tag, name)
    style = next(text for text in page.texts if "color-scheme" in text)
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"\b(https?:)?//\w", "".join(t for t in page.texts if "use strict" in t))


def test_the_numbers_are_those_of_the_corpus(page: Elements, small_corpus: Path) -> None:
    splits = unitcorpus.open(small_corpus).info["splits"].values()
    text = "".join(page.texts)
    assert f"{sum(split['units'] for split in splits):,}" in text
    assert "12" in page.texts
    assert "hours of speech an hour of one device" in text
    assert "gives exactly the units shown" in " ".join(text.split())


def test_the_strips_hold_the_units_and_durations_of_the_samples(
    page: Elements, small_corpus: Path
) -> None:
    corpus = unitcorpus.open(small_corpus)
    keys = re.findall(r"(?:train|validation)-\d{6}-\d{6}", "".join(page.texts))
    assert len(keys) == len(page.data["strips"]) == 12
    for key, strip in zip(keys, page.data["strips"], strict=True):
        sample = corpus[key]
        assert sample.durations is not None
        assert strip == {"units": sample.units.tolist(), "runs": sample.durations.tolist()}


def test_the_audio_is_that_of_the_build_cut_at_thirty_seconds(
    small_corpus: Path, tmp_path: Path
) -> None:
    """The same page from stored FLAC and from audio made again."""
    settings = ("source.count=3", "shards.audio=flac", "validation=0", "text.max_chars=20000")
    stored = build(tmp_path / "c", "demo/stinystories", *settings)
    first = clips(page_of(stored, tmp_path / "stored.html"))
    made = build(tmp_path / "d", "demo/stinystories", "source.count=3", "validation=0")
    second = clips(page_of(made, tmp_path / "made.html"))
    data = (stored / "audio" / "train-000000.tar").read_bytes()
    waves = [soundfile.read(BytesIO(bytes(m["flac"]))) for _, m in scan(data)]
    lengths = sorted(min(len(wave), 30 * 16_000) for wave, _ in waves)
    for found in (first, second):
        heard = [soundfile.read(BytesIO(clip)) for clip in found]
        assert {rate for _, rate in heard} == {16_000}
        assert sorted(len(wave) for wave, _ in heard) == lengths
    for one in first:
        wave = soundfile.read(BytesIO(one))[0]
        best = max(np.corrcoef(wave, full[: len(wave)])[0, 1] for full, _ in waves)
        assert best > 0.9
    assert sum(map(len, first)) < 5_500 * sum(length / 16_000 for length in lengths)


def test_the_same_corpus_gives_the_same_page(
    page: Elements, small_corpus: Path, tmp_path: Path
) -> None:
    write_report(small_corpus, tmp_path / "again.html")
    assert Elements(tmp_path / "again.html").texts == page.texts
    assert clips(Elements(tmp_path / "again.html")) == clips(page)


def test_pairs_show_three_parts_and_the_filters_verdict(pairs: Path, tmp_path: Path) -> None:
    page = page_of(pairs, tmp_path / "report.html")
    text = " ".join("".join(page.texts).split())
    assert len(page.named("audio")) == 3 * len(page.named("article"))
    assert "auto-BLEU-2 (slam) of the prompt+chosen text below 0.3" in text
    assert "passed all filters" in text
    for sample in unitcorpus.open(pairs):
        for part in ("prompt", "chosen", "rejected"):
            assert sample.meta[f"{part}_text"] in text


def test_test_sets_and_published_units_have_a_page_too(tmp_path: Path) -> None:
    rows = [
        (f"task {i % 2}", {"right": (f"it is {i}", [1, 2 + i]), "wrong": ("it were", [3, 1])})
        for i in range(7)
    ]
    write_contrasts(tmp_path / "c", rows)
    page = page_of(tmp_path / "c", tmp_path / "report.html")
    text = "".join(page.texts)
    assert not page.named("audio")
    assert "these units were published without it" in text
    assert "task 1" in text
    assert not page.data["timed"]


def test_the_page_comes_without_audio_where_there_can_be_none(
    small_corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    (root / "codebook.npy").unlink()
    shutil.rmtree(root / "receipts")
    shutil.rmtree(root / "rejects")
    written = write_report(root, tmp_path / "report.html")
    assert (written.samples, written.clips) == (12, 0)
    assert written.note.startswith("No audio: ")
    assert written.note in "".join(Elements(tmp_path / "report.html").texts)


def test_a_corpus_without_a_sample_has_a_page_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "text": "."}\n')
    rows = f"source.path={tmp_path / 'rows.jsonl'}"
    page = page_of(build(tmp_path / "c", "demo/stinystories", rows), tmp_path / "report.html")
    assert not page.named("article")
    assert "silence" in page.texts
    assert any("below 0.001" in text for text in page.texts)


def test_no_audio_makes_none(small_corpus: Path, tmp_path: Path) -> None:
    assert not page_of(small_corpus, tmp_path / "report.html", audio=False).named("audio")


def test_hostile_texts_stay_texts(hostile: Path, tmp_path: Path) -> None:
    page = page_of(hostile, tmp_path / "report.html", audio=False)
    assert len(page.named("script")) == 2
    assert not page.named("img")
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    text = "".join(page.texts)
    for hostile_text in HOSTILE:
        assert " ".join(hostile_text.split()) in text


def test_a_report_leaves_the_corpus_whole(small_corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    command = [sys.executable, "-m", "unitcorpus", "report", str(root), "--no-audio"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{root / 'report.html'}: 12 samples" in done.stdout
    assert verify(root) == []
    assert build_corpus(load_recipe("demo/stinystories", SMALL), root).corpus
    assert (root / "report.html").exists()


def test_a_folder_without_a_corpus_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="not a finished corpus"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
