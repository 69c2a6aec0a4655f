"""The `source` section of a recipe, by its `kind`: where rows come from.

Each kind knows the layout of the samples that its rows become, and whether they are texts to speak,
recordings, or units already.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unitcorpus.recipe.audio import (
    AudioCorpusSource,
    AudioSource,
    HuggingfaceAudioSource,
    LibriLightSource,
    WebdatasetSource,
)
from unitcorpus.recipe.contrasts import (
    BlimpSource,
    ContrastsSource,
    RecordedSource,
    StoryClozeSource,
)
from unitcorpus.recipe.section import SourceSection, Splits


class StoriesSource(SourceSection):
    """Built-in stories from a seeded grammar; needs no file and no network."""

    kind: Literal["stories"] = "stories"
    path: None = None
    count: int = Field(240, ge=1)
    limit: int | None = Field(None, ge=1)


class TextSource(SourceSection):
    """A txt, jsonl, csv or parquet file (told by its ending), local or any fsspec URL."""

    kind: Literal["text"] = "text"
    path: str
    format: Literal["auto", "txt", "jsonl", "csv", "parquet"] = "auto"
    text_column: str = "text"
    id_column: str | None = Field(None, description="null: 'id' where there is such a column")
    limit: int | None = Field(None, ge=1)


class HuggingfaceSource(SourceSection):
    """A dataset of the Hugging Face Hub, or a local folder that `datasets` can load."""

    kind: Literal["huggingface"] = "huggingface"
    path: str
    name: str | None = None
    revision: str | None = None
    splits: Splits = Field(
        default={"train": "train"}, min_length=1, description="our split: the data set's split"
    )
    text_column: str = "text"
    id_column: str | None = None
    limit: int | None = Field(None, ge=1, description="rows of each split")


class UnitsSource(SourceSection):
    """Unit sequences that others published: JSONL with `units` or `audio_repr`; with
    `layout: pairs`, with `prompt`, `chosen` and `rejected`."""

    gives: ClassVar[Literal["text", "audio", "units"]] = "units"

    kind: Literal["units"] = "units"
    path: str
    layout: Literal["utterances", "pairs"] = "utterances"
    limit: int | None = Field(None, ge=1)


class PairsSource(SourceSection):
    """Texts to prefer one over another: a context, its right and a wrong continuation.

    A jsonl, csv or parquet file (told by its ending), a data set of the Hub, or a folder that
    `datasets` can load; no path: built-in pairs from the stories. `form` tells how a row is read:

    - `swag`: sent1, sent2, ending0 … ending3, label; of rows with a gold-source only the gold ones
    - `hellaswag`: ctx_a, ctx_b, endings, label
    - `joined`: ctx (or startphrase), endings, label; the last fragment of ctx opens the endings
    - `columns`: prompt, chosen and rejected, by the names given
    - `auto`: whichever the columns allow, `columns` first
    """

    layout_kind: ClassVar[str] = "pairs"

    kind: Literal["pairs"] = "pairs"
    path: str | None = None
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    form: Literal["auto", "swag", "hellaswag", "joined", "columns"] = "auto"
    prompt_column: str = "prompt"
    chosen_column: str = "chosen"
    rejected_column: str = "rejected"
    id_column: str | None = Field(None, description="null: 'id' where there is such a column")
    name: str | None = None
    revision: str | None = None
    splits: Splits = Field(default={"train": "train"}, min_length=1)
    count: int = Field(240, ge=1, description="how many built-in pairs")
    limit: int | None = Field(None, ge=1, description="rows of the file, or of each split")


class ManifestSource(SourceSection):
    """Recordings that belong together, one group a row of a jsonl, csv or parquet file: the columns
    prompt, chosen and rejected (or right and wrong) hold paths relative to the file's folder;
    `prompt_text` …, `speaker`, `group` and an id may stand beside them."""

    gives: ClassVar[Literal["text", "audio", "units"]] = "audio"

    kind: Literal["manifest"] = "manifest"
    path: str
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    layout: Literal["pairs", "contrasts"] = "pairs"
    id_column: str | None = Field(None, description="null: 'id' where there is such a column")
    limit: int | None = Field(None, ge=1)


Source = Annotated[
    StoriesSource
    | TextSource
    | HuggingfaceSource
    | UnitsSource
    | PairsSource
    | ManifestSource
    | ContrastsSource
    | StoryClozeSource
    | BlimpSource
    | RecordedSource
    | AudioSource
    | AudioCorpusSource
    | LibriLightSource
    | WebdatasetSource
    | HuggingfaceAudioSource,
    Field(discriminator="kind"),
]
