"""`unitcorpus push`: a corpus to the Hugging Face Hub, whole or visibly unfinished.

The Hub's listing is the state: what is missing there, by sha256 and size, is sent in a few commits,
until the listing has everything. So running it again after any stop is going on, and the end of a
push is its check.

    push(Path("corpora/demo"), "user/demo", Options(), print)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unitcorpus.errors import UnitcorpusError
from unitcorpus.hub.contents import LAST, Content, contents, steps
from unitcorpus.hub.target import Target, There, check_ours
from unitcorpus.hub.trouble import Trouble, explain
from unitcorpus.shards.reader import open_corpus
from unitcorpus.shards.verify import verify

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WAITS = (1.0, 4.0, 15.0, 60.0)
"""Seconds between tries that got nowhere; huggingface_hub retries single requests before that."""

PATIENCE = 180.0
"""Seconds without a byte after which a connection is given up."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """`revision`: a branch, made where it is missing. `create_pr`: into a pull request instead."""

    public: bool = False
    revision: str | None = None
    create_pr: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Pushed:
    """How a push ended: the address, the corpus's files, and what of them was sent."""

    url: str
    files: int
    sent: int
    sent_bytes: int


class DamagedCorpusError(UnitcorpusError):
    """The corpus has `problems`, one line each."""

    def __init__(self, root: Path, problems: list[str]) -> None:
        number = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{root} has {number} and was not sent")
        self.problems = problems


