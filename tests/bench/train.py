"""Useful tokens a second of the trainer against transformers' Trainer: one model, the same units.

    OMP_NUM_THREADS=1 python tests/bench/train.py --data CORPUS [--rounds 5] [--json FILE]
    OMP_NUM_THREADS=1 python tests/bench/train.py --data UNITS.jsonl … [--rounds 5]
    python tests/bench/train.py --data CORPUS --gpu

padded: Trainer, batches of 8 random chunks of at most 1,024 tokens, as published, padded to the
longest. flattened: Trainer with DataCollatorWithFlattening. ours: `slam_model.loop`, flat packs.
All have as many tokens in a step, AdamW, clipping, one process; the three take turns, so that a
slow minute hits all. Useful tokens are those that are no padding; the first step of each run is not
timed. With --gpu the model is Qwen2.5-0.5B's (random weights) in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    DataCollatorWithFlattening,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "slam_model"))
from slam_model.base import find_base
from slam_model.budget import Clock
from slam_model.checkpoint import Checkpoints
from slam_model.loop import Run, update
from slam_model.metrics import Flops, Log, peak_flops
from slam_model.model import load_model
from slam_model.packing import chunk_table
from slam_model.pretrain import Pretraining
from slam_model.recipe import TrainRecipe
from slam_model.tokens import Tokens, open_tokens
from tiny import write_corpus

SMALL = {
    "model_type": "qwen2",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
VOCABULARY = 502
CONTEXT = 1024


@dataclass(frozen=True)
class Setting:
    """What is compared: a base, tokens in a pack of ours, batches of the baselines in a step."""

    base: Any
    micro_tokens: int
    accumulation: int
    steps: int
    bf16: bool


ROWS = 8
ON_CPU = Setting(SMALL, 2048, 1, 4, bf16=False)
ON_GPU = Setting("Qwen/Qwen2.5-0.5B", 16_384, 16, 8, bf16=True)


def read_units(files: Sequence[Path]) -> list[list[int]]:
    """The unit sequences of JSONL files, consecutive repeats collapsed."""
    lines = [json.loads(line) for file in files for line in file.open(encoding="utf-8")]
    return [[unit for unit, _ in groupby(line["units"])] for line in lines]


def fill(lengths: NDArray[np.int32]) -> float:
    """How full padded batches of random chunks of these lengths are, on average."""
    batches = np.random.default_rng(0).choice(lengths, (500, ROWS))
    return float((batches.mean(1) / batches.max(1)).mean())


def make_tokens(data: Sequence[Path], folder: Path) -> Tokens:
    """The tokens of a finished corpus, or of JSONL files."""
    if data[0].is_dir():
        return open_tokens(data[0], cache=folder)
    rows = [{"units": np.array(one, np.uint16)} for one in read_units(data)]
    return open_tokens(write_corpus(folder / "corpus", {"train": rows}, size=500), cache=folder)


def tokens_per_step(setting: Setting, tokens: Tokens) -> int:
    """As many as the batches of the baselines hold on average."""
    return int(ROWS * setting.accumulation * lengths_of(tokens).mean())


def lengths_of(tokens: Tokens) -> NDArray[np.int32]:
    return chunk_table(tokens.offsets, CONTEXT)[1]


# --- ours --------------------------------------------------------------------------------------


def ours(setting: Setting, tokens: Tokens, folder: Path) -> tuple[float, float]:
    """(useful tokens a second, FLOP/s) of the trainer's steps."""
    recipe = TrainRecipe.model_validate(
        {
            "name": "bench",
            "model": {"base": setting.base, "twist": False},
            "data": {
                "context": CONTEXT,
                "tokens_per_step": tokens_per_step(setting, tokens),
                "micro_tokens": setting.micro_tokens,
            },
            "optim": {"lr": 1e-4},
            "budget": {"steps": setting.steps + 1},
        }
    )
    accelerator = Accelerator(cpu=not setting.bf16)
    model = load_model(
        setting.base, vocab=VOCABULARY, context=CONTEXT, twist=False, device=accelerator.device
    )
    run = Run(
        recipe,
        accelerator,
        model,
        Pretraining(recipe, [tokens], [], accelerator),
        Clock(),
        Checkpoints(folder / "checkpoints", keep=1),
        Log(folder / "metrics.jsonl", main=True),
        {},
    )
    update(run)
    start = time.perf_counter()
    steps = [update(run) for _ in range(setting.steps)]
    seconds = time.perf_counter() - start
    return sum(s.tokens for s in steps) / seconds, sum(s.flops for s in steps) / seconds


