"""Long recordings cut where nobody speaks, into segments that are samples of their own.

A planned row names a file; what is found in it is known to its shard's receipt. A file is heard in
blocks, by silero-vad on the CPU at its 16 kHz, so that its length does not matter. The blocks are
resampled one by one: at their seams a few milliseconds are not what they are in the whole, which
moves no segment by more than a window of 32 ms. The segments themselves are read from the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from unitcorpus.build.recordings import Recordings
from unitcorpus.errors import Reject
from unitcorpus.recipe.audio import Segments
from unitcorpus.shards.inputs import Input, segment
from unitcorpus.speech.activity import RATE, SpeechDetector

if TYPE_CHECKING:
    import torch


class Segmenter:
    """Cuts planned rows. The detector runs on the CPU with the threads that torch has."""

    def __init__(self, section: Segments, recordings: Recordings) -> None:
        self._section, self._recordings = section, recordings
        self._detector = SpeechDetector()

    def __call__(self, row: Input) -> list[Input] | Reject:
        """The segments of a row of one recording, or why there are none. Raises UnitcorpusError for
        a file that is not the one planned with."""
        [part] = row.parts.values()
        heard = self._chances(self._recordings.blocks(part, RATE))
        if isinstance(heard, Reject):
            return heard
        chances, samples = heard
        offset = part.start or 0.0
        spans = cut(chances, samples, self._section)
        if not spans:
            least = self._section.min_seconds
            return Reject("no_speech", f"{part.audio}: no speech of {least:g} s or more")
        return [
            segment(row, number, round(offset + start, 3), round(offset + end, 3))
            for number, (start, end) in enumerate(spans)
        ]

    def _chances(self, blocks: Iterator[torch.Tensor | Reject]) -> tuple[list[float], int] | Reject:
        """The probability of speech in each window, and the samples heard; or what came instead of
        a block."""
        listener = self._detector.listen()
        chances: list[float] = []
        for block in blocks:
            if isinstance(block, Reject):
                return block
            chances += listener.hear(block.nan_to_num(0, 0, 0))
        return chances + listener.end(), listener.samples


def cut(chances: list[float], samples: int, section: Segments) -> list[tuple[float, float]]:
    """Start and end in seconds of the segments, by the probability of speech in each window of
    `samples` samples. None is longer or shorter than the section allows, and none overlap."""
    from silero_vad import get_speech_timestamps_from_probs

    found = get_speech_timestamps_from_probs(
        chances,
        sampling_rate=RATE,
        threshold=section.threshold,
        min_speech_duration_ms=1000 * section.min_seconds,
        max_speech_duration_s=section.max_seconds,
        min_silence_duration_ms=1000 * section.gap,
        speech_pad_ms=1000 * section.padding,
        audio_length_samples=samples,
    )
    spans = [(float(span["start"]) / RATE, float(span["end"]) / RATE) for span in found]
    return [(start, end) for start, end in spans if end - start >= section.min_seconds]
