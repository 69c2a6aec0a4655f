"""`unitcorpus verify`: every digest, every count, every invariant of a finished corpus.

Nothing is taken on trust: files against receipts, receipts against the plan, samples against the
unit spec and the planned rows; index.json and corpus.json are made again and compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unitcorpus.shards.check import check_shard
from unitcorpus.shards.format import DamagedError, file_sha256, fingerprint, read_sealed
from unitcorpus.shards.layout import LAYOUTS
from unitcorpus.shards.manifest import index, manifest
from unitcorpus.shards.mirror import Files, files_of
from unitcorpus.shards.reader import Corpus, open_corpus
from unitcorpus.shards.receipt import Receipt, check_mark, marked_files, read_receipt
from unitcorpus.shards.schema import read_plan_file

FOREIGN = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError)
"""What reading a field raises in a file that is sealed, but not by us."""


def verify(root: Path | str, tick: Callable[[int, int], None] = lambda *_: None) -> list[str]:
    """The problems of the corpus in `root`, a folder or an fsspec URL, one line each; none if it is
    whole.

    `tick` is called with (shards checked, shards). Raises UnitcorpusError if there is no corpus.
    """
    corpus = open_corpus(root)
    with files_of(root) as files:
        return list(dict.fromkeys(_problems(files, corpus, tick)))


def _problems(files: Files, corpus: Corpus, tick: Callable[[int, int], None]) -> Iterator[str]:
    root = files.root
    try:
        plan = read_plan_file(root)
        shards = plan["shards"]
        yield from check_plan(root, plan)
        receipts = []
        for number, shard in enumerate(shards):
            with files.shard(shard["name"]):
                found, receipt = check_one(root, plan, shard)
            yield from found
            receipts += [receipt] if receipt else []
            tick(number + 1, len(shards))
        yield from _check_strays(files, {shard["name"] for shard in shards}, plan)
        if len(receipts) == len(shards):
            yield from _check_manifest(root, plan, receipts, corpus.info)
    except DamagedError as error:
        yield str(error)
    except FOREIGN as error:
        yield f"plan/plan.json or corpus.json is not of this format ({error!r})"


def check_plan(root: Path, plan: dict[str, Any]) -> Iterator[str]:
    """The problems of what all shards share: unit spec, codebook, the plan's rejects."""
    spec = {key: value for key, value in plan["units"].items() if key != "fingerprint"}
    if fingerprint(spec) != plan["units"]["fingerprint"]:
        yield "plan/plan.json: the unit spec does not match its fingerprint"
    codebook = root / "codebook.npy"
    due = spec.get("codebook", {}).get("sha256")
    if due and codebook.is_file() and file_sha256(codebook) != due:
        yield "codebook.npy is not the codebook of the unit spec"
    try:
        mark = read_sealed(root / "plan" / "request.json")["rejects"]
        rejects = root / "plan" / "rejects.jsonl"
        if not rejects.is_file() or file_sha256(rejects) != mark["sha256"]:
            yield "plan/rejects.jsonl is missing or was changed"
        elif _reasons(rejects) != Counter(plan["rejected"]):
            yield "plan/plan.json does not count the reasons in plan/rejects.jsonl"
    except DamagedError as error:
        yield str(error)
    except FOREIGN:
        yield "plan/request.json is not of this format"


def _reasons(path: Path) -> Counter[str]:
    """How often each reason stands in a file of rejects."""
    return Counter(json.loads(line)["reason"] for line in path.read_bytes().splitlines())


def check_one(
    root: Path, plan: dict[str, Any], shard: dict[str, Any]
) -> tuple[list[str], Receipt | None]:
    """The problems of one shard, and its receipt if that can be read."""
    name = shard["name"]
    problems = []
    source = root / "plan" / "inputs" / f"{name}.parquet"
    if not source.is_file() or file_sha256(source) != shard["sha256"]:
        problems.append(f"plan/inputs/{name}.parquet is missing or was changed")
    try:
        receipt = read_receipt(root, name)
        due = (plan["fingerprint"], plan["units"]["fingerprint"], shard["sha256"], name)
        if (receipt.plan, receipt.unit_spec, receipt.input, receipt.shard) != due:
            problems.append(f"receipts/{name}.json is of another plan")
        problems += [
            p for path, mark in marked_files(root, receipt) if (p := check_mark(path, mark))
        ]
        if not problems:
            layout = LAYOUTS[plan["layout"]["kind"]]
            filters = plan["recipe"]["filters"]
            problems += check_shard(root, plan["units"], layout, receipt, filters)
    except DamagedError as error:
        return [*problems, f"shard {name}: {error}"], None
    except FOREIGN as error:
        return [*problems, f"receipts/{name}.json is not of this format ({error!r})"], None
    return problems, receipt


def _check_strays(files: Files, shards: set[str], plan: dict[str, Any]) -> Iterator[str]:
    """Files in our folders that belong to no planned shard."""
    audio = shards if plan["recipe"]["shards"]["audio"] != "none" else set()
    due = {
        "data": {f"{name}.tar" for name in shards},
        "audio": {f"{name}.tar" for name in audio},
        "rejects": {f"{name}.jsonl" for name in shards},
        "receipts": {f"{name}.json" for name in shards},
        "plan": {"plan.json", "request.json", "rejects.jsonl", "inputs"},
        "plan/inputs": {f"{name}.parquet" for name in shards},
    }
    for folder, names in due.items():
        for name in files.names(folder):
            if name not in names and not name.startswith("."):
                yield f"{folder}/{name} is not part of the corpus"


def _check_manifest(
    root: Path, plan: dict[str, Any], receipts: list[Receipt], info: dict[str, Any]
) -> Iterator[str]:
    """index.json and corpus.json against what the plan and the receipts make of them."""
    try:
        if read_sealed(root / "index.json") != index(plan, receipts):
            yield "index.json does not list the shards as their receipts have them"
    except DamagedError as error:
        yield str(error)
    try:
        due = manifest(plan, receipts, root)
    except FileNotFoundError as error:
        yield f"{Path(error.filename).name} is missing"
        return
    for key in sorted(due.keys() | info.keys()):
        if due.get(key) == info.get(key):
            continue
        if key == "files":
            for name in sorted(due["files"].keys() | info["files"].keys()):
                if due["files"].get(name) != info["files"].get(name):
                    yield f"{name} was changed: its sha256 is not the one in corpus.json"
        else:
            yield f"corpus.json: {key} is not what the plan and the receipts give"
