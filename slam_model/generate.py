"""Continues speech: recordings, or the beginnings of a corpus's samples.

    python -m slam_model.generate runs/slam/final a.wav b.wav --units corpora/stinystories --out out
    python -m slam_model.generate runs/slam/final --data corpora/stinystories --split validation \\
        --limit 10 --prompt-seconds 3 --vocoder models/hifigan_lj_mhubert_base_25hz --out out

Writes OUT/generations.jsonl, a line per prompt with its units, those that follow and the settings,
and with a vocoder OUT/ID.wav, the prompt and what follows. A continuation depends on its prompt,
(seed, id) and the settings, not on its batch. The id is the file's name or the sample's key.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.utils import logging

from slam_model import command
from slam_model.decoding import Sampling, decode, load_generator
from slam_model.prompts import Prompts, corpus_prompts, wav_prompts
from slam_model.vocoder import UnitVocoder, load_vocoder
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.writer import write_atomic

PROMPT_SECONDS = 3.0
"""Of a corpus's samples, as in the paper."""


@dataclass(frozen=True)
class Generation:
    """Units uint16 [n] each. `ended`: the model ended the sequence itself."""

    id: str
    prompt: NDArray[np.uint16]
    continuation: NDArray[np.uint16]
    ended: bool

    def units(self, prompt_included: bool = True) -> NDArray[np.uint16]:
        parts = [self.prompt, self.continuation] if prompt_included else [self.continuation]
        return np.concatenate(parts)

    def record(self, settings: dict[str, Any]) -> dict[str, Any]:
        """As generations.jsonl has it."""
        return {
            "id": self.id,
            "prompt": self.prompt.tolist(),
            "continuation": self.continuation.tolist(),
            "ended": self.ended,
            "seed": settings["seed"],
            "settings": {name: value for name, value in settings.items() if name != "seed"},
        }


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    logging.disable_progress_bar()
    sampling = sampling_of(options)
    prompts = _prompts(options)
    vocoder = find_vocoder(options.vocoder, prompts.vocabulary, options.device)
    model = load_generator(
        options.checkpoint, prompts.vocabulary, options.dtype, options.device, prompts.unit_spec
    )
    found = generate(model, prompts, sampling, options.batch)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "checkpoint": options.checkpoint,
        **asdict(sampling),
        "dtype": options.dtype,
    }
    lines = [json.dumps(one.record(settings), ensure_ascii=False) + "\n" for one in found]
    write_atomic(out / "generations.jsonl", "".join(lines).encode())
    if vocoder is not None:
        for one in found:
            write_wav(out / f"{one.id}.wav", vocoder(one.units()), vocoder.sample_rate)
    print(f"{len(found)} continuations in {out}/generations.jsonl", file=sys.stderr)
    return 0


def generate(
    model: PreTrainedModel, prompts: Prompts, sampling: Sampling, batch: int
) -> list[Generation]:
    """A continuation of each prompt, in their order."""
    found = decode(model, prompts.tokens(), prompts.ids, sampling, batch)
    triples = zip(prompts.ids, prompts.units, found, strict=True)
    return [Generation(i, p, c, len(c) < sampling.tokens) for i, p, c in triples]


def find_vocoder(folder: str | None, vocabulary: int, device: str) -> UnitVocoder | None:
    """The vocoder of a corpus's units, or None without a `folder`. Raises UnitcorpusError."""
    if folder is None:
        return None
    vocoder = load_vocoder(folder, device)
    if vocoder.size != vocabulary - 2:
        raise UnitcorpusError(
            f"the vocoder {folder} speaks {vocoder.size} units, the model {vocabulary - 2}"
        )
    return vocoder


def write_wav(path: Path, wave: torch.Tensor, sample_rate: int) -> None:
    """A waveform float [samples] as 16-bit WAV."""
    import soundfile

    soundfile.write(str(path), wave.cpu().numpy(), sample_rate, subtype="PCM_16")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field of Sampling, with its default, and how to run it."""
    words = {
        "tokens": "units that are added, at most",
        "temperature": "0: the likeliest unit each time",
        "top_k": "of so many likeliest units; 0: of all",
        "top_p": "of the likeliest units that have this probability together",
        "repetition_penalty": "of units that were there, the prompt's too; the paper's DPO: 1.1",
        "seed": "of the draws, with the prompt's id",
    }
    group = parser.add_argument_group("generation")
    for field in fields(Sampling):
        kind = type(field.default)
        name = f"--{field.name.replace('_', '-')}"
        if name not in parser._option_string_actions:
            said = f"{words[field.name]} (default: {field.default})"
            group.add_argument(name, type=kind, default=field.default, help=said)
    group.add_argument("--batch", type=_positive, default=32, help="prompts at once (default: 32)")
    group.add_argument("--limit", type=_positive, help="prompts of --data, from the first")
    group.add_argument(
        "--prompt-seconds",
        type=_seconds,
        help=f"of each prompt (default: {PROMPT_SECONDS:g} of --data, all of a recording)",
    )
    group.add_argument("--vocoder", metavar="FOLDER", help="speaks the units, too")


def sampling_of(options: argparse.Namespace) -> Sampling:
    """What `add_sampling_options` asked for. Raises UnitcorpusError."""
    return Sampling(**{field.name: getattr(options, field.name) for field in fields(Sampling)})


def _prompts(options: argparse.Namespace) -> Prompts:
    if bool(options.data) == bool(options.prompts):
        raise UnitcorpusError("give either recordings as prompts, or --data CORPUS")
    if options.data:
        seconds = options.prompt_seconds or PROMPT_SECONDS
        return corpus_prompts(options.data, options.split, seconds, options.limit)
    if not options.units:
        raise UnitcorpusError("--units CORPUS is needed: whose units the recordings are to become")
    return wav_prompts(
        options.prompts, options.units, options.prompt_seconds, options.hubert, options.device
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no length in seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slam_model.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="recordings, mono")
    parser.add_argument("--units", metavar="CORPUS", help="whose units the recordings become")
    parser.add_argument("--hubert", metavar="FOLDER", help="its extractor, where it is a folder")
    parser.add_argument("--data", metavar="CORPUS", help="whose samples are continued")
    parser.add_argument("--split", default="validation", help="of --data (default: validation)")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_sampling_options(parser)
    return parser


if __name__ == "__main__":
    command.run(main)
