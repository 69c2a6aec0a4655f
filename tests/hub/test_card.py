"""The card: `datasets` and people find what they need, and no text breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

import unitcorpus
from unitcorpus.build.run import build_corpus
from unitcorpus.hub.card import card
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.format import read_sealed

HOSTILE = (
    "</details><script>x</script> | a | `b` **c** ```d``` [e](javascript:f) $g$\n# h\n- i: {j}"
)


@pytest.fixture(scope="module")
def small(small_corpus: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return unitcorpus.open(small_corpus).info, read_sealed(small_corpus / "index.json")


def parts(text: str) -> tuple[dict[str, Any], str]:
    """The header of a card, and its Markdown."""
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_header_is_what_the_hub_wants(small: tuple[dict[str, Any], dict[str, Any]]) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    header, _ = parts(card(*small))
    data = huggingface_hub.DatasetCardData(**header)
    assert (data.license, data.language, data.size_categories) == ("apache-2.0", ["en"], ["n<1K"])
    splits = [file["split"] for file in header["configs"][0]["data_files"]]
    assert splits == ["train", "validation"]


def test_it_says_how_the_corpus_was_made(small: tuple[dict[str, Any], dict[str, Any]]) -> None:
    info, _ = small
    _, body = parts(card(*small))
    for said in (
        info["units"]["codebook"]["sha256"],
        info["units"]["fingerprint"],
        info["plan"],
        info["speech"]["version"],
        "GPL-3.0-or-later",
        "The speech is synthetic",
        f"{info['splits']['train']['units']:,}",
    ):
        assert said in body
    fences = [t for t in MarkdownIt().parse(body) if t.type == "fence" and t.info == "yaml"]
    assert yaml.safe_load(fences[0].content) == info["recipe"]


def test_published_models_come_with_revision_and_licence(
    small: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    info, index = small
    recipe = load_recipe("stinystories").public()
    units = {
        **info["units"],
        "extractor": {"kind": "hubert", "model": "slprl/mhubert-base-25hz", "revision": "a1b2" * 10,
                      "layer": 11},
    }  # fmt: skip
    speech = {"engine": "kokoro", "package": "0.9.4", "revision": "c3d4" * 10, "g2p": "misaki"}
    header, body = parts(card({**info, "recipe": recipe, "units": units, "speech": speech}, index))
    assert header["license"] == "cdla-sharing-1.0"
    for said in ("a1b2" * 10, "c3d4" * 10, "package 0.9.4", "hexgrad/Kokoro-82M", "layer 11"):
        assert said in body
    rows = [line for line in body.splitlines() if line.startswith(("| speech |", "| features |"))]
    assert any("Kokoro-82M" in row and "Apache-2.0" in row for row in rows)
    assert any("not known here" in row for row in rows)


def test_hostile_names_and_descriptions_stay_text(
    small: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    info, index = small
    recipe = {**info["recipe"], "description": HOSTILE, "licence": HOSTILE}
    source = {"kind": "huggingface", "path": HOSTILE, "revision": HOSTILE, "limit": None}
    info = {**info, "recipe": {**recipe, "source": source}, "rejected": {"a|b`": 3}}
    header, body = parts(card(info, index))
    assert (header["license"], header["license_name"]) == ("other", HOSTILE)
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(body)
    html = [t.content.strip() for t in tokens if t.type == "html_block"]
    assert html == ["<details><summary>The recipe</summary>", "</details>"]
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "code_inline", "text_special", "softbreak"}
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings[1:] == ["How it was made", "A sample", "Loading", "Limits", "Licences"]
    plain = "".join(child.content for child in inline)
    assert plain.count(" ".join(HOSTILE.split())) >= 3
    fence = next(t for t in tokens if t.type == "fence" and t.info == "yaml")
    assert yaml.safe_load(fence.content)["description"] == HOSTILE


def test_the_code_on_a_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every python block of a pair set's card, with the folder in place of user/name."""
    root = tmp_path / "p"
    recipe = load_recipe("demo/spokenswag", ("source.count=6",))
    assert build_corpus(recipe, root).corpus is not None
    monkeypatch.chdir(root)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    _, body = parts((root / "README.md").read_text())
    blocks = [t.content for t in MarkdownIt().parse(body) if t.info == "python"]
    assert len(blocks) == 3
    shell = [t.content for t in MarkdownIt().parse(body) if t.type == "fence" and not t.info]
    assert shell == [
        "python -m slam_model.train slam_dpo --data hf://datasets/user/name --out runs/mine\n"
    ]
    for block in blocks:
        local = block.replace("hf://datasets/user/name", ".").replace("user/name", str(root))
        exec(compile(local, "card", "exec"), {})


def test_an_edited_card_stays(small_corpus: Path, tmp_path: Path) -> None:
    recipe = load_recipe("demo/stinystories", ("source.count=2", "validation=0"))
    build_corpus(recipe, tmp_path / "c")
    (tmp_path / "c" / "README.md").write_text("mine")
    (tmp_path / "c" / "corpus.json").unlink()
    assert build_corpus(recipe, tmp_path / "c").corpus is not None
    assert (tmp_path / "c" / "README.md").read_text() == "mine"
    assert json.loads((tmp_path / "c" / "corpus.json").read_text())["name"] == "demo-stinystories"