# --- transformers' Trainer ---------------------------------------------------------------------


class Watch(TrainerCallback):  # type: ignore[misc]
    """The time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


class Padded:
    """Rows padded to the longest of the batch."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        whole = pad_sequence(ids, batch_first=True)
        real = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
        labels = whole.masked_fill(real == 0, -100)
        return {"input_ids": whole, "attention_mask": real, "labels": labels}


def theirs(
    collator: Callable[[list[dict[str, Any]]], Any], setting: Setting, tokens: Tokens, folder: Path
) -> tuple[float, float]:
    """(useful tokens a second, FLOP/s) of Trainer with a collator."""
    sizes: list[list[int]] = []

    def collate(rows: list[dict[str, Any]]) -> Any:
        sizes.append([len(row["input_ids"]) for row in rows])
        return collator(rows)

    config = find_base(setting.base, None, from_scratch=True).config
    config.update({"vocab_size": VOCABULARY, "pad_token_id": 0})
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    watch = Watch()
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=ROWS,
        gradient_accumulation_steps=setting.accumulation,
        max_steps=setting.steps + 1,
        learning_rate=1e-4,
        max_grad_norm=0.5,
        weight_decay=0.0,
        bf16=setting.bf16,
        use_cpu=not setting.bf16,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    rows = Dataset.from_list([{"input_ids": chunk} for chunk in chunks(tokens)])
    Trainer(model, arguments, collate, rows, callbacks=[watch]).train()
    of_step = [
        np.concatenate(sizes[i : i + setting.accumulation])
        for i in range(0, (setting.steps + 1) * setting.accumulation, setting.accumulation)
    ]
    timed = np.concatenate(of_step[1:])
    seconds = watch.ends[-1] - watch.ends[0]
    return float(timed.sum()) / seconds, Flops(model).of(timed) / seconds


def chunks(tokens: Tokens) -> list[list[int]]:
    start, length = chunk_table(tokens.offsets, CONTEXT)
    spans = zip(start, length, strict=True)
    return [tokens.tokens[a : a + n].astype(int).tolist() for a, n in spans]


# --- the comparison ----------------------------------------------------------------------------

WAYS: dict[str, Callable[[Setting, Tokens, Path], tuple[float, float]]] = {
    "padded": lambda s, t, f: theirs(Padded(), s, t, f),
    "flattened": lambda s, t, f: theirs(flattened(), s, t, f),
    "ours": ours,
}


def flattened() -> Any:
    return DataCollatorWithFlattening(return_position_ids=True)


def measure(setting: Setting, data: Sequence[Path], rounds: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    flops: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        tokens = make_tokens(data, Path(name))
        for number in range(rounds):
            for way, run in WAYS.items():
                rate, pace = run(setting, tokens, Path(name) / f"{way}{number}")
                rates[way].append(rate)
                flops[way].append(pace)
    peak = peak_flops(torch.device("cuda" if setting.bf16 else "cpu"))
    lengths = lengths_of(tokens)
    found: dict[str, Any] = {
        "chunks": len(lengths),
        "mean chunk": float(lengths.mean()),
        "padded batches are full to": fill(lengths),
    }
    found |= {way: spread(values) for way, values in rates.items()}
    for way in ("padded", "flattened"):
        pairs = zip(rates["ours"], rates[way], strict=True)
        found[f"ours / {way}"] = spread([a / b for a, b in pairs])
    if peak:
        found["mfu"] = {way: statistics.median(pace) / peak for way, pace in flops.items()}
        step = tokens_per_step(setting, tokens) / statistics.median(rates["ours"])
        found["steps in 23.5 hours"] = int(23.5 * 3600 / step)
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(__file__).parents[3] / "shared" / "data" / "units"
    parser.add_argument("--data", nargs="+", type=Path, default=sorted(shared.glob("*.jsonl")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.gpu and not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured")
        return
    if not options.data:
        parser.error("give --data: a finished corpus, or JSONL files with `units`")
    found = measure(ON_GPU if options.gpu else ON_CPU, options.data, options.rounds)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), "utf-8")


if __name__ == "__main__":
    main()
