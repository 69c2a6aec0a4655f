"""Does it learn speech? A small model against a smoothed trigram, on held-out real utterances.

    OMP_NUM_THREADS=1 python tests/bench/sanity.py --data UNITS.jsonl … [--steps 400] [--expanded]

Every tenth utterance is held out. The trigram is interpolated Kneser-Ney (Chen and Goodman 1998)
with one discount an order, n1 / (n1 + 2 n2), over the same tokens: BOS, units, EOS. The model is
trained by `slam_model.train` on the CPU. Prints the perplexity of both on the held-out tokens.
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
from slam_model.tokens import Tokens, open_tokens
from slam_model.train import main as train
from tiny import write_corpus

Gram = tuple[int, ...]


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
        "train": [row for i, row in enumerate(rows) if i % 10],
        "validation": rows[::10],
    }
    return write_corpus(root, splits, size=500)


def sequences(tokens: Tokens) -> list[list[int]]:
    spans = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokens.tokens[a:b].tolist() for a, b in spans]


def train_model(corpus: Path, folder: Path, steps: int) -> float:
    """The model's perplexity on the held-out utterances."""
    recipe: dict[str, Any] = {
        "name": "sanity",
        "model": {
            "base": {
                "model_type": "opt",
                "hidden_size": 128,
                "word_embed_proj_dim": 128,
                "ffn_dim": 512,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 2048,
                "dropout": 0.3,
            },
            "twist": False,
        },
        "data": {"context": 2048, "tokens_per_step": 4096, "micro_tokens": 4096},
        "optim": {"lr": 3e-3, "weight_decay": 0.1, "betas": [0.9, 0.98]},
        "schedule": {"warmup": 0.05},
        "budget": {"steps": steps},
        "evaluation": {"steps": 25},
        "log": {"steps": 25},
    }
    path = folder / "sanity.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    train([str(path), "--data", str(corpus), "--out", str(folder / "run"), "--device", "cpu"])
    lines = [json.loads(text) for text in (folder / "run" / "metrics.jsonl").open()]
    return float(lines[-1]["validation_perplexity"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(__file__).parents[3] / "shared" / "data" / "units"
    parser.add_argument(
        "--data", nargs="+", type=Path, default=sorted(shared.glob("speech*.jsonl"))
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--expanded", action="store_true", help="one unit a frame")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = make_corpus(read_units(options.data, options.expanded), folder / "corpus")
        splits = {split: open_tokens(corpus, split, folder) for split in ("train", "validation")}
        held_out = sequences(splits["validation"])
        ngrams = {
            order: KneserNey(sequences(splits["train"]), order, 502).perplexity(held_out)
            for order in (1, 2, 3)
        }
        start = time.monotonic()
        model = train_model(corpus, folder, options.steps)
        found = {
            "tokens": {split: len(tokens.tokens) for split, tokens in splits.items()},
            "perplexity": {"unigram": ngrams[1], "bigram": ngrams[2], "trigram": ngrams[3]},
            "model": model,
            "seconds": time.monotonic() - start,
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
