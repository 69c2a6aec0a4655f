"""Pushing with the real client, in processes of its own, to a small server that speaks the Hub's
API: the order of commits, and that nothing is lost or sent twice whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import unitcorpus
from conftest import SMALL
from forks import Forks
from server import Fault, State, serve
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.format import read_sealed, seal
from unitcorpus.shards.reader import Sample

REPO = "user/demo"
Done = subprocess.CompletedProcess[str]

HERE = Path(__file__).parent


@dataclass
class Hub:
    """A running server, and pushing to it from a process that has its address as HF_ENDPOINT."""

    url: str
    home: Path
    pusher: Forks
    state: State

    def push(self, root: Path, *words: str, repo: str = REPO, **env: str) -> Done:
        """`unitcorpus push`, in a fork that a fault of the server may kill."""
        token = {"HF_TOKEN": self.state.token}
        self.state.victim = self.pusher.start(["push", str(root), repo, *words], **(token | env))
        done = self.pusher.wait()
        assert self.state.token not in done.stdout + done.stderr
        return done


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """That of a process that is to take the server for the Hub."""
    return {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **more,
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    home = tmp_path_factory.mktemp("home")
    state = State()
    with (
        serve(state) as url,
        Forks(home, environment(url, home), script=HERE / "pusher.py") as pusher,
    ):
        yield Hub(url, home, pusher, state)


@pytest.fixture
def hub(running: Hub) -> Hub:
    """The server, as new."""
    running.state.clear()
    return running


def local(root: Path) -> dict[str, bytes]:
    """The files of a corpus that belong on the Hub, by docs/format.md."""
    kinds = ("corpus.json", "index.json", "codebook.npy", "README.md", "data/*.tar", "audio/*.tar",
             "rejects/*.jsonl", "receipts/*.json", "plan/*.json", "plan/rejects.jsonl",
             "plan/inputs/*.parquet", "report.html")  # fmt: skip
    found = (path for kind in kinds for path in root.glob(kind))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def remote(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    files = dict(hub.state.repos[REPO].files(revision))
    files.pop(".gitattributes", None)
    return files


def sent_twice(hub: Hub) -> list[str]:
    counts = [*hub.state.uploads.items(), *hub.state.small.items()]
    return [name for name, count in counts if count > 1]


def in_order(hub: Hub, revision: str = "main") -> None:
    """Whenever corpus.json is there, so is everything else; it came in the last commit."""
    commits = hub.state.commits(REPO, revision)
    final = commits[-1][1].keys()
    for _, files in commits:
        if "corpus.json" in files:
            assert files.keys() == final
    names = [commits[0][1].keys() - {".gitattributes"}]
    names += [after.keys() - before.keys() for (_, before), (_, after) in pairwise(commits)]
    stages = [{place(name) for name in added} for added in names]
    assert all(len(stage) == 1 for stage in stages)
    assert stages == sorted(stages, key=min)


def place(name: str) -> int:
    """0 for shards, 2 for what makes a corpus whole, 1 for the rest."""
    return 0 if name.endswith(".tar") else 2 if name in ("corpus.json", "README.md") else 1


def one_line(done: Done) -> str:
    assert done.returncode == 2, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


# --- the whole of it --------------------------------------------------------------------------


def test_the_server_ends_with_exactly_the_corpus_in_the_right_order(
    hub: Hub, small_corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    for name in (".lock", ".progress.json", ".corpus.json.tmp-0a1b2c3d", "notes.txt"):
        (root / name).write_text("x")
    (root / "report.html").write_text("<p>a report</p>")
    done = hub.push(root)
    assert done.returncode == 0, done.stderr
    assert remote(hub) == local(root)
    assert hub.state.repos[REPO].private
    assert sent_twice(hub) == []
    in_order(hub)
    assert len(hub.state.commits(REPO)) > 5
    assert f"{hub.url}/datasets/{REPO}: all {len(local(root))} files are there" in done.stdout


def test_pushed_again_nothing_is_sent(hub: Hub, small_corpus: Path) -> None:
    hub.push(small_corpus)
    before = len(hub.state.commits(REPO))
    done = hub.push(small_corpus)
    assert done.returncode == 0
    assert "0 (0.0 MB) sent by this run" in done.stdout
    assert len(hub.state.commits(REPO)) == before
    assert sent_twice(hub) == []


KILLS = {
    "after the data set is made": Fault("POST /api/repos/create", kill="late"),
    "in the middle of a shard": Fault("PUT /storage/", nth=2, kill="half"),
    "between upload and commit": Fault("POST /api/datasets/user/demo/commit/", kill="early"),
    "before the answer to a commit": Fault("POST /api/datasets/user/demo/commit/", 2, kill="late"),
    "while a listing is read": Fault("GET /api/datasets/user/demo/tree/", kill="late"),
    "before the last commit": Fault("POST /api/validate-yaml", kill="early"),
}


@pytest.mark.parametrize("when", KILLS)
def test_killed_anywhere_and_run_again_nothing_is_lost_or_sent_twice(
    hub: Hub, small_corpus: Path, when: str
) -> None:
    fault = KILLS[when]
    hub.state.faults = [Fault(fault.where, fault.nth, kill=fault.kill)]
    assert hub.push(small_corpus).returncode == -9
    assert "corpus.json" not in remote(hub)
    hub.state.faults = []
    done = hub.push(small_corpus)
    assert done.returncode == 0, done.stderr
    assert remote(hub) == local(small_corpus)
    assert sent_twice(hub) == []
    in_order(hub)


def test_killed_at_five_points_of_one_push_it_still_ends_whole(
    hub: Hub, small_corpus: Path
) -> None:
    for fault in list(KILLS.values())[1:]:
        hub.state.faults = [Fault(fault.where, fault.nth, kill=fault.kill)]
        assert hub.push(small_corpus).returncode == -9
    hub.state.faults = []
    assert hub.push(small_corpus).returncode == 0
    assert remote(hub) == local(small_corpus)
    assert sent_twice(hub) == []
    in_order(hub)


FAULTS = {
    "500 to making the data set": Fault("POST /api/repos/create", status=500),
    "503 to a commit": Fault("/commit/main", nth=2, status=503),
    "500 to a shard": Fault("PUT /storage/", nth=2, status=500),
    "500 to the listing": Fault("GET /api/datasets/user/demo/tree/", status=500),
    "a commit of another in between": Fault("/commit/main", status=412),
    "a connection cut in the middle of a shard": Fault("PUT /storage/", cut=True),
    "a connection cut in the middle of a commit": Fault("/commit/main", nth=3, cut=True),
    "a shard that hangs": Fault("PUT /storage/", nth=3, hang=2),
    "a commit that hangs": Fault("/commit/main", hang=2),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_passing_trouble_is_passed_by(hub: Hub, small_corpus: Path, what: str) -> None:
    hub.state.faults = [FAULTS[what]]
    done = hub.push(small_corpus)
    assert done.returncode == 0, done.stderr
    assert FAULTS[what].seen
    assert remote(hub) == local(small_corpus)
    assert sent_twice(hub) == []
    in_order(hub)


def test_trouble_that_stays_is_one_line_and_what_was_sent_is_kept(
    hub: Hub, small_corpus: Path
) -> None:
    hub.state.faults = [Fault("/commit/main", nth=3, times=99, status=500, message="out of order")]
    message = one_line(hub.push(small_corpus))
    assert "the Hub answered 500 (out of order)" in message
    assert "run the same command to go on" in message
    assert len(hub.state.commits(REPO)) == 2


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("/commit/main", status=403, message="read only token"), "no permission to write"),
        (Fault("/commit/main", status=413, message="too large"), "takes no more data"),
        (Fault("/storage/", status=507, message="Insufficient Storage"), "takes no more data"),
        (Fault("/commit/", status=403, message="Private storage limit reached"), "takes no more"),
        (Fault("/commit/main", status=400, message="bad path"), "answered 400 (bad path)"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_its_words(
    hub: Hub, small_corpus: Path, fault: Fault, expected: str
) -> None:
    hub.state.faults = [fault]
    message = one_line(hub.push(small_corpus))
    assert expected in message
    assert fault.message in message
    assert len(hub.state.commits(REPO)) == 0


def test_no_token_and_a_wrong_one_are_one_line(hub: Hub, small_corpus: Path) -> None:
    assert "there is no token" in one_line(hub.push(small_corpus, HF_TOKEN=""))
    wrong = "hf_wrong9876543210"
    done = hub.push(small_corpus, "--debug", HF_TOKEN=wrong)
    assert "does not accept the token" in done.stderr
    assert wrong not in done.stderr + done.stdout
    assert "does not accept the token" in one_line(hub.push(small_corpus, HF_TOKEN=wrong))
    assert hub.state.repos == {}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_no_network_is_one_line(
    hub: Hub, small_corpus: Path, env: dict[str, str], expected: str
) -> None:
    command = [sys.executable, "-m", "unitcorpus", "push", str(small_corpus), REPO]
    environ = environment(hub.url, hub.home, HF_TOKEN=hub.state.token) | env
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert expected in one_line(done)


def test_names_that_are_not_ones_own_or_no_names_are_refused(hub: Hub, small_corpus: Path) -> None:
    message = one_line(hub.push(small_corpus, repo="other/demo"))
    assert "no permission to write to other/demo" in message
    assert "rights" in message
    assert "is not user/name" in one_line(hub.push(small_corpus, repo="demo"))
    assert "not a name the Hub allows" in one_line(hub.push(small_corpus, repo="user/de mo"))


def test_a_data_set_that_holds_something_else_is_taken(
    hub: Hub, small_corpus: Path, tmp_path: Path
) -> None:
    hub.push(small_corpus)
    before = remote(hub)
    other = tmp_path / "other"
    assert build_corpus(load_recipe("demo/stinystories", ("source.count=3",)), other).corpus
    message = one_line(hub.push(other))
    assert "is taken, by other files (data/" in message
    third = tmp_path / "third"
    assert build_corpus(load_recipe("demo/stinystories", (*SMALL, "speech.rate=170")), third).corpus
    assert local(third).keys() == local(small_corpus).keys()
    assert "by the corpus demo-stinystories of plan" in one_line(hub.push(third))
    assert remote(hub) == before
    assert hub.push(other, "--revision", "other").returncode == 2  # it starts as main is


def test_a_public_data_set_wants_the_word_public(hub: Hub, small_corpus: Path) -> None:
    assert hub.push(small_corpus, "--public").returncode == 0
    assert not hub.state.repos[REPO].private
    assert "give --public" in one_line(hub.push(small_corpus))


def test_a_damaged_corpus_is_not_sent(hub: Hub, small_corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    shard = root / "data" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    done = hub.push(root)
    assert done.returncode == 1
    assert "data/train-000000.tar was changed" in done.stdout
    assert "was not sent" in done.stderr
    assert hub.state.requests == []


# --- the rest ---------------------------------------------------------------------------------


def test_a_dry_run_shows_the_commits_and_sends_nothing(hub: Hub, small_corpus: Path) -> None:
    done = hub.push(small_corpus, "--dry-run")
    assert done.returncode == 0
    assert "to be made, private" in done.stdout
    assert f"{len(local(small_corpus))} files" in done.stdout
    assert hub.state.repos == {}
    assert not any(request.startswith(("POST", "PUT")) for request in hub.state.requests)
    assert hub.push(small_corpus, "--dry-run", HF_TOKEN="").returncode == 0
    hub.push(small_corpus)
    assert "0 files, 0.0 MB to send" in hub.push(small_corpus, "--dry-run").stdout


def test_a_branch_and_a_pull_request_get_the_corpus_and_main_does_not(
    hub: Hub, small_corpus: Path
) -> None:
    assert hub.push(small_corpus, "--revision", "v1/draft").returncode == 0
    assert remote(hub, "v1/draft") == local(small_corpus)
    hub.state.faults = [Fault("/commit/refs/pr/1", nth=2, kill="early")]
    assert hub.push(small_corpus, "--create-pr").returncode == -9
    done = hub.push(small_corpus, "--create-pr")
    assert done.returncode == 0, done.stderr
    assert [request["status"] for request in hub.state.repos[REPO].requests] == ["open"]
    assert remote(hub, "refs/pr/1") == local(small_corpus)
    assert remote(hub) == {}
    hub.push(small_corpus)
    assert hub.push(small_corpus, "--create-pr").returncode == 0
    assert len(hub.state.repos[REPO].requests) == 1


def test_a_corpus_that_changes_is_withdrawn_first(
    hub: Hub, small_corpus: Path, tmp_path: Path
) -> None:
    """A receipt's timings change when a shard is built again; the plan does not."""
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    hub.push(root)
    receipt = root / "receipts" / "train-000000.json"
    value: dict[str, Any] = read_sealed(receipt)
    value["timings"]["speech"] = 1.0
    receipt.write_bytes(seal(value))
    before = len(hub.state.commits(REPO))
    assert hub.push(root).returncode == 0
    assert remote(hub) == local(root)
    fresh = hub.state.commits(REPO)[before:]
    assert ["corpus.json" in files for _, files in fresh] == [False, True]
    assert hub.state.small["receipts/train-000001.json"] == 1


