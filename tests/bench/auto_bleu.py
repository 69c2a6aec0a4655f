"""Auto-BLEU against its definitions written out the slow way:

    python tests/bench/auto_bleu.py [slow length batch texts] [--data FOLDER] [--json FILE]

The units are real ones of 50 frames a second, HuBERT's at layer 9 with 500 units (not collapsed),
one utterance after another; longer sequences than there are units go on with copies under a random
renaming of the units, so that no copy repeats another. FOLDER holds
`units/speechlm_librispeech_hubertbaseL9_km500.jsonl` ({"units": [...]} a line) and
`hellaswag/hellaswag_val_5000.jsonl`. Every figure is a ratio inside one run, ways taking turns;
median and spread of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from nltk.tokenize.destructive import NLTKWordTokenizer
from numpy.typing import NDArray

import unitcorpus
from unitcorpus.pairs.auto_bleu import (
    VARIANTS,
    Variant,
    auto_bleu,
    auto_bleu_batch,
    auto_bleu_text,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
UNITS = Path("units/speechlm_librispeech_hubertbaseL9_km500.jsonl")
TEXTS = Path("hellaswag/hellaswag_val_5000.jsonl")
REPEATS = 5

Units = NDArray[np.uint16]
Row = tuple[str, str, str]
"""What was measured, the figure, and the aim."""


# --- the definitions, quadratic ---------------------------------------------------------------


def slow_slam(tokens: Sequence[int], order: int) -> float:
    grams = [tuple(tokens[p : p + order]) for p in range(len(tokens) - order + 1)]
    repeated = sum(gram in grams[:p] or gram in grams[p + 1 :] for p, gram in enumerate(grams))
    return repeated / len(grams) if grams else 0.0


def slow_gslm(tokens: Sequence[int], order: int) -> float:
    score = 1.0
    for o in range(1, order + 1):
        grams = [tuple(tokens[p : p + o]) for p in range(len(tokens) - o + 1)]
        repeated = sum(
            gram in grams[: max(p - o + 1, 0)] or gram in grams[p + o :]
            for p, gram in enumerate(grams)
        )
        score *= (repeated / len(grams) if grams else 0.0) ** (1 / order)
    return score


SLOW: dict[Variant, Callable[[Sequence[int], int], float]] = {"slam": slow_slam, "gslm": slow_gslm}


# --- measuring --------------------------------------------------------------------------------


def seconds(run: Callable[[], object], least: float = 0.02) -> float:
    """Seconds of one call, over as many calls as take `least`."""
    calls, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < least or not calls:
        run()
        calls += 1
    return taken / calls


def turns(*ways: Callable[[], object], repeats: int = REPEATS) -> list[list[float]]:
    """Seconds of each way, [ways][repeats], all ways once in every repeat."""
    for way in ways[1:]:
        way()
    rounds = [[seconds(way) for way in ways] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    return [s / f for s, f in zip(slow, fast, strict=True)]


def spread(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f}{unit} ({low:,.{digits}f}-{high:,.{digits}f})"


def read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise SystemExit(f"{path} is not there: give the folder that holds it by --data FOLDER")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_units(data: Path, size: int) -> Units:
    """So many units: the utterances in turn, then again under other names."""
    draw = np.random.default_rng(0)
    once = np.concatenate([np.array(row["units"], np.uint16) for row in read_lines(data / UNITS)])
    copies = [once]
    while sum(map(len, copies)) < size:
        copies.append(draw.permutation(500).astype(np.uint16)[once])
    return np.concatenate(copies)[:size]


# --- the benchmarks ---------------------------------------------------------------------------


def bench_slow(data: Path) -> Iterator[Row]:
    """One sequence, as an array and as a list, against the quadratic definition over a list."""
    for variant in VARIANTS:
        for size, aim in ((1_000, ">= 50"), (10_000, ">= 500")):
            units = read_units(data, size)
            listed = units.tolist()
            slow, array, of_list = turns(
                partial(SLOW[variant], listed, 2),
                partial(auto_bleu, units, 2, variant),
                partial(auto_bleu, listed, 2, variant),
                repeats=REPEATS if size < 10_000 else 3,
            )
            assert SLOW[variant](listed, 2) == auto_bleu(units, 2, variant)
            name = f"{variant}, {size:,} tokens"
            yield f"{name}: quadratic, ms", spread([1e3 * t for t in slow]), ""
            yield f"{name}: quadratic / ours, array", spread(ratios(slow, array), digits=0), aim
            yield f"{name}: quadratic / ours, list", spread(ratios(slow, of_list), digits=0), aim


def bench_length(data: Path) -> Iterator[Row]:
    """The cost of a token of one sequence, by the sequence's length."""
    sizes = (1_000, 10_000, 100_000, 1_000_000)
    units = read_units(data, sizes[-1])
    for variant in VARIANTS:
        found = turns(*(partial(auto_bleu, units[:n], 2, variant) for n in sizes))
        costs = [[1e9 * t / n for t in times] for n, times in zip(sizes, found, strict=True)]
        for size, cost in zip(sizes, costs, strict=True):
            yield f"{variant}, {size:,} tokens: ns a token", spread(cost), ""
        extremes = [max(round_) / min(round_) for round_ in zip(*costs, strict=True)]
        yield f"{variant}: dearest / cheapest token", spread(extremes), "<= 3"
        grown = ratios(costs[-1], costs[0])
        yield f"{variant}: a token of 1,000,000 / of 1,000", spread(grown, digits=2), "<= 3"


