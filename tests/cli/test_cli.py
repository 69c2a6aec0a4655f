"""The command line as a person meets it: exit codes, one-line errors, what is printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SMALL, Digests

SETTINGS = [word for setting in SMALL for word in ("--set", setting)]


def unitcorpus(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unitcorpus", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should: one line, exit code 2, no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_build_verify_status_and_export_work_together(tmp_path: Path) -> None:
    out = tmp_path / "c"
    built = unitcorpus("build", "demo/stinystories", *SETTINGS, "--out", out)
    assert built.returncode == 0, built.stderr
    assert "12 utterances" in built.stdout or "train" in built.stdout
    verified = unitcorpus("verify", out)
    assert (verified.returncode, "whole" in verified.stdout) == (0, True)
    looked = unitcorpus("status", out, "--json")
    assert json.loads(looked.stdout)["state"] == "finished"
    exported = unitcorpus("export", out, "--split", "train")
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert set(lines[0]) == {"file_name", "units", "duration", "text"}
    unitcorpus("export", out, "--format", "tokens", "--out", tmp_path / "t.jsonl")
    first = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert first["audio_repr"] == "".join(f"<Un{u}>" for u in lines[0]["units"])


def test_plan_writes_nothing_and_foretells_the_corpus(small_corpus: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "unitcorpus",
            "plan",
            "demo/stinystories",
            *SETTINGS,
            "--measure",
            "12",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
    assert "12  (" in result.stdout
    total = json.loads((small_corpus / "corpus.json").read_text())["splits"]
    units = sum(split["units"] for split in total.values())
    assert f"{units:,} units" in result.stdout  # every row was measured, so the estimate is exact


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build", "nosuch"], "there is no recipe 'nosuch'"),
        (["build", "demo/stinystories", "--set", "sede=1"], "did you mean 'seed'?"),
        (["build", "demo/stinystories", "--set", "source.path=nofile.jsonl"], "nofile.jsonl"),
        (["build", "demo/stinystories", "--set", "speech.voices=[en-usa]"], "en-us"),
        (["build", "demo/stinystories", "--set", "units.codebook=nofile.npy"], "nofile.npy"),
        (["build", "demo/stinystories", "--set", "units.coefficients=12"], "width"),
        (["build", "demo/stinystories", "--device", "tpu9"], "tpu9"),
        (["build", "demo/stinystories", "--executor", "slurm"], "slurm"),
        (["build", "demo/stinystories", "--limit", "0"], "--limit"),
        (["build", "demo/stinystories", "--no-such-option"], "--no-such-option"),
        (["build", "demo/spokenswag"], "makes pairs: run unitcorpus pairs demo/spokenswag"),
        (["pairs", "demo/stinystories"], "makes no pairs: run unitcorpus build"),
        (["pairs", "demo/spokenswag", "--set", "source.path=nofile.csv"], "nofile.csv"),
        (["verify", "nowhere"], "nowhere is not a finished corpus"),
        (["status", "nowhere"], "nowhere holds no build"),
        (["export", "nowhere"], "nowhere is not a finished corpus"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    tmp_path: Path, words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in one_line(unitcorpus(*words))
    left = [p.name for p in tmp_path.rglob("*") if p.suffix in (".tar", ".parquet", ".npy")]
    assert left == []


def test_a_missing_column_names_the_columns_there_are(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("number,story\n1,Once upon a time\n")
    message = one_line(
        unitcorpus(
            "build", "demo/stinystories", "--set", f"source.path={path}", "--out", tmp_path / "c"
        )
    )
    assert "text" in message
    assert "number, story" in message


def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    # root may write anywhere but in a file system of the kernel
    parent = tmp_path / "locked" if os.geteuid() else Path("/proc")
    words = ["build", "demo/stinystories", *SETTINGS, "--out", str(parent / "c")]
    assert "cannot use" in one_line(unitcorpus(*words))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    words = ["build", "demo/stinystories", *SETTINGS, "--out", str(tmp_path / "file")]
    assert "is a file" in one_line(unitcorpus(*words))


def test_verify_names_what_is_damaged_and_exits_1(small_corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    shard = root / "data" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    result = unitcorpus("verify", root)
    assert result.returncode == 1
    assert "data/train-000000.tar was changed" in result.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_build_says_how_to_go_on_and_does(
    small_corpus: Path, tmp_path: Path, digests: Digests, number: int, code: int
) -> None:
    out = tmp_path / "c"
    command = [
        sys.executable,
        "-m",
        "unitcorpus",
        "build",
        "demo/stinystories",
        *SETTINGS,
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(out.glob("receipts/*.json")):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "run the same command" in errors
    assert not (out / "corpus.json").exists()
    assert [
        p for p in out.rglob(".*.tmp-*") if p.parent.name in ("data", "receipts", "rejects")
    ] == []
    assert unitcorpus("build", "demo/stinystories", *SETTINGS, "--out", out).returncode == 0
    assert digests(out) == digests(small_corpus)


def test_every_command_has_help_with_an_example() -> None:
    commands = "build", "pairs", "plan", "verify", "status", "export", "report", "push", "dedup"
    for command in (*commands, "doctor", "kmeans fit", "kmeans import"):
        shown = unitcorpus(*command.split(), "--help")
        assert shown.returncode == 0
        assert "Example: unitcorpus" in shown.stdout, command
