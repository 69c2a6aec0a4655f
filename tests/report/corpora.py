"""Corpora to report on: one whose texts try to be markup, and one written by hand with the format's
own functions, since no recipe makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.format import fingerprint, npy_bytes, sample_key, seal
from unitcorpus.shards.layout import CONTRASTS
from unitcorpus.shards.manifest import index, manifest
from unitcorpus.shards.receipt import FileMark, Receipt, data_path
from unitcorpus.shards.writer import ShardWriter, write_atomic

HOSTILE = [
    "<script>window.ran = 1; alert(1)</script> said the fox.",
    "</script><script>window.ran = 1</script> said the owl.",
    '<img src=x onerror="window.ran = 1"> said the hen.',
    "\"' onmouseover='window.ran = 1' autofocus onfocus='window.ran = 1' said the cat.",
    "{{ 7 * 7 }} {% raw %} <!-- ]]> said the dog.",
    "</style><link rel=stylesheet href=https://example.org/x.css> said the cow.",
    "<svg onload=window.ran=1> &lt;b&gt; said the pig.",
    "javascript:window.ran=1 <a href=javascript:window.ran=1>here</a> said the ant.",
]

SPEC: dict[str, Any] = {
    "extractor": {"kind": "published", "name": "by hand"},
    "size": 50,
    "frame_rate": 25.0,
    "collapsed": True,
    "durations": False,
}


def write_contrasts(root: Path, rows: list[tuple[str, dict[str, tuple[str, list[int]]]]]) -> None:
    """A test set of (group, {part: (text, units)}), units as published, without durations."""
    recipe = load_recipe("demo/spokenswag").public() | {"speech": None, "filters": {}}
    recipe["source"] = {"kind": "units", "path": "by-hand.jsonl", "layout": "contrasts"}
    with ShardWriter(data_path(root, "test-000000")) as shard:
        for number, (group, parts) in enumerate(rows):
            meta = {"id": f"row {number}", "voice": "", "group": group}
            meta |= {f"{part}_text": text for part, (text, _) in parts.items()}
            members = {"json": json.dumps(meta, sort_keys=True).encode()}
            for part, (_, units) in parts.items():
                members[f"{part}.npy"] = npy_bytes(np.array(units, np.uint16))
            shard.sample(sample_key("test-000000", number), members)
    counted = sum(len(units) for _, parts in rows for _, units in parts.values())
    empty = FileMark("", 0)
    receipt = Receipt(
        "test-000000", "test", "0" * 64, "", "", FileMark(shard.sha256, shard.size), empty, {},
        len(rows), 0, 0, counted,
    )  # fmt: skip
    plan = {
        "name": "by-hand",
        "fingerprint": "0" * 64,
        "recipe": recipe,
        "layout": CONTRASTS.record(),
        "speech": None,
        "units": {**SPEC, "fingerprint": fingerprint(SPEC)},
        "rejected": {},
    }
    write_atomic(root / "plan" / "plan.json", seal(plan))
    write_atomic(root / "index.json", seal(index(plan, [receipt])))
    write_atomic(root / "corpus.json", seal(manifest(plan, [receipt], root)))


def build_hostile(folder: Path) -> Path:
    """A corpus whose texts, ids, description and licence try to be markup."""
    rows = [
        {"id": f"<b onclick=window.ran=1>{i}</b></title>", "text": text}
        for i, text in enumerate([*HOSTILE, HOSTILE[0], "<script>window.ran = 1</script>" * 9])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(
        "demo/stinystories",
        (
            f"source.path={folder / 'rows.jsonl'}",
            "description='</title><script>window.ran = 1</script>'",
            "licence='<i>x</i>'",
            "validation=0",
            "text.max_chars=200",
        ),
    )
    assert build_corpus(recipe, folder / "c").corpus is not None
    return folder / "c"
