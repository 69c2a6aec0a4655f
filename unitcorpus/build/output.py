"""The files of a shard being built: data, audio, rejects, and what its receipt will count."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unitcorpus.build.plan import Plan, ShardPlan, reject_fields
from unitcorpus.build.sample import members, sample_rate
from unitcorpus.build.stages import Encoded
from unitcorpus.errors import Reject
from unitcorpus.shards.inputs import Input
from unitcorpus.shards.receipt import FileMark, Receipt, audio_path, data_path, rejects_path
from unitcorpus.shards.writer import AtomicFile, ShardWriter


@dataclass
class Totals:
    samples: int = 0
    num_samples: int = 0
    frames: int = 0
    units: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, parts: list[Encoded]) -> None:
        """Counts a sample."""
        self.samples += 1
        for part in parts:
            self.num_samples += part.num_samples
            self.frames += int(part.durations.sum()) if part.durations is not None else 0
            self.units += len(part.units)


class Output:
    """The files of a shard being built. They appear when the block ends without an error."""

    def __init__(self, plan: Plan, root: Path, shard: ShardPlan) -> None:
        self.plan, self.shard, self.totals = plan, shard, Totals()
        keep_audio = plan.recipe.shards.audio == "flac" and sample_rate(plan.units) > 0
        self.data = ShardWriter(data_path(root, shard.name))
        self.audio = ShardWriter(audio_path(root, shard.name)) if keep_audio else None
        self.rejects = AtomicFile(rejects_path(root, shard.name))
        self._files = ExitStack()

    def __enter__(self) -> Output:
        # Closed in reverse: data first, then audio, then rejects; the receipt comes last of all.
        for file in (self.rejects, self.audio, self.data):
            if file is not None:
                self._files.enter_context(file)
        return self

    def close(self) -> None:
        self._files.close()

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    def write(self, row: Input, result: list[Encoded] | Reject) -> None:
        sample = result if isinstance(result, Reject) else members(self.plan, row, result)
        if isinstance(sample, Reject):
            self.totals.rejected[sample.reason] += 1
            self.rejects.write(reject_line(row.key, row.id, row.text, sample))
            return
        assert not isinstance(result, Reject)
        self.data.sample(row.key, sample)
        if self.audio is not None:
            parts = zip(self.plan.layout.parts, result, strict=True)
            names = self.plan.layout.audio
            self.audio.sample(row.key, {names(n): part.flac or b"" for n, part in parts})
        self.totals.add(result)

    def receipt(
        self, timings: dict[str, float], run: dict[str, Any], segments: list[int]
    ) -> Receipt:
        """The receipt, once the files are closed. `run` is what it says of how it was built,
        `segments` how many were found in each planned row, for a recipe that cuts them."""
        totals = self.totals
        cut = getattr(self.plan.recipe.source, "segments", None) is not None
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
            segments=segments if cut else None,
            timings={stage: round(seconds, 4) for stage, seconds in timings.items()},
            run=run,
        )


def reject_line(key: str, name: str, text: str, reject: Reject) -> bytes:
    """The line of a row, by its key and id, in the rejects of its shard."""
    line = {"key": key, "id": name, **reject_fields(reject, text)}
    return json.dumps(line, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