def one_by_one(rows: list[Units], variant: Variant) -> list[float]:
    return [auto_bleu(row, 2, variant) for row in rows]


def bench_batch(data: Path) -> Iterator[Row]:
    """10,000 sequences of 20 to 60 units, together and one by one."""
    lengths = np.random.default_rng(1).integers(20, 61, 10_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    units = read_units(data, int(offsets[-1]))
    rows = [units[low:high] for low, high in pairwise(offsets.tolist())]
    for variant in VARIANTS:
        one, batch = turns(
            partial(one_by_one, rows, variant),
            partial(auto_bleu_batch, units, offsets, 2, variant),
        )
        assert auto_bleu_batch(units, offsets, 2, variant).tolist() == one_by_one(rows, variant)
        yield f"{variant}: one by one, ms", spread([1e3 * t for t in one]), ""
        yield f"{variant}: batch, ms", spread([1e3 * t for t in batch]), ""
        yield f"{variant}: one by one / batch", spread(ratios(one, batch)), ">= 10"


def bench_texts(data: Path) -> Iterator[Row]:
    """Contexts with their right endings."""
    rows = read_lines(data / TEXTS)
    texts = [f"{row['ctx']} {row['endings'][row['label']]}" for row in rows]
    tokenizer = NLTKWordTokenizer()
    bare, slam = turns(
        lambda: [tokenizer.tokenize(text) for text in texts],
        lambda: [auto_bleu_text(text) for text in texts],
    )
    yield (
        f"{len(texts):,} texts, tokenizer alone, ms",
        spread([1e3 * t for t in bare], digits=0),
        "",
    )
    yield "auto_bleu_text / tokenizer alone", spread(ratios(slam, bare), digits=2), "< 2"


BENCHES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "slow": bench_slow,
    "length": bench_length,
    "batch": bench_batch,
    "texts": bench_texts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("benches", nargs="*", default=list(BENCHES), metavar="|".join(BENCHES))
    parser.add_argument("--data", type=Path, default=DATA, help=f"by default {DATA}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, unitcorpus {unitcorpus.__version__}"
    versions += f", numpy {np.__version__}"
    figures: dict[str, Any] = {"machine": machine, "versions": versions}
    print(f"{machine}, {versions}\n{'':<8}{'what':<46}{'figure':<32}aim")
    for name in arguments.benches:
        for label, figure, aim in BENCHES[name](arguments.data):
            print(f"{name:<8}{label:<46}{figure:<32}{aim}", flush=True)
            figures[f"{name}: {label}"] = f"{figure} {aim}".strip()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
