"""Does it learn speech? A small model against a smoothed trigram, on held-out real utterances.

    OMP_NUM_THREADS=1 python tests/bench/sanity.py --data UNITS.jsonl … [--expanded] [--seeds 3]

Of ten utterances one is the test, and one is validation: on the latter the settings below were
chosen, the test's figures were looked at once. The rest trains both sides. The trigram is
interpolated Kneser-Ney (Chen and Goodman 1998) with one discount an order, n1 / (n1 + 2 n2), over
the same tokens: BOS, units, EOS. The model is trained by `slam_model.train` on one core for a fixed
number of steps. Prints the perplexities of all on both splits, and how long each run took.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "slam_model"))
from slam_model.model import load_checkpoint
from slam_model.scoring import perplexity
from slam_model.tokens import Tokens, open_tokens
from slam_model.train import main as train
from tiny import write_corpus

Gram = tuple[int, ...]
CONTEXT = 128
HELD_OUT = ("validation", "test")


class KneserNey:
    """An interpolated Kneser-Ney model of some order over sequences that begin with BOS."""

    def __init__(self, sequences: Iterable[Sequence[int]], order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        highest = Counter(gram for one in sequences for gram in _grams(one, order))
        self._counts: list[Counter[Gram]] = [highest]
        for _ in range(order - 1):  # how many different words stand before a shorter gram
            self._counts.insert(0, Counter(gram[1:] for gram in self._counts[0]))
        self._totals = [_sums(counts, counts.values()) for counts in self._counts]
        self._kinds = [_sums(counts, [1] * len(counts)) for counts in self._counts]
        self._discounts = [_discount(counts) for counts in self._counts]

    def probability(self, word: int, history: Gram) -> float:
        below = 1 / (self.vocabulary - 1)  # PAD is never a word
        for n in range(self.order):
            context = history[len(history) - n :]
            total = self._totals[n][context]
            if not total:
                break
            discount = self._discounts[n]
            count = max(self._counts[n][(*context, word)] - discount, 0.0)
            below = (count + discount * self._kinds[n][context] * below) / total
        return below

    def perplexity(self, sequences: Iterable[Sequence[int]]) -> float:
        logs = [
            math.log(self.probability(gram[-1], gram[:-1]))
            for one in sequences
            for gram in _grams(one, self.order)
        ]
        return math.exp(-sum(logs) / len(logs))


def _grams(sequence: Sequence[int], order: int) -> list[Gram]:
    """The n-gram that ends in each token after BOS; BOS fills the history."""
    padded = [sequence[0]] * (order - 2) + list(sequence)
    return [tuple(padded[i - order + 1 : i + 1]) for i in range(order - 1, len(padded))]


def _sums(counts: Counter[Gram], values: Iterable[int]) -> Counter[Gram]:
    """Per history: the sum of `values` over the grams that begin with it."""
    found: Counter[Gram] = Counter()
    for gram, value in zip(counts, values, strict=True):
        found[gram[:-1]] += value
    return found


def _discount(counts: Counter[Gram]) -> float:
    of = Counter(counts.values())
    return of[1] / (of[1] + 2 * of[2]) if of[1] else 0.5


def read_units(files: Sequence[Path], expanded: bool) -> list[list[int]]:
    lines = [json.loads(line) for file in files for line in file.open(encoding="utf-8")]
    return [
        line["units"] if expanded else [unit for unit, _ in groupby(line["units"])]
        for line in lines
    ]


def make_corpus(units: list[list[int]], root: Path) -> Path:
    rows = [{"units": np.array(one, np.uint16)} for one in units]
    splits = {
        "train": [row for i, row in enumerate(rows) if i % 10 not in (0, 5)],
        "validation": rows[5::10],
        "test": rows[::10],
    }
    return write_corpus(root, splits, size=500)


def sequences(tokens: Tokens) -> list[list[int]]:
    spans = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokens.tokens[a:b].tolist() for a, b in spans]


def train_model(corpus: Path, folder: Path, tokens: int, epochs: int, seed: int) -> Path:
    """The folder of a model that was trained on `tokens` tokens so often."""
    base = {
        "model_type": "gpt_neox",
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rotary_pct": 1.0,
        "hidden_dropout": 0.2,
        "use_parallel_residual": False,
        "tie_word_embeddings": True,
    }
    recipe: dict[str, Any] = {
        "name": "sanity",
        "model": {"base": base, "twist": False, "rope_theta": 100},
        "data": {"context": CONTEXT, "tokens_per_step": 1024, "micro_tokens": 1024},
        "optim": {"lr": 8e-3, "weight_decay": 1.0, "betas": [0.9, 0.98], "clip": 1.0},
        "schedule": {"warmup": 0.05, "minimum": 8e-5},
        "budget": {"steps": epochs * tokens // 1024},
        "log": {"steps": 50},
        "seed": seed,
    }
    path = folder / "sanity.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    out = folder / f"run{seed}"
    train([str(path), "--data", str(corpus), "--out", str(out), "--device", "cpu"])
    return out / "final"


def measure(units: list[list[int]], epochs: int, seeds: int, folder: Path) -> dict[str, Any]:
    corpus = make_corpus(units, folder / "corpus")
    splits = {name: open_tokens(corpus, name, folder) for name in ("train", *HELD_OUT)}
    heard = sequences(splits["train"])
    found: dict[str, Any] = {"tokens": {name: len(one.tokens) for name, one in splits.items()}}
    for name, order in {"unigram": 1, "bigram": 2, "trigram": 3}.items():
        ngrams = KneserNey(heard, order, 502)
        found[name] = {split: ngrams.perplexity(sequences(splits[split])) for split in HELD_OUT}
    models = []
    for seed in range(seeds):
        start = time.monotonic()
        final = train_model(corpus, folder, len(splits["train"].tokens), epochs, seed)
        seconds = time.monotonic() - start
        model = load_checkpoint(str(final), 502, "float32", "cpu")
        scores = {split: perplexity(model, splits[split], CONTEXT, 8192)[0] for split in HELD_OUT}
        models.append({**scores, "seconds": seconds})
    return {**found, "models": models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(__file__).parents[3] / "shared" / "data" / "units"
    parser.add_argument(
        "--data", nargs="+", type=Path, default=sorted(shared.glob("speech*.jsonl"))
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--expanded", action="store_true", help="one unit a frame")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        units = read_units(options.data, options.expanded)
        print(json.dumps(measure(units, options.epochs, options.seeds, Path(name)), indent=2))


if __name__ == "__main__":
    main()
