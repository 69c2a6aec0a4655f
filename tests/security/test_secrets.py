"""Tokens and keys reach no error, no log and no file of a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import Commands
from unitcorpus.build.executor import describe
from unitcorpus.errors import UnitcorpusError, redacted
from unitcorpus.recipe import load_recipe

SECRET = "s3cr3tvalue0123"
TOKEN = f"hf_{SECRET}"
LOCATIONS = [
    f"https://me:{SECRET}@127.0.0.1:1/rows.jsonl",
    f"https://127.0.0.1:1/rows.jsonl?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}",
    f"s3://{SECRET}:{SECRET}@bucket/rows.jsonl",
    f"gs://bucket/rows.jsonl?access_token={SECRET}",
]


@pytest.mark.parametrize(
    "text",
    [
        *LOCATIONS,
        f"401 Client Error for url: https://x.org/a?sig={SECRET}",
        f"Authorization: Bearer {TOKEN} was refused",
        f"cannot open 's3://k:{SECRET}@bucket/x', gave up",
        f'Invalid bucket name "k:{SECRET}@bucket": Bucket name must match',
    ],
)
def test_errors_do_not_tell_secrets_whoever_wrote_them(text: str) -> None:
    assert SECRET not in str(UnitcorpusError(f"cannot read: {text}"))
    assert SECRET not in describe(OSError(text))
    assert (
        redacted("s3://bucket/a@b.json?x=1 and me@x.org") == "s3://bucket/a@b.json?x=1 and me@x.org"
    )


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("command", ["build", "status", "verify", "export", "open-as-codebook"])
def test_no_failing_command_shows_a_secret(
    location: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = {
        "build": ["build", "demo/stinystories", "--set", f"source.path={location}", "--out", "c"],
        "open-as-codebook": ["kmeans", "import", location, "--out", "c.npy"],
    }.get(command, [command, location])
    monkeypatch.chdir(tmp_path)
    code, said = Commands(monkeypatch, capfd).run(*words)
    assert code == 2, said
    assert said.startswith("unitcorpus: ")
    assert SECRET not in said
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in data for data in written)


@pytest.mark.parametrize("location", LOCATIONS)
def test_what_is_kept_of_a_recipe_holds_no_secret(location: str) -> None:
    recipe = load_recipe("demo/stinystories", [f"source.path={location}"])
    for kept in (recipe.public(), recipe.local()):
        assert SECRET not in json.dumps(kept)
        assert kept["source"]["path"].endswith("/rows.jsonl")


def test_an_error_is_one_line_that_no_terminal_obeys() -> None:
    error = UnitcorpusError("one\ntwo \x1b]0;title\x07 three")
    assert str(error) == "one two  ]0;title  three"