def test_an_edited_card_alone_does_not_withdraw(
    hub: Hub, small_corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    hub.push(root)
    (root / "README.md").write_text((root / "README.md").read_text() + "\nMore words.\n")
    before = len(hub.state.commits(REPO))
    assert hub.push(root).returncode == 0
    assert [message for message, _ in hub.state.commits(REPO)[before:]] == [
        "demo-stinystories: the corpus"
    ]
    assert remote(hub) == local(root)
    assert hub.state.small["corpus.json"] == 1


READER = """
import json, sys
import datasets
import unitcorpus
loaded = datasets.load_dataset(sys.argv[1])
print("ANSWER" + json.dumps({
    split: [[r["__key__"], list(r["units.npy"]), list(r["durations.npy"]), r["json"]] for r in rows]
    for split, rows in loaded.items()
}))
corpus = unitcorpus.open(f"hf://datasets/{sys.argv[1]}")
print("OURS" + json.dumps([[s.key, s.units.tolist()] for s in corpus]))
"""


def values(sample: Sample) -> list[Any]:
    assert sample.durations is not None
    return [sample.key, sample.units.tolist(), sample.durations.tolist(), sample.meta]


def test_load_dataset_and_our_reader_give_the_samples_from_the_hub(
    hub: Hub, small_corpus: Path
) -> None:
    assert hub.push(small_corpus).returncode == 0
    env = environment(hub.url, hub.home, HF_TOKEN=hub.state.token)
    done = subprocess.run(
        [sys.executable, "-c", READER, REPO], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.split("ANSWER")[1].split("OURS")[0])
    corpus = unitcorpus.open(small_corpus)
    assert theirs == {s: [values(x) for x in corpus.samples(s)] for s in corpus.splits}
    ours = json.loads(done.stdout.split("OURS")[1])
    assert ours == [[sample.key, sample.units.tolist()] for sample in corpus]


def test_the_servers_sha256_are_those_of_the_index(hub: Hub, small_corpus: Path) -> None:
    hub.push(small_corpus)
    for entry in unitcorpus.open(small_corpus).index:
        assert sha256(remote(hub)[entry["url"]]).hexdigest() == entry["sha256"]
