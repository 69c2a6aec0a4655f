"""One worker: models loaded once, shards built one after another.

The same class runs in the driver's process and in a Ray actor. A shard's files appear in the order
data, audio, rejects, receipt; whatever is killed before the receipt is built again, to the same
bytes.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.build.plan import EXCERPT, Plan, ShardPlan
from unitcorpus.build.stages import Encoded, load_stages
from unitcorpus.errors import Reject
from unitcorpus.shards.format import npy_bytes
from unitcorpus.shards.inputs import Input, read_inputs
from unitcorpus.shards.receipt import (
    FileMark,
    Receipt,
    audio_path,
    data_path,
    rejects_path,
    write_receipt,
)
from unitcorpus.shards.writer import AtomicFile, ShardWriter

CHUNK = 8
"""Rows that go through the stages together. Their composition never leaves the shard."""


@dataclass(frozen=True)
class Progress:
    """What a worker has done of a shard so far: rows, of them rejected, audio in seconds, and the
    time by stage in seconds."""

    shard: str
    rows: int
    rejected: int
    audio: float
    timings: dict[str, float]


@dataclass
class _Totals:
    samples: int = 0
    num_samples: int = 0
    frames: int = 0
    units: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class Worker:
    """Builds shards of one plan into one corpus directory."""

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self.plan, self.root = plan, root
        self.stages = load_stages(plan, root, device)
        self.rate = int(plan.units["extractor"].get("sample_rate", 0))

    def build(
        self,
        shard: ShardPlan,
        report: Callable[[Progress], None] = lambda _: None,
        attempt: int = 1,
    ) -> Receipt:
        """Builds one shard and commits it. Raises whatever broke it; then nothing is committed."""
        steps = self.steps(shard, attempt)
        while True:
            try:
                report(next(steps))
            except StopIteration as end:
                receipt: Receipt = end.value
                return receipt

    def steps(self, shard: ShardPlan, attempt: int = 1) -> Generator[Progress, None, Receipt]:
        """`build` as a generator: yields after every chunk of rows, returns the receipt."""
        self.stages.clock.seconds.clear()
        start = time.perf_counter()
        totals = _Totals()
        rows = read_inputs(self.root, shard.name)
        with _Output(self, shard, totals) as output:
            for first in range(0, len(rows), CHUNK):
                chunk = rows[first : first + CHUNK]
                results = self.stages(chunk)
                with self.stages.clock.measure("writing"):
                    for row, result in zip(chunk, results, strict=True):
                        output.write(row, result)
                yield self._progress(shard, first + len(chunk), totals)
            with self.stages.clock.measure("writing"):
                output.close()
        timings = {**self.stages.clock.seconds, "all": time.perf_counter() - start}
        receipt = output.receipt(timings, attempt)
        write_receipt(self.root, receipt)
        return receipt

    def close(self) -> None:
        self.stages.close()

    def _progress(self, shard: ShardPlan, rows: int, totals: _Totals) -> Progress:
        audio = (
            totals.num_samples / self.rate
            if self.rate
            else totals.frames / self.plan.units["frame_rate"]
        )
        rejected = sum(totals.rejected.values())
        return Progress(shard.name, rows, rejected, audio, dict(self.stages.clock.seconds))


class _Output:
    """The files of a shard being built. They appear when the block ends without an error."""

    def __init__(self, worker: Worker, shard: ShardPlan, totals: _Totals) -> None:
        self.plan, self.rate, self.shard, self.totals = worker.plan, worker.rate, shard, totals
        root = worker.root
        keep_audio = self.plan.recipe.shards.audio == "flac" and self.rate > 0
        self.data = ShardWriter(data_path(root, shard.name))
        self.audio = ShardWriter(audio_path(root, shard.name)) if keep_audio else None
        self.rejects = AtomicFile(rejects_path(root, shard.name))
        self._files = ExitStack()

    def __enter__(self) -> _Output:
        # Closed in reverse: data first, then audio, then rejects; the receipt comes last of all.
        for file in (self.rejects, self.audio, self.data):
            if file is not None:
                self._files.enter_context(file)
        return self

    def close(self) -> None:
        self._files.close()

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    def write(self, row: Input, result: Encoded | Reject) -> None:
        totals = self.totals
        if isinstance(result, Reject):
            totals.rejected[result.reason] += 1
            self.rejects.write(_reject_line(row, result))
            return
        self.data.sample(row.key, self._members(row, result))
        if self.audio is not None:
            self.audio.sample(row.key, {"flac": _flac(result, self.rate)})
        totals.samples += 1
        totals.num_samples += result.num_samples
        totals.frames += int(result.durations.sum()) if result.durations is not None else 0
        totals.units += len(result.units)

    def _members(self, row: Input, sample: Encoded) -> dict[str, bytes]:
        """The files of a sample. Every sample of a corpus has the same fields, of the same types:
        `datasets` infers its schema from the first five."""
        meta: dict[str, Any] = {"id": row.id, "text": row.text}
        members = {"units.npy": npy_bytes(sample.units)}
        if self.plan.recipe.speech is not None:
            meta["voice"] = row.voice
            meta["num_samples"] = sample.num_samples
            meta["seconds"] = sample.num_samples / self.rate
        if sample.durations is not None:
            members["durations.npy"] = npy_bytes(sample.durations)
            if "seconds" not in meta:
                meta["seconds"] = int(sample.durations.sum()) / self.plan.units["frame_rate"]
        text = json.dumps(meta, sort_keys=True, ensure_ascii=False)
        return {**members, "json": text.encode()}

    def receipt(self, timings: dict[str, float], attempt: int) -> Receipt:
        """The receipt, once the files are closed."""
        totals = self.totals
        return Receipt(
            shard=self.shard.name,
            split=self.shard.split,
            plan=self.plan.fingerprint,
            unit_spec=self.plan.units["fingerprint"],
            input=self.shard.sha256,
            data=FileMark(self.data.sha256, self.data.size),
            rejects=FileMark(self.rejects.sha256, self.rejects.size),
            rejected=dict(sorted(totals.rejected.items())),
            samples=totals.samples,
            num_samples=totals.num_samples,
            frames=totals.frames,
            units=totals.units,
            audio=FileMark(self.audio.sha256, self.audio.size) if self.audio else None,
            timings={stage: round(seconds, 4) for stage, seconds in timings.items()},
            run={"attempt": attempt},
        )


def _reject_line(row: Input, reject: Reject) -> bytes:
    line = {
        "key": row.key,
        "id": row.id,
        "reason": reject.reason,
        "detail": reject.detail,
        "text": row.text[:EXCERPT],
    }
    return json.dumps(line, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _flac(sample: Encoded, rate: int) -> bytes:
    """The audio that the units were made from, as 16-bit FLAC."""
    import soundfile

    assert sample.wave is not None
    buffer = BytesIO()
    wave = np.clip(sample.wave.cpu().numpy(), -1.0, 32767 / 32768)
    soundfile.write(buffer, wave, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
