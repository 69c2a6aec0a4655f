"""What `unitcorpus dedup` costs and finds: `python tests/bench/dedup.py --units FILE.jsonl`.

Sequences are made of pieces of the real ones in FILE (lines with `units`), so that unrelated ones
are as dissimilar as real speech; a fifth are copies of earlier ones, with units replaced, left out
or added and ends cut off, from equal to hardly alike. With `--direct` each is a real one perturbed,
1 to 30 % of its units: crowds in which everything is somewhat alike, the worst case.

`--exact N` compares with exact Jaccard similarity of all pairs of N sequences, by another program
(sparse matrix products). The figures on all sequences are for pairs of a copy and its original.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import unitcorpus
from unitcorpus.shards.format import FORMAT, fingerprint, npy_bytes, sample_key, seal, shard_name
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.receipt import data_path
from unitcorpus.shards.writer import ShardWriter, write_atomic
from unitcorpus.units.runs import collapse

Units = NDArray[np.uint16]
THRESHOLD, NGRAM, SIZE, SHARD = 0.8, 5, 500, 1000
RATES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
"""Of a copy, the share of units changed."""
COPIES = 0.2


# --- sequences --------------------------------------------------------------------------------


def real(path: Path) -> list[Units]:
    lines = [json.loads(line)["units"] for line in path.read_text().splitlines()]
    return [collapse(np.array(units, np.uint16))[0] for units in lines]


def pieced(rng: np.random.Generator, sources: list[Units]) -> Units:
    """About as long as a real sequence, of pieces of 10 to 60 units."""
    pieces = []
    left = len(sources[rng.integers(len(sources))])
    while left > 0:
        source = sources[rng.integers(len(sources))]
        start, size = rng.integers(len(source)), rng.integers(10, 60)
        pieces.append(source[start : start + size])
        left -= len(pieces[-1])
    return collapse(np.concatenate(pieces))[0]


def perturbed(rng: np.random.Generator, units: Units, rate: float) -> Units:
    """Units replaced, left out and added, `rate` of them in all, and then an end cut off."""
    units = units.copy()
    at = np.flatnonzero(rng.random(len(units)) < rate)
    how = rng.integers(3, size=len(at))
    units[at[how == 0]] = rng.integers(SIZE, size=(how == 0).sum())
    new = rng.integers(SIZE, size=(how == 2).sum())
    units = np.insert(units, at[how == 2], new)
    units = np.delete(units, at[how == 1])
    cut = int(len(units) * rng.choice([0, 0, 0.02, 0.1]))
    return collapse(units[cut:])[0]


def sequences(sources: list[Units], direct: bool, copies: list[tuple[int, int]]) -> Iterator[Units]:
    """Endless; notes in `copies` which is a copy of which."""
    rng = np.random.default_rng(0)
    past: list[tuple[int, Units]] = []
    for number in range(1 << 62):
        if direct:
            yield perturbed(rng, sources[rng.integers(len(sources))], rng.uniform(0.01, 0.3))
        elif past and rng.random() < COPIES:
            original, units = past[rng.integers(len(past))]
            copies.append((original, number))
            yield perturbed(rng, units, rng.choice(RATES))
        else:
            units = pieced(rng, sources)
            # Copies are of one of 5,000 recent ones, which may be anywhere in the corpus.
            past[number % 5000 : number % 5000 + 1] = [(number, units)]
            yield units


def write_corpus(root: Path, rows: Iterator[Units], name: str) -> None:
    """A folder that reads as a finished corpus: shards, index and corpus.json."""
    shards: list[dict[str, Any]] = []
    while chunk := list(islice(rows, SHARD)):
        shard = shard_name("train", len(shards))
        with ShardWriter(data_path(root, shard)) as file:
            for row, units in enumerate(chunk):
                meta = json.dumps({"id": f"{shard}-{row}", "text": ""}).encode()
                members = {"units.npy": npy_bytes(units), "json": meta}
                file.sample(sample_key(shard, row), members)
        shards.append(
            {
                "url": f"data/{shard}.tar",
                "nsamples": len(chunk),
                "filesize": file.size,
                "sha256": file.sha256,
            }
        )
    index = {"name": name, "shardlist": shards}
    write_atomic(root / "index.json", seal(index))
    info = {
        "format": FORMAT,
        "name": name,
        "plan": fingerprint(index),
        "layout": UTTERANCES.record(),
        "units": {"size": SIZE},
        "splits": {"train": {"samples": sum(shard["nsamples"] for shard in shards)}},
    }
    write_atomic(root / "corpus.json", seal(info))


# --- what is measured -------------------------------------------------------------------------


def run(root: Path, workers: int, *more: str) -> tuple[dict[str, Any], float, float]:
    """(the report, seconds, most memory in GiB): memory that belongs to the processes alone, all
    together; mapped files are not in it."""
    words = [sys.executable, "-m", "unitcorpus", "dedup", str(root), "--workers", str(workers)]
    start = time.monotonic()
    process = psutil.Popen([*words, *more], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, private(process))
        time.sleep(0.25)
    took = time.monotonic() - start
    if process.returncode:
        sys.exit(f"dedup failed with {process.returncode}")
    return json.loads((root / "dedup.json").read_bytes()), took, peak / 2**30


def private(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def grams(units: Units) -> set[tuple[int, ...]]:
    values = units.tolist()
    return {tuple(values[i : i + NGRAM]) for i in range(max(1, len(values) - NGRAM + 1))}


def jaccard(one: Units, other: Units) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


def numbered(report: dict[str, Any]) -> dict[int, int]:
    """For each sequence that is removed, by number, the one that stays for it."""
    removed = {}
    for key, _, detail in report["removals"]:
        removed[number(key)] = number(detail.removeprefix("of ").partition(",")[0])
    return removed


def number(key: str) -> int:
    _, shard, row = key.split("-")
    return int(shard) * SHARD + int(row)


def alike(every: list[Units]) -> dict[tuple[int, int], float]:
    """All pairs i < j at or above the threshold, exactly."""
    names: dict[tuple[int, ...], int] = {}
    rows = [[names.setdefault(g, len(names)) for g in grams(units)] for units in every]
    sizes = np.array([len(row) for row in rows])
    ends = np.append(0, np.cumsum(sizes))
    ones = np.ones(int(ends[-1]), np.int32)
    matrix = csr_matrix((ones, np.concatenate(rows), ends), (len(rows), len(names)))
    found = {}
    for start in range(0, len(rows), 500):
        shared = (matrix[start : start + 500] @ matrix.T).tocoo()
        i, j, both = shared.row + start, shared.col, shared.data
        similarity = both / (sizes[i] + sizes[j] - both)
        for k in np.flatnonzero((i < j) & (similarity >= THRESHOLD)).tolist():
            found[int(i[k]), int(j[k])] = float(similarity[k])
    return found


def against_exact(folder: Path, sources: list[Units], settings: argparse.Namespace) -> None:
    every = list(islice(sequences(sources, settings.direct, []), settings.exact))
    write_corpus(folder, iter(every), "exact")
    removed = numbered(run(folder, settings.workers)[0])
    pairs = alike(every)
    right = sum((kept, gone) in pairs for gone, kept in removed.items())
    missed = [pair for pair in pairs if not removed.keys() & set(pair)]
    print(f"exact Jaccard of all pairs of {len(every):,} sequences: {len(pairs):,} at {THRESHOLD}")
    print(f"  removed {len(removed):,}; precision {right / max(len(removed), 1):.4f}")
    print(f"  pairs of which one is removed: recall {1 - len(missed) / max(len(pairs), 1):.4f}")
    edge = [pair for pair, value in pairs.items() if value < THRESHOLD + 0.02]
    lost = len(set(edge) & set(missed))
    print(
        f"  of the {len(edge):,} below {THRESHOLD + 0.02:.2f}: {1 - lost / max(len(edge), 1):.4f}"
    )


def at_size(folder: Path, sources: list[Units], settings: argparse.Namespace) -> None:
    copies: list[tuple[int, int]] = []
    rows = islice(sequences(sources, settings.direct, copies), settings.sequences)
    write_corpus(folder, rows, "large")
    report, took, peak = run(folder, settings.workers)
    removed = numbered(report)
    size = f"{settings.sequences:,} sequences, {settings.workers} workers"
    print(f"{size}: {took:.0f} s, {peak:.2f} GiB")
    print(f"  removed {len(removed):,} in {report['clusters']['count']:,} clusters")
    corpus = unitcorpus.open(folder)
    rng = np.random.default_rng(1)

    def units(of: int) -> Units:
        return corpus[sample_key(shard_name("train", of // SHARD), of % SHARD)].units

    gone = rng.permutation(sorted(removed))[: settings.looked_at].tolist()
    gone.sort()
    right = sum(jaccard(units(sample), units(removed[sample])) >= THRESHOLD for sample in gone)
    print(f"  precision {right / max(len(gone), 1):.4f} on {len(gone):,} of the removed")
    some = [copies[i] for i in sorted(rng.permutation(len(copies))[: settings.looked_at].tolist())]
    due = [pair for pair in some if jaccard(units(pair[0]), units(pair[1])) >= THRESHOLD]
    found = sum(bool(removed.keys() & set(pair)) for pair in due)
    print(f"  recall {found / max(len(due), 1):.4f} on {len(due):,} copies at {THRESHOLD} or above")
    tests = folder / "tests"
    write_corpus(
        tests, iter([units(i)[40:200] for i in range(0, settings.sequences, 1000)]), "test"
    )
    report, took, peak = run(folder, settings.workers, "--against", str(tests))
    said = report["contamination"][0]
    print(
        f"  against {said['test']}: {took:.0f} s in all, {peak:.2f} GiB, {said['samples']:,} share"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--units", type=Path, required=True, help="JSONL with units")
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--exact", type=int, default=20_000, help="0: not")
    parser.add_argument("--direct", action="store_true", help="perturb whole real sequences")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--looked-at", type=int, default=20_000, help="pairs of the large corpus")
    parser.add_argument("--folder", type=Path, help="where to put the corpora (for a while)")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    sources = real(settings.units)
    print(f"{platform.machine()}, {psutil.cpu_count()} cores; {len(sources)} real sequences")
    for part in (against_exact, at_size):
        with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-", dir=settings.folder) as name:
            if part is at_size or settings.exact:
                part(Path(name), sources, settings)


if __name__ == "__main__":
    main()
