"""The `source` sections of likelihood test sets: pairs of which the right one should be likelier.

Most of these sets are not on the Hub, or not in this form, so a recipe cannot hold their path; each
section knows where its data is to be had, and says so where the path is missing.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.section import SourceSection, Splits

_ZEROSPEECH = "FOLDER, the ZeroSpeech 2021 evaluation set from https://download.zerospeech.com"
HOMES = {
    "storycloze": "FILE, the Story Cloze Test (CSV) from https://cs.rochester.edu/nlp/rocstories",
    "blimp": "FOLDER, the folder data of https://github.com/alexwarstadt/blimp",
    "sblimp": _ZEROSPEECH,
    "swuggy": _ZEROSPEECH,
    "salmon": "FOLDER, the unpacked wavs of https://github.com/slp-rl/salmon",
    "spoken_storycloze": (
        "FOLDER, unpacked from https://github.com/slp-rl/SpokenStoryCloze (sSC or tSC)"
    ),
}
"""What source.path has to be, and where it is to be had."""


class ContrastSection(SourceSection):
    """What the kinds share: rows of a right and a wrong part, both the split `test`."""

    layout_kind: ClassVar[str] = "contrasts"

    kind: str
    path: str | None = None
    limit: int | None = Field(None, ge=1, description="pairs")

    def located(self) -> str:
        """The path. Raises UnitcorpusError where the recipe has none."""
        if self.path is None:
            home = HOMES[self.kind]
            raise UnitcorpusError(
                f"source.path is missing: give --set source.path={home} (docs/recipes.md)"
            )
        return self.path


class ContrastsSource(ContrastSection):
    """Pairs of texts in named columns: a jsonl, csv or parquet file (told by its ending), a data
    set of the Hub, or a folder that `datasets` can load; no path: built-in pairs from the stories.

    The built-in ones are of two groups. `ending`: the last sentence comes from another story;
    `order`: two of a story's sentences changed places.
    """

    kind: Literal["contrasts"] = "contrasts"
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    right_column: str = "right"
    wrong_column: str = "wrong"
    id_column: str | None = Field(None, description="null: 'id' where there is such a column")
    group_column: str | None = Field(None, description="null: 'group' where there is such a column")
    name: str | None = None
    revision: str | None = None
    splits: Splits = Field(default={"test": "test"}, min_length=1)
    count: int = Field(240, ge=1, description="how many built-in pairs")


class StoryClozeSource(ContrastSection):
    """The Story Cloze Test: four sentences and their right or a wrong fifth, as one utterance each.

    `wrong: given` takes the wrong ending of the test (sStoryCloze), `other_story` the right ending
    of another story of the same set (tStoryCloze).
    """

    kind: Literal["storycloze"] = "storycloze"
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    wrong: Literal["given", "other_story"] = "given"
    name: str | None = None
    revision: str | None = None
    splits: Splits = Field(default={"test": "test"}, min_length=1)


class BlimpSource(ContrastSection):
    """BLiMP: a folder of JSONL files, one a paradigm, or one such file."""

    kind: Literal["blimp"] = "blimp"


class RecordedSource(ContrastSection):
    """Test sets of recordings, in the layouts of their downloads.

    - `sblimp`, `swuggy`: ZeroSpeech 2021, gold.csv with its wavs beside it
    - `salmon`: SALMon, a folder for each task
    - `spoken_storycloze`: the published sStoryCloze and tStoryCloze
    """

    gives: ClassVar[Literal["text", "audio", "units"]] = "audio"

    kind: Literal["sblimp", "swuggy", "salmon", "spoken_storycloze"]
