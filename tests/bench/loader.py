"""Rates of the data half of the trainer, on synthetic shards with the lengths of spoken stories.

    OMP_NUM_THREADS=1 python tests/bench/loader.py [--stories 4000] [--units 1000] [--rounds 5]

compile: shards to a memory map, checksums included, the cache and the page cache warm.
loader: steps of 79k tokens in flat micro-batches of 8,192, shuffled, up to the tensors.
Prints the median, lowest and highest rate of the rounds in tokens a second, and how full packs are.
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


def measure(root: Path, stories: int, units: int, rounds: int) -> dict[str, object]:
    corpus = make_corpus(root / "corpus", stories, units)

    def compile_anew(number: int) -> int:
        return len(open_tokens(corpus, cache=root / f"cache{number}").tokens)

    tokens = open_tokens(corpus, cache=root / "cache")
    compiled = rates(rounds, compile_anew)
    loader = loader_of(tokens)
    fill: list[float] = []

    def an_epoch(_: int) -> int:
        done = 0
        while done < len(tokens.tokens):
            step = next(loader)
            done += step.tokens
            fill.append(step.tokens / (len(step.packs) * MICRO_TOKENS))
        return done

    return {
        "tokens": len(tokens.tokens),
        "mean_length": float(np.diff(tokens.offsets).mean()),
        "compile": compiled,
        "loader": rates(rounds, an_epoch),
        "fill": statistics.mean(fill),
    }


def loader_of(tokens: Tokens) -> Loader:
    return Loader([tokens], context=1024, tokens_per_step=79_000, micro_tokens=MICRO_TOKENS, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=int, default=4000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), **vars(arguments)), indent=1))


if __name__ == "__main__":
    main()
