"""Rates of the data half of the trainer, on synthetic shards with the lengths of spoken stories.

    OMP_NUM_THREADS=1 python tests/bench/loader.py [--stories 4000] [--units 1000] [--rounds 5]
    OMP_NUM_THREADS=1 python tests/bench/loader.py --data CORPUS

compile: shards to a memory map, checksums included, the cache and the page cache warm.
loader: steps of 79k tokens in flat micro-batches of 8,192, shuffled, up to the tensors.
Prints the median, lowest and highest rate of the rounds in tokens a second, and how full packs are
(rows: the same with micro-batches of the context, one row each). With --data the shards of a
finished corpus are read in place of synthetic ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "slam_model"))
from slam_model.loader import Loader
from slam_model.tokens import Tokens, open_tokens
from tiny import random_units, write_corpus

CONTEXT = 1024
MICRO_TOKENS = 8192


def make_corpus(root: Path, stories: int, units: int) -> Path:
    """Stories of about `units` units, spread as TinyStories' words are; 1,000 are 160 words."""
    rng = np.random.default_rng(0)
    lengths = np.clip(units * rng.lognormal(0.0, 0.31, stories), 60, 9000).astype(int)
    rows = [{"units": random_units(rng, int(n), 500)} for n in lengths]
    metas = [{"text": "word " * (int(n) // 6), "seconds": float(n) / 20} for n in lengths]
    return write_corpus(
        root, {"train": rows}, size=500, metas={"train": metas}, per_shard=1000, name="stories"
    )


def rates(rounds: int, run: Callable[[int], int]) -> dict[str, dict[str, float]]:
    """Tokens a second of `run(round)`, which returns how many tokens it went through: by the clock,
    and by the processor's time, which other work on the machine disturbs less."""
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    found: dict[str, list[float]] = {name: [] for name in clocks}
    for number in range(rounds):
        start = {name: clock() for name, clock in clocks.items()}
        tokens = run(number)
        for name, clock in clocks.items():
            found[name].append(tokens / (clock() - start[name]))
    return {
        name: {"median": statistics.median(each), "lowest": min(each), "highest": max(each)}
        for name, each in found.items()
    }


def measure(corpus: Path, root: Path, rounds: int) -> dict[str, object]:
    def compile_anew(number: int) -> int:
        return len(open_tokens(corpus, cache=root / f"cache{number}").tokens)

    tokens = open_tokens(corpus, cache=root / "cache")
    compiled = rates(rounds, compile_anew)
    loader = loader_of(tokens)

    def an_epoch(_: int) -> int:
        done = 0
        while done < len(tokens.tokens):
            done += next(loader).tokens
        return done

    return {
        "tokens": len(tokens.tokens),
        "mean_length": float(np.diff(tokens.offsets).mean()),
        "compile": compiled,
        "loader": rates(rounds, an_epoch),
        "fill": {"flat": fill(tokens, MICRO_TOKENS), "rows": fill(tokens, CONTEXT)},
    }


def fill(tokens: Tokens, micro_tokens: int) -> float:
    """How full the packs of an epoch are."""
    loader, held, room = loader_of(tokens, micro_tokens), 0, 0
    while held < len(tokens.tokens):
        step = next(loader)
        held, room = held + step.tokens, room + len(step.packs) * micro_tokens
    return held / room


def loader_of(tokens: Tokens, micro_tokens: int = MICRO_TOKENS) -> Loader:
    return Loader(
        [tokens], context=CONTEXT, tokens_per_step=79_000, micro_tokens=micro_tokens, seed=0
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=int, default=4000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        corpus = options.data or make_corpus(root / "corpus", options.stories, options.units)
        print(json.dumps(measure(corpus, root, options.rounds), indent=1))


if __name__ == "__main__":
    main()
