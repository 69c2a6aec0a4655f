"""Recorded audio as a stage: files below the source's folder in place of a speech engine.

Only what the extractor can use as it is, or after resampling downwards: a file with several
channels, or with less of the spectrum than the extractor was trained on, is a reject. So is one
without sound. Rejects name the file as the source does, never by its place on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import Reject, UnitcorpusError, within
from unitcorpus.shards.inputs import PlannedPart
from unitcorpus.speech.silence import silence
from unitcorpus.units.resample import resample

if TYPE_CHECKING:
    import torch


class Recordings:
    """Reads the files of planned parts as float32 waveforms [samples] at `sample_rate`."""

    def __init__(self, source: str, sample_rate: int) -> None:
        """`source` is the folder that the parts' names begin at, or a file in it."""
        path = Path(source).expanduser()
        self._folder = path.parent if path.is_file() else path
        self._rate = sample_rate

    @staticmethod
    def describe() -> dict[str, Any]:
        """What a plan records in place of a speech engine: the decoder."""
        import soundfile

        return {"engine": "recorded", "libsndfile": soundfile.__libsndfile_version__}

    def read(self, parts: Sequence[PlannedPart]) -> list[torch.Tensor | Reject]:
        """One waveform each, on the CPU, or why there is none. Raises UnitcorpusError for a file
        that is not the one planned with."""
        return [self._read(part) for part in parts]

    def _read(self, part: PlannedPart) -> torch.Tensor | Reject:
        import soundfile
        import torch

        path = self._folder / part.audio
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UnitcorpusError(f"cannot read {path}: {error.strerror}") from None
        if size != part.audio_bytes:
            raise UnitcorpusError(
                f"{path} has {size} bytes, planned were {part.audio_bytes}: the source changed; "
                "put it back, or build again with --overwrite"
            )
        try:
            wave, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:  # its string holds the path, in some quoting
            return Reject("unreadable_audio", f"{part.audio}: {error.error_string}")
        if wave.shape[1] != 1:
            return Reject("not_mono", f"{part.audio} has {wave.shape[1]} channels")
        if rate < self._rate:
            return Reject("low_rate", f"{part.audio} has {rate} Hz, the extractor {self._rate}")
        mono = torch.from_numpy(wave[:, 0].copy())
        if quiet := silence(mono):
            return within(quiet, part.audio)
        return resample(mono, rate, self._rate)
