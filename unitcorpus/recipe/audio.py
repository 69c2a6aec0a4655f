"""The `source` sections of plain corpora of recordings: one utterance a file, or a stretch of one.

None of these corpora can be fetched by a recipe; each section knows where its data is to be had,
and says so where the path is missing.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.section import Section, SourceSection, Splits

HOMES = {
    "audio": "FOLDER or FILE, recordings or a .jsonl, .csv or .parquet file that lists them",
    "librispeech": "FOLDER, LibriSpeech/ unpacked from https://www.openslr.org/12",
    "librilight": (
        "FOLDER, small/, medium/ or large/ unpacked from https://github.com/facebookresearch/"
        "libri-light, or the folder that holds them"
    ),
    "swc": "FOLDER, english/ unpacked from https://nats.gitlab.io/swc",
    "tedlium": "FOLDER, TEDLIUM_release-3/ unpacked from https://www.openslr.org/51",
    "peoples_speech": (
        "FOLDER, the folders of https://huggingface.co/datasets/MLCommons/peoples_speech with "
        "their tars unpacked"
    ),
    "webdataset": "FOLDER, FILE.tar or URL, tars that webdataset reads, with audio in them",
    "huggingface_audio": "NAME of a data set of the Hub, or FOLDER of one, with an audio column",
    "voxpopuli": (
        "FOLDER, unlabelled_data/LANG or transcribed_data/LANG as made by "
        "https://github.com/facebookresearch/voxpopuli"
    ),
}
"""What source.path has to be, and where it is to be had."""


class Segments(Section):
    """Long files cut where nobody speaks (silero-vad); lengths in seconds. Segments are samples of
    their own."""

    min_seconds: float = Field(1.0, gt=0, le=3600, description="shorter speech is left out")
    max_seconds: float = Field(30.0, gt=0, le=3600, description="longer speech is cut")
    threshold: float = Field(0.5, gt=0, lt=1, description="probability that counts as speech")
    gap: float = Field(0.5, ge=0, le=60, description="a shorter pause ends no segment")
    padding: float = Field(0.1, ge=0, le=10, description="kept before and after the speech")

    @model_validator(mode="after")
    def _leaves_room(self) -> Segments:
        if self.max_seconds < 2 * self.min_seconds + 2 * self.padding:
            raise ValueError("max_seconds has to be twice min_seconds and padding, or more")
        return self


class AudioSection(SourceSection):
    """What the kinds share. Channels are averaged; `low_rate` says what becomes of files with a
    rate below the extractor's."""

    gives: ClassVar[Literal["text", "audio", "units"]] = "audio"

    kind: str
    path: str | None = None
    low_rate: Literal["resample", "reject"] = "resample"
    segments: Segments | None = Field(None, description="null: files are not cut")
    limit: int | None = Field(None, ge=1, description="utterances")

    def located(self) -> str:
        """The path. Raises UnitcorpusError where the recipe has none."""
        if self.path is None:
            home = HOMES[self.kind]
            raise UnitcorpusError(
                f"source.path is missing: give --set source.path={home} (docs/recipes.md)"
            )
        return self.path


class AudioSource(AudioSection):
    """A folder of recordings, or a jsonl, csv or parquet file that lists some, with paths relative
    to its folder and what is known of them: text, speaker, id, split, start and end (seconds)."""

    kind: Literal["audio"] = "audio"
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    audio_column: str | None = Field(
        None, description="null: 'audio', 'path', 'file' or 'audio_filepath'"
    )
    text_column: str | None = Field(None, description="null: 'text' where there is such a column")
    speaker_column: str | None = Field(None, description="null: 'speaker', likewise")
    id_column: str | None = Field(None, description="null: 'id', likewise")


class AudioCorpusSource(AudioSection):
    """Corpora in the layouts of their downloads: one file of unitcorpus/sources each."""

    kind: Literal["librispeech", "swc", "tedlium", "peoples_speech", "voxpopuli"]


class WebdatasetSource(AudioSection):
    """Tars as webdataset writes them: of each sample KEY.flac (or .wav, .mp3, .opus …), and its
    text in KEY.txt or in KEY.json. A tar, a folder of tars, or an fsspec URL, which may name
    several (`s3://bucket/train-{000000..000099}.tar`)."""

    kind: Literal["webdataset"] = "webdataset"
    text_column: str = "text"
    speaker_column: str = "speaker"
    id_column: str | None = Field(None, description="null: the key is the id")


class HuggingfaceAudioSource(AudioSection):
    """A data set of the Hub, or a local folder that `datasets` can load, with recordings in it."""

    kind: Literal["huggingface_audio"] = "huggingface_audio"
    name: str | None = None
    revision: str | None = None
    splits: Splits = Field(
        default={"train": "train"}, min_length=1, description="our split: the data set's split"
    )
    audio_column: str = "audio"
    text_column: str | None = Field(None, description="null: 'text' where there is such a column")
    speaker_column: str | None = Field(None, description="null: 'speaker', likewise")
    id_column: str | None = Field(None, description="null: 'id', likewise")
    limit: int | None = Field(None, ge=1, description="rows of each split")


class LibriLightSource(AudioSection):
    """Libri-Light: chapters with JSON files beside them, cut by the speech that those list, into
    stretches of at most `cut_seconds` (null: whole chapters)."""

    kind: Literal["librilight"] = "librilight"
    cut_seconds: float | None = Field(30.0, gt=0, le=3600)