def push(root: Path, repo: str, options: Options, say: Say) -> Pushed:
    """Sends the corpus in `root` to the data set `repo` (`user/name`); `say` gets lines to show.

    Raises UnitcorpusError: no corpus, no token, no permission, the name is taken, no room, no
    network; DamagedCorpusError for a corpus that `verify` finds something wrong with.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UnitcorpusError(f"'{repo}' is not user/name: say whose data set it is to be")
    if options.create_pr and options.revision:
        raise UnitcorpusError("--create-pr makes a branch of its own: leave out --revision")
    api = _connect(options.dry_run)
    corpus = open_corpus(root)
    if problems := verify(root):
        raise DamagedCorpusError(root, problems)
    say(f"{root}: whole ({len(corpus.index):,} shards, {len(corpus):,} samples)")
    files = contents(root)
    target = _patiently(lambda: Target(api, repo, options.revision), repo, say, network=False)
    if target.exists and not target.private and not options.public:
        raise UnitcorpusError(f"{repo} is public: give --public to push to it")
    if options.dry_run:
        return _show(target, files, corpus.info, options, say)
    url = _prepare(target, options, say)
    if options.create_pr and not differing(_patiently(target.files, repo, say), files):
        return Pushed(url, len(files), 0, 0)  # there is nothing to ask for
    if options.create_pr:
        url = _open_request(target, corpus.info, say)
    sent = _send(target, files, corpus.info, say)
    _patiently(target.publish_request, repo, say)
    return Pushed(url, len(files), len(sent), sum(sent.values()))


def _connect(dry_run: bool) -> HfApi:
    """The client, with timeouts and without bars and warnings of its own."""
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]
    from huggingface_hub.utils._http import default_client_factory

    def patient() -> Any:  # the default one waits for ever
        client = default_client_factory()
        client.timeout = PATIENCE
        return client

    huggingface_hub.set_client_factory(patient)
    disable_progress_bars()
    # Its warnings would show addresses that are signed.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    token = huggingface_hub.get_token()
    if token is None and not dry_run:
        raise UnitcorpusError(
            "there is no token for the Hub: run `hf auth login`, or set HF_TOKEN to a token with "
            "write access"
        )
    return huggingface_hub.HfApi(token=token or False)


def _prepare(target: Target, options: Options, say: Say) -> str:
    """Makes the data set and the branch; returns the address."""
    _patiently(lambda: target.make(options.public), target.repo, say)
    if target.private and options.public:
        say(f"{target.repo} was there already, private, and stays so")
    url = f"{target.api.endpoint}/datasets/{target.repo}"
    say(f"to {url} ({'private' if target.private else 'public'}, {target.revision or 'main'})")
    return url


def _open_request(target: Target, info: dict[str, Any], say: Say) -> str:
    """The address of the pull request for this corpus: the one that is there, or a new one."""
    title = f"Corpus {info['name']}, plan {info['plan'][:12]}"
    words = "Sent by unitcorpus; whole once corpus.json is there."
    url = _patiently(lambda: target.open_request(title, words), target.repo, say)
    say(f"as the pull request {url}")
    return url


def _send(target: Target, files: list[Content], info: dict[str, Any], say: Say) -> dict[str, int]:
    """Sends what is missing until the Hub lists everything; returns what was sent: {name: size}.

    After a failure the listing is read again, so a commit whose answer was lost is not sent twice.
    """
    sent: dict[str, int] = {}
    tries = 0
    while True:
        try:
            there = target.files()
            check_ours(target, there, files, info)
            missing = differing(there, files)
            if not missing:
                return sent
            for step in steps(_unsent(missing, sent)):
                start = time.monotonic()
                withdraw = _must_withdraw(there, missing) and not sent
                target.commit(step, _message(step.stage, info["name"]), withdraw)
                sent.update({file.name: file.size for file in step.files})
                tries = 0
                left = sum(file.name not in sent for file in missing)
                took = f"{time.monotonic() - start:.0f} s"
                say(
                    f"{step.stage}: {len(step.files):,} files, {megabytes(step.size)}, {took}; "
                    f"{left:,} files to go"
                )
        except Exception as error:
            trouble = _not_listed(error) or explain(error, target.repo)
            _wait_or_raise(error, trouble, tries, say)
            tries += 1


class _NotListedError(Exception):
    """The Hub took files that it does not list."""


def _unsent(missing: list[Content], sent: dict[str, int]) -> list[Content]:
    """What of the missing was not sent by this push yet. Raises _NotListedError for nothing."""
    unsent = [file for file in missing if file.name not in sent]
    if not unsent:
        raise _NotListedError(missing[0].name)
    return unsent


def _not_listed(error: Exception) -> Trouble | None:
    if isinstance(error, _NotListedError):
        return Trouble(f"the Hub took {error} but does not list it as it was sent", passing=True)
    return None


def differing(there: dict[str, There], files: list[Content]) -> list[Content]:
    """The files that the Hub lacks or has otherwise, in the order of sending. Where one of the
    others differs, corpus.json is among them: it is taken away first and comes back last."""
    missing = [f for f in files if f.name not in there or not there[f.name].is_same(f)]
    if _must_withdraw(there, missing) and missing[-1].name != "corpus.json":
        missing.append(files[-1])
    return missing


def _must_withdraw(there: dict[str, There], missing: list[Content]) -> bool:
    """Whether a corpus that is there whole is about to be changed under its readers."""
    free = (*LAST, "report.html")
    return "corpus.json" in there and any(file.name not in free for file in missing)


def _message(stage: str, name: str) -> str:
    return f"{name}: {stage}"


def _patiently(action: Callable[[], T], repo: str, say: Say, network: bool = True) -> T:
    """What `action` returns, tried again after passing troubles; `network` False: not where there
    was no answer at all."""
    for tries in range(len(WAITS) + 1):
        try:
            return action()
        except Exception as error:
            trouble = explain(error, repo)
            if trouble and trouble.network and not network:
                raise UnitcorpusError(trouble.text) from None
            _wait_or_raise(error, trouble, tries, say)
    raise AssertionError("the last try returns or raises")


def _wait_or_raise(error: Exception, trouble: Trouble | None, tries: int, say: Say) -> None:
    """Waits before another try, or raises what is to be told."""
    if trouble is None:
        raise error
    if not trouble.passing:
        raise UnitcorpusError(trouble.text) from None
    if tries == len(WAITS):
        raise UnitcorpusError(
            f"{trouble.text}; what was sent is kept, run the same command to go on"
        ) from None
    say(f"{trouble.text}; trying again in {WAITS[tries]:g} s")
    time.sleep(WAITS[tries])


def _show(
    target: Target, files: list[Content], info: dict[str, Any], options: Options, say: Say
) -> Pushed:
    """A dry run: what would be sent, commit by commit."""
    there = _patiently(target.files, target.repo, say)
    check_ours(target, there, files, info)
    missing = differing(there, files)
    url = f"{target.api.endpoint}/datasets/{target.repo}"
    how = "there already" if target.exists else "to be made"
    private = target.private if target.exists else not options.public
    say(f"{url}: {how}, {'private' if private else 'public'}, {target.revision or 'main'}")
    say(f"{'commit':>6}  {'files':>7}  {'size':>12}  what")
    for number, step in enumerate(steps(missing), 1):
        first, last = step.files[0].name, step.files[-1].name
        names = first if first == last else f"{first} … {last}"
        say(f"{number:>6}  {len(step.files):>7,}  {megabytes(step.size):>12}  {names}")
    size = sum(file.size for file in missing)
    here = len(files) - len(missing)
    say(f"{len(missing):,} files, {megabytes(size)} to send; {here:,} are there already")
    return Pushed(url, len(files), 0, 0)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
