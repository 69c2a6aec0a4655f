"""Evaluates checkpoints on corpora (perplexity) and on pair and test sets (accuracy).

    python -m slam_model.eval runs/slam/final --data corpora/stinystories corpora/sblimp
    python -m slam_model.eval runs/seed{0,1,2}/final --data corpora/sblimp --json sblimp.json
    python -m slam_model.eval runs/slam/final --data corpora/spoken_storycloze --generate \\
        --limit 1000 --vocoder models/hifigan_lj_mhubert_base_25hz

Perplexity is per token, EOS included, over all tokens. Accuracy counts a pair as 1 where the right
(chosen) sequence has the lower mean −log p per token, EOS included, and as 0.5 on a tie; its 95 %
interval is from resampled pairs. --generate adds GenPPL and Auto-BLEU of continuations of samples'
first seconds (slam_model.generation_metrics), with every setting. Several checkpoints (say, of
several seeds) are given with their mean and range. A checkpoint is a folder that `save_pretrained`
wrote, one of a run's checkpoints/step-…, or a name on the Hub.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel
from transformers.utils import logging

import unitcorpus
from slam_model import command
from slam_model.generate import add_sampling_options
from slam_model.generation_metrics import Scores, Spoken, add_options
from slam_model.model import load_checkpoint
from slam_model.pairs import Pairs, read_pairs
from slam_model.scoring import CONFIDENCE, bootstrap, longest, outcomes, perplexity
from slam_model.tokens import Tokens, check_same_units, open_tokens
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import canonical
from unitcorpus.shards.writer import write_atomic

PREFERRED_SPLITS = ("test", "validation")


@dataclass
class Result:
    """One figure of every checkpoint, in their order. `low` and `high` bound an accuracy; `count`
    is of pairs, of predicted tokens or of prompts; `group` is "" for the whole set; `settings` are
    those of what is generated."""

    data: str
    split: str
    metric: str
    group: str
    count: int
    values: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def record(self, checkpoints: Sequence[str]) -> dict[str, Any]:
        """As the JSON file has it."""
        bounds = zip(self.low, self.high, strict=True) if self.low else []
        intervals = [{"low": low, "high": high} for low, high in bounds] or [{}] * len(self.values)
        each = zip(checkpoints, self.values, intervals, strict=True)
        return {
            "data": self.data,
            "split": self.split,
            "metric": self.metric,
            "group": self.group,
            "count": self.count,
            "checkpoints": [{"name": n, "value": v, **more} for n, v, more in each],
            "mean": sum(self.values) / len(self.values),
            "min": min(self.values),
            "max": max(self.values),
            **({"settings": self.settings} if self.settings else {}),
        }


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    _check(options)
    logging.disable_progress_bar()
    data = [_read(location, options.split) for location in options.data]
    check_same_units(data)
    spoken = Spoken(options, data[0].vocabulary) if options.generate else None
    results: dict[tuple[int, str, str], Result] = {}
    for name in options.checkpoints:
        model = load_checkpoint(
            name, data[0].vocabulary, options.dtype, options.device, data[0].unit_spec
        )
        for number, one in enumerate(data):
            print(f"{name}: {one.name} ({one.split})", file=sys.stderr)
            figures = evaluate(model, one, options)
            if spoken is not None:
                print(f"{name}: {one.name} ({one.split}), generated", file=sys.stderr)
                scores = spoken.measure(model, options.data[number], one.split)
                figures += generated(spoken.settings, scores, one)
            for found in figures:
                kept = results.setdefault((number, found.metric, found.group), found)
                if kept is not found:
                    kept.values += found.values
                    kept.low += found.low
                    kept.high += found.high
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table(list(results.values()), options.checkpoints))
    if spoken is not None:
        print("generated with", ", ".join(f"{k}={v}" for k, v in spoken.settings.items()))
    if options.json:
        records = [result.record(options.checkpoints) for result in results.values()]
        write_atomic(Path(options.json), canonical({"confidence": CONFIDENCE, "results": records}))
    return 0


def evaluate(
    model: PreTrainedModel, data: Tokens | Pairs, options: argparse.Namespace
) -> list[Result]:
    """The figures of one model on one corpus or set: of the whole, then of each group."""
    positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    if isinstance(data, Tokens):
        context = min(options.context, positions)
        value, count = perplexity(model, data, context, options.micro_tokens, options.device)
        return [Result(data.name, data.split, "perplexity", "", count, [value])]
    if longest(data) > positions:
        raise UnitcorpusError(
            f"{data.name} has a sequence of {longest(data)} tokens, and the model {positions} "
            "positions: it cannot be scored whole"
        )
    won = outcomes(model, data, options.micro_tokens, options.device)
    groups = [str(meta.get("group", "")) for meta in data.meta]
    named = sorted(set(groups)) if len(set(groups)) > 1 else []
    results = []
    for group in ["", *filter(None, named)]:
        mine = won if group == "" else won[[one == group for one in groups]]
        low, high = bootstrap(mine, options.seed)
        found = Result(data.name, data.split, "accuracy", group, len(mine))
        found.values, found.low, found.high = [float(mine.mean())], [low], [high]
        results.append(found)
    return results


def generated(settings: dict[str, Any], scores: Scores, data: Tokens | Pairs) -> list[Result]:
    """The figures of what one model generated from the samples of one corpus or set."""
    values = {
        "GenPPL": scores.genppl,
        "Auto-BLEU-2": scores.auto_bleu,
        "empty transcripts": float(scores.empty),
    }
    count = scores.count + scores.empty
    return [
        Result(data.name, data.split, metric, "", count, [value], settings=settings)
        for metric, value in values.items()
    ]


def table(results: Sequence[Result], checkpoints: Sequence[str]) -> Table:
    """A line per figure and checkpoint, accuracies in percent; with several checkpoints a line of
    their mean, lowest and highest."""
    shown = Table("data", "metric", "n", "checkpoint", "value", box=SIMPLE)
    for result in results:
        scale = 100 if result.metric == "accuracy" else 1
        where = f"{result.data} {result.split} {result.group}".rstrip()
        head = (where, result.metric, str(result.count))
        for i, (name, value) in enumerate(zip(checkpoints, result.values, strict=True)):
            bounds = _range(result.low[i], result.high[i], scale) if result.low else ""
            shown.add_row(*head, Path(name).as_posix(), f"{value * scale:.2f}{bounds}")
            head = ("", "", "")
        if len(checkpoints) > 1:
            mean = sum(result.values) / len(result.values)
            bounds = _range(min(result.values), max(result.values), scale)
            shown.add_row(*head, "mean, lowest, highest", f"{mean * scale:.2f}{bounds}")
    return shown


def _range(low: float, high: float, scale: int) -> str:
    return f" ({low * scale:.2f} to {high * scale:.2f})"


def _check(options: argparse.Namespace) -> None:
    if options.context < 2 or options.micro_tokens < 1:
        raise UnitcorpusError("--context is at least 2 and --micro-tokens at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UnitcorpusError("there is no GPU that torch can use: leave --device out")


def _read(location: str, split: str | None) -> Tokens | Pairs:
    """A corpus or set; without a `split` its test or validation split, or the first it has."""
    corpus = unitcorpus.open(location)
    found = split or next(
        (one for one in PREFERRED_SPLITS if one in corpus.splits), corpus.splits[0]
    )
    if corpus.layout.plain:
        return open_tokens(location, found)
    return read_pairs(location, found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slam_model.eval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR")
    parser.add_argument("--split", help="default: test, or validation, or the first there is")
    parser.add_argument("--context", type=int, default=1024, help="of perplexity, in tokens")
    parser.add_argument("--micro-tokens", type=int, default=8192, help="of one forward pass")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if gpu else "cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling and draws")
    add_options(parser)
    add_sampling_options(parser)
    parser.add_argument("--json", metavar="FILE", help="writes the figures there, too")
    return parser


if __name__ == "__main__":
    command.run(main)
