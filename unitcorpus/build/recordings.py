"""Recorded audio as a stage: files below the source's folder in place of a speech engine.

Files are read in blocks, so that of a long one with several channels no more is held than its mix
at its own rate. Pairs and test sets take only what the extractor can use as it is, or after
resampling downwards; plain corpora average channels and, unless `source.low_rate` says otherwise,
resample upwards too. A file without sound is a reject. Rejects name the file as the source does,
never by its place on this machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import Reject, UnitcorpusError, within
from unitcorpus.recipe.audio import AudioSection
from unitcorpus.recipe.section import SourceSection
from unitcorpus.shards.inputs import PlannedPart
from unitcorpus.sources import CONTAINERS
from unitcorpus.speech.silence import silence
from unitcorpus.units.resample import resample

if TYPE_CHECKING:
    import soundfile
    import torch

ODD = 10_000
"""A rate that has no simpler ratio to the extractor's is taken for a broken header: the kernel of
its resampling would not fit in memory."""

BLOCK = 30
"""Seconds that are read at a time."""

SHORT_BY = 0.1
"""Seconds by which a planned end may lie behind the end of its file: times are rounded."""

# What libsndfile notes of a WAV file that ends before its data does. Writers that could not seek
# back leave 0 or the largest sizes there, and what follows is whole.
_CUT_OFF = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN = 0x7FFF_FFFF - 2**16


class Recordings:
    """Reads planned parts as float32 waveforms [samples] at `sample_rate`."""

    def __init__(self, source: SourceSection, sample_rate: int) -> None:
        path = Path(getattr(source, "path", None) or ".").expanduser()
        self._folder = path.parent if path.is_file() else path
        container = CONTAINERS.get(source.kind) if isinstance(source, AudioSection) else None
        self._container = container(source, 0) if container else None
        self._rate = sample_rate
        self._mixed = isinstance(source, AudioSection)
        self._upsampled = isinstance(source, AudioSection) and source.low_rate == "resample"

    @staticmethod
    def describe(source: SourceSection) -> dict[str, Any]:
        """What a plan records in place of a speech engine: the decoder, and what is done to files
        that are not as the extractor wants them."""
        import soundfile

        said = {"engine": "recorded", "libsndfile": soundfile.__libsndfile_version__}
        if isinstance(source, AudioSection):
            said |= {"channels": "averaged", "low_rate": source.low_rate}
            if source.segments is not None:  # the detector's weights come with its package
                said |= {"detector": f"silero-vad {version('silero-vad')}"}
        return said

    def read(self, parts: Sequence[PlannedPart]) -> list[torch.Tensor | Reject]:
        """One waveform each, on the CPU, or why there is none. Raises UnitcorpusError for a file
        that is not the one planned with."""
        return [self._read(part) for part in parts]

    def _opened(self, part: PlannedPart) -> soundfile.SoundFile | Reject:
        """The file of a part, or why it cannot be used. Raises UnitcorpusError for one that is not
        as planned."""
        import soundfile

        try:
            file = soundfile.SoundFile(self._found(part))
        except soundfile.LibsndfileError as error:  # its string holds the path, in some quoting
            return Reject("unreadable_audio", f"{part.audio}: {error.error_string}")
        except TypeError:  # raw samples, by the file's ending
            return Reject("unreadable_audio", f"{part.audio}: it has no header")
        if reject := self._refused(file, part.audio):
            file.close()
            return reject
        return file

    def _found(self, part: PlannedPart) -> str | BytesIO:
        """The path of a part, or its bytes. Raises UnitcorpusError as `_opened`."""
        if self._container is not None:
            return BytesIO(self._container.fetch(part.audio, part.audio_bytes, part.offset))
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
        return str(path)

    def _refused(self, file: soundfile.SoundFile, name: str) -> Reject | None:
        """What a file's header says against it."""
        if max(file.samplerate, self._rate) > ODD * math.gcd(file.samplerate, self._rate):
            return Reject("odd_rate", f"{name} says {file.samplerate} Hz, which no recorder has")
        if file.channels != 1 and not self._mixed:
            return Reject("not_mono", f"{name} has {file.channels} channels")
        if file.samplerate < self._rate and not self._upsampled:
            return Reject(
                "low_rate", f"{name} has {file.samplerate} Hz, the extractor {self._rate}"
            )
        cut = _CUT_OFF.search(file.extra_info)
        if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN:
            return Reject("truncated_audio", f"{name} has {cut[2]} of its {cut[1]} bytes of sound")
        return None

    def _read(self, part: PlannedPart) -> torch.Tensor | Reject:
        import torch

        file = self._opened(part)
        if isinstance(file, Reject):
            return file
        with file:
            rate, mixes = file.samplerate, list(_mixes(file, part.start, part.end))
        if mixes and isinstance(mixes[-1], Reject):
            return within(mixes[-1], part.audio)
        waves = [mix for mix in mixes if not isinstance(mix, Reject)]
        mono = torch.from_numpy(np.concatenate([*waves, np.empty(0, np.float32)]))
        if quiet := silence(mono):
            return within(quiet, part.audio)
        return resample(mono, rate, self._rate)

    def blocks(self, part: PlannedPart, rate: int) -> Iterator[torch.Tensor | Reject]:
        """A part as waveforms [samples] at `rate`, a block at a time, each resampled for itself; a
        Reject is the last."""
        import torch

        file = self._opened(part)
        if isinstance(file, Reject):
            yield file
            return
        with file:
            for mix in _mixes(file, part.start, part.end):
                if isinstance(mix, Reject):
                    yield within(mix, part.audio)
                else:
                    yield resample(torch.from_numpy(mix), file.samplerate, rate)


def _mixes(
    file: soundfile.SoundFile, start: float | None, end: float | None
) -> Iterator[NDArray[np.float32] | Reject]:
    """Blocks of the mix [samples] of what lies between two times of a file, or of all of it; where
    it cannot be read to the end, a Reject is the last."""
    import soundfile

    rate, frames = file.samplerate, file.frames
    first, last = 0, frames
    if start is not None and end is not None:
        first, last = round(start * rate), round(end * rate)
        if last > frames + SHORT_BY * rate or first >= frames:
            yield Reject("past_the_end", f"{end:g} s of a file of {frames / rate:g} s")
            return
        last = min(last, frames)
    try:
        file.seek(first)
        while first < last and len(block := _mixed(file, min(BLOCK * rate, last - first))):
            yield block
            first += len(block)
    except soundfile.LibsndfileError as error:
        yield Reject("unreadable_audio", error.error_string)
        return
    if first < last:
        yield Reject("truncated_audio", f"it ends after {first / rate:g} of {last / rate:g} s")


def _mixed(file: soundfile.SoundFile, frames: int) -> NDArray[np.float32]:
    """The mean of the channels [samples] of the next `frames` frames; fewer at the end."""
    wave = file.read(frames, dtype="float32", always_2d=True)
    mix: NDArray[np.float32] = wave[:, 0] if wave.shape[1] == 1 else wave.mean(1, np.float32)
    return np.ascontiguousarray(mix)
