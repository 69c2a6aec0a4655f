"""A data set on the Hub as the aim of a push: looked at, made, compared and committed to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.hub.contents import Content, Step
from unitcorpus.shards.format import unseal

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OPEN = ("draft", "open")
OWN = frozenset({".gitattributes", "README.md", "report.html"})
"""What a data set may hold that is not ours, or not always: it is no other's corpus for that."""


@dataclass(frozen=True)
class There:
    """A file on the Hub: `oid` is the sha256 of a large file, else git's name of it."""

    size: int
    oid: str
    large: bool

    def is_same(self, file: Content) -> bool:
        return self.size == file.size and self.oid == (file.sha256 if self.large else file.blob)


class Target:
    """`revision` None is the main branch; `exists` says whether there is a data set yet, `draft`
    is the number of the pull request that is pushed to, while it is a draft."""

    def __init__(self, api: HfApi, repo: str, revision: str | None) -> None:
        self.api, self.repo, self.revision = api, repo, revision
        self.private: bool | None = None
        self.draft: int | None = None
        self.exists = self._look()

    def _look(self) -> bool:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self.api.repo_info(self.repo, repo_type="dataset")
        except RepositoryNotFoundError as error:
            if error.response.status_code == 401 and self.api.token:
                raise  # a token that is refused, rather than a name that is free
            return False
        self.private = bool(info.private)
        return True

    def make(self, public: bool) -> None:
        """Makes the data set where there is none, and the branch where there is none."""
        if not self.exists:
            self.api.create_repo(self.repo, repo_type="dataset", private=not public, exist_ok=True)
            self.exists, self.private = True, not public
        if self.revision and not self.revision.startswith("refs/"):
            self.api.create_branch(
                self.repo, branch=self.revision, repo_type="dataset", exist_ok=True
            )

    def open_request(self, title: str, description: str) -> str:
        """Goes on with the pull request of this title, or opens one; returns its address."""
        found = self.api.get_repo_discussions(
            self.repo, repo_type="dataset", discussion_type="pull_request"
        )
        request = next((r for r in found if r.title == title and r.status in OPEN), None)
        if request is None:
            request = self.api.create_pull_request(
                self.repo, title, repo_type="dataset", description=description
            )
        self.revision = request.git_reference
        self.draft = request.num if request.status == "draft" else None
        return str(request.url)

    def publish_request(self) -> None:
        """Shows the pull request to others, once everything is there."""
        if self.draft is not None:
            self.api.change_discussion_status(self.repo, self.draft, "open", repo_type="dataset")

    def files(self) -> dict[str, There]:
        """What is there, by name; nothing where there is no data set or branch."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RevisionNotFoundError

        if not self.exists:
            return {}
        try:
            entries = list(
                self.api.list_repo_tree(
                    self.repo, recursive=True, revision=self.revision, repo_type="dataset"
                )
            )
        except RevisionNotFoundError:
            return {}
        return {
            entry.path: There(entry.size, entry.lfs.sha256, True)
            if entry.lfs
            else There(entry.size, entry.blob_id, False)
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def corpus(self) -> dict[str, Any]:
        """The corpus.json that is there. Raises DamagedError."""
        with TemporaryDirectory() as folder:
            path = self.api.hf_hub_download(
                self.repo,
                "corpus.json",
                repo_type="dataset",
                revision=self.revision,
                local_dir=folder,
            )
            return unseal(Path(path).read_bytes(), f"corpus.json of {self.repo}")

    def commit(self, step: Step, message: str, withdraw: bool) -> None:
        """Sends the files of a step as one commit; `withdraw` takes corpus.json away with it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path)
            for file in step.files
        ]
        if withdraw:
            operations.append(CommitOperationDelete("corpus.json"))
        self.api.create_commit(
            self.repo,
            operations,
            commit_message=message,
            repo_type="dataset",
            revision=self.revision,
        )


def check_ours(
    target: Target, there: dict[str, There], files: list[Content], info: dict[str, Any]
) -> None:
    """Refuses a data set that holds other files or another corpus than that of `info`, the content
    of corpus.json. Raises UnitcorpusError."""
    elsewhere = "choose another name (a branch will not do: it starts as main is)"
    ours = {file.name for file in files} | OWN
    if strange := sorted(name for name in there if name not in ours):
        some = ", ".join(strange[:3]) + (", …" if len(strange) > 3 else "")
        raise UnitcorpusError(f"{target.repo} is taken, by other files ({some}): {elsewhere}")
    if "corpus.json" in there and not there["corpus.json"].is_same(files[-1]):
        other = target.corpus()
        if other["plan"] != info["plan"]:
            raise UnitcorpusError(
                f"{target.repo} is taken, by the corpus {other['name']} of plan "
                f"{other['plan'][:12]}: {elsewhere}"
            )
