"""A build whose corpus is at a URL: its files come to be in a folder here, and are sent from there.

The URL holds the truth and the folder can be lost at any time: a run begins by making it agree.
The commits are those of a folder. The plan is sent before any shard is built, plan.json last; of a
shard go data, audio and rejects, then its receipt; corpus.json is the last of all. Each worker
sends its own shards, and fetches the input of a shard that another machine planned.

    remote = Remote("s3://bucket/corpus"); remote.pull(); …; remote.push_plan(); …; remote.finish()
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from unitcorpus.build.folder import PATTERNS, clear
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import MAX_JSON, DamagedError, file_sha256, unseal
from unitcorpus.shards.inputs import input_path
from unitcorpus.shards.receipt import Receipt, marked_files, receipt_path
from unitcorpus.shards.store import Store
from unitcorpus.shards.writer import write_atomic

PLAN = "plan/plan.json"
KNOWN = ("plan/request.json", "plan/rejects.jsonl", "codebook.npy", "README.md", PLAN)
"""What a run wants of a corpus that is there already, plan.json last."""


def workplace(url: str) -> Path:
    """The folder of this machine for a build at `url`: `$XDG_CACHE_HOME/unitcorpus/builds/…`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = url.rstrip("/").rpartition("/")[2]
    return home / "unitcorpus" / "builds" / f"{name}-{sha256(url.encode()).hexdigest()[:16]}"


class Remote:
    """The corpus at `url`, and `root`, the folder here. Raises UnitcorpusError for what is wrong
    with the store, and for a URL with a secret in it."""

    def __init__(self, url: str, root: Path | None = None) -> None:
        self.url = url.rstrip("/")
        if "@" in urlsplit(self.url).netloc or "?" in self.url:
            raise UnitcorpusError(
                f"{self.url}: keys and queries in a URL end up in logs; give them as the store's "
                "own settings (for S3 AWS_ACCESS_KEY_ID and the like), and the URL without"
            )
        self.store = Store(self.url)
        self.root = root or workplace(self.url)
        self._there: dict[str, int] = {}

    # --- the driver -------------------------------------------------------------------------------

    def pull(self) -> None:
        """Makes the folder agree with the URL: its plan, card and codebook, or nothing."""
        self._there = self.store.sizes()
        self._check_ours()
        plan = self._plan()
        if plan is None:
            clear(self.root)
            return
        here = self.root / PLAN
        if not here.is_file() or here.read_bytes() != plan:
            clear(self.root)
        for name in KNOWN:
            (self.root / name).unlink(missing_ok=True)
            if name in self._there:
                self.store.fetch(name, self.root / name)

    def _plan(self) -> bytes | None:
        """The plan at the URL. Half of one, which nothing was built from yet, is none."""
        if PLAN not in self._there:
            return None
        plan = self.store.read(PLAN, MAX_JSON)
        if not any(name.startswith("receipts/") for name in self._there):
            try:
                unseal(plan, PLAN)
            except DamagedError:
                del self._there[PLAN]
                return None
        return plan

    def _check_ours(self) -> None:
        visible = [name for name in self._there if not name.startswith(".")]
        strange = [n for n in visible if not any(fnmatch(n, pattern) for pattern in PATTERNS)]
        if strange and PLAN not in visible:
            some = ", ".join(sorted(strange)[:3])
            raise UnitcorpusError(
                f"{self.url} holds other files ({some}); give an empty place with --out"
            )

    def missing_inputs(self, plan: Plan) -> list[str]:
        """What the URL lacks of the plan; a worker looks at what the files hold."""
        names = [f"plan/inputs/{shard.name}.parquet" for shard in plan.shards]
        return [f"{name} is missing" for name in names if name not in self._there]

    def clear(self) -> None:
        """Deletes the corpus at the URL, corpus.json first and the plan last."""
        for pattern in PATTERNS:
            names = [name for name in self._there if fnmatch(name, pattern)]
            self.store.delete(names)
        self._there = {}

    def push_plan(self, plan: Plan) -> None:
        """Sends the plan where there is none yet."""
        if PLAN in self._there:
            return
        inputs = [input_path(self.root, shard.name) for shard in plan.shards]
        self._put(inputs)
        self._put([self.root / name for name in KNOWN[:3] if (self.root / name).is_file()])
        self._put([self.root / PLAN])

    def withdraw(self) -> None:
        """Takes corpus.json away, while shards are missing."""
        if "corpus.json" in self._there:
            self.store.delete(["corpus.json"])

    def receipts(self, shards: Sequence[str]) -> Callable[[str], int | None]:
        """Brings the receipts into the folder, those of the URL and no other; returns what gives
        the bytes of a file at the URL, or None."""
        self._there = self.store.sizes()
        names = [f"receipts/{shard}.json" for shard in shards]
        found = self.store.read_all([n for n in names if self._there.get(n, MAX_JSON) < MAX_JSON])
        for path in (self.root / "receipts").glob("*.json"):
            if found.get(f"receipts/{path.name}") != path.read_bytes():
                path.unlink()
        for name, data in found.items():
            if not (self.root / name).exists():
                write_atomic(self.root / name, data)
        return self._there.get

    def finish(self) -> None:
        """Sends what `finish` wrote, corpus.json last, and gives up the folder."""
        self._put([self.root / "index.json"])
        if "README.md" not in self._there:
            self._put([self.root / "README.md"])
        self._put([self.root / "corpus.json"])
        shutil.rmtree(self.root, ignore_errors=True)

    # --- a worker ---------------------------------------------------------------------------------

    def bring_codebook(self, plan: Plan) -> None:
        """Fetches the codebook of a plan that was made elsewhere."""
        if "codebook" in plan.units:
            self._bring("codebook.npy", plan.units["codebook"]["sha256"])

    def bring_input(self, shard: ShardPlan) -> None:
        """Fetches the input of a shard. Raises DamagedError where it is not the planned one."""
        self._bring(f"plan/inputs/{shard.name}.parquet", shard.sha256)

    def commit(self, receipt: Receipt) -> None:
        """Sends a shard that lies in the folder, its receipt last; keeps no more than that."""
        files = [path for path, _ in marked_files(self.root, receipt)]
        self._put(files)
        self._put([receipt_path(self.root, receipt.shard)])
        for path in files:
            path.unlink(missing_ok=True)

    def _bring(self, name: str, due: str) -> None:
        path = self.root / name
        if path.is_file() and file_sha256(path) == due:
            return
        try:
            self.store.fetch(name, path)
        except FileNotFoundError:
            raise DamagedError(f"{self.url}/{name} is missing") from None
        if file_sha256(path) != due:
            raise DamagedError(f"{self.url}/{name} was changed: --overwrite starts again")

    def _put(self, paths: list[Path]) -> None:
        self.store.put([(path, path.relative_to(self.root).as_posix()) for path in paths])
