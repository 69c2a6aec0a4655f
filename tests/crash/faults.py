"""The faults: how each is injected, and what is expected of the run that it hits.

One table for `make test`, which injects each once, and for `make crash`, which goes on. Afterwards
the same command is run again, and what is there must be what an undisturbed run leaves.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from forks import Ended
from nodes import on_nodes, wait_until_no_worker_is_left
from scene import Scene
from server import Fault as Trouble

Inject = Callable[[Scene, Path, random.Random], None]


@dataclass(frozen=True)
class Fault:
    """`inject` breaks a run of `task` in a folder and asserts how that ended. `ray`: it wants a
    cluster; `mount`: a file system of its own; `times`: how often a long run does it a round."""

    name: str
    task: str
    inject: Inject
    ray: bool = False
    mount: bool = False
    times: int = 1


# --- the driver -----------------------------------------------------------------------------------


def kill_driver(match: str, action: str = "SIGKILL", code: int = -9) -> Inject:
    """The process of the command, before one of the files that match appears."""

    def inject(scene: Scene, root: Path, draw: random.Random) -> None:
        task = root.name
        nth = draw.randint(1, scene.events(task, match))
        done = scene.broken(task, root, match, nth=nth, action=action)
        assert done.returncode == code, done.stderr
        if code > 0:
            assert "run the same command to go on" in one_line(done)
            assert [p.name for p in root.rglob(".*.tmp-*")] == []

    return inject


def kill_anywhen(scene: Scene, root: Path, draw: random.Random) -> None:
    """The process of the command and all that it started, four times in a row where it lasts."""
    for _ in range(4):
        if scene.killed_after(root.name, root, draw.uniform(0.02, 0.6)).returncode != -9:
            return


def kill_push(scene: Scene, root: Path, draw: random.Random) -> None:
    """The process that pushes, before or after the server does what it asks."""
    scene.run("push", root)
    count = len(scene.state.requests)
    scene.state.clear()
    nth, when = draw.randint(1, count - 5), draw.choice(["early", "late"])
    scene.state.faults = [Trouble("", nth, kill=when)]
    assert scene.run("push", root).returncode == -9
    scene.state.faults = []


# --- what lies under it ---------------------------------------------------------------------------


def full_disk(scene: Scene, root: Path, draw: random.Random) -> None:
    """A file system with room for some of the corpus."""
    disk = small_disk(scene, root)
    free = draw.choice([20, 40, 60, 80]) * 1024
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        room = os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize
        file.write(bytes(max(room - free, 0)))
    done = scene.run(root.name, root)
    assert done.returncode == 2, done.stderr + done.stdout
    assert "No space left on device" in one_line(done)
    ballast.unlink()


def file_too_large(scene: Scene, root: Path, draw: random.Random) -> None:
    """A limit on the size of files that some do not keep."""
    pid = scene.forks.process.pid
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (draw.choice([1000, 5000, 12_000]), old[1]))
    done = scene.run(root.name, root)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
    assert done.returncode == 2, done.stderr
    assert "File too large" in one_line(done)


def read_only(scene: Scene, root: Path, draw: random.Random) -> None:
    """The file system becomes read-only between two runs."""
    disk = small_disk(scene, root)
    kill_driver(r"receipts/")(scene, root, draw)
    mount("-o", "remount,ro", str(disk))
    done = scene.run(root.name, root)
    mount("-o", "remount,rw", str(disk))
    assert done.returncode == 2, done.stderr
    assert "no permission to write" in one_line(done)


def small_disk(scene: Scene, root: Path) -> Path:
    """A file system of 2 MB, in which the folder lies."""
    disk = root.parent
    disk.mkdir(parents=True)
    image = disk.with_suffix(".img")
    image.write_bytes(bytes(2 << 20))
    subprocess.run(["mkfs.ext2", "-q", str(image)], check=True)
    mount("-o", "loop", str(image), str(disk))
    scene.cleanup.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
    return disk


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def can_mount(home: Path) -> bool:
    """Whether this process may mount file systems, and has what it takes."""
    (home / "probe").mkdir(exist_ok=True)
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home / "probe"))
        subprocess.run(["umount", str(home / "probe")], check=True)
        subprocess.run(["mkfs.ext2", "-V"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return os.geteuid() == 0


# --- who else is there ----------------------------------------------------------------------------


def two_builds(scene: Scene, root: Path, draw: random.Random) -> None:
    """A second build of the same folder while the first is stopped in the middle."""
    scene.order(r"receipts/", draw.randint(1, 3), "SIGSTOP")
    command = [sys.executable, "-m", "unitcorpus", *scene.words(root.name, root)]
    first = subprocess.Popen(
        command, env=scene.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
        assert first.poll() is None
        time.sleep(0.02)
    scene.calm_down()
    done = scene.run(root.name, root)
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert done.returncode == 2, done.stderr
    assert f"is being built by process {first.pid}" in one_line(done)


def changed_source(scene: Scene, root: Path, draw: random.Random) -> None:
    """The source gets a row between two runs."""
    kill_driver(r"receipts/")(scene, root, draw)
    old = scene.rows.read_text()
    scene.rows.write_text(old + '{"id": "new", "text": "One more ran."}\n')
    done = scene.run(root.name, root)
    scene.rows.write_text(old)
    assert done.returncode == 2, done.stderr
    assert "holds another corpus: source." in one_line(done)
    assert "sha256" in one_line(done)


# --- Ray ------------------------------------------------------------------------------------------


def kill_worker(match: str, event: str = "os.rename") -> Inject:
    """A worker, at one of the moments that match. The run goes on without it."""

    def inject(scene: Scene, root: Path, draw: random.Random) -> None:
        nth = draw.randint(1, 3)
        done = scene.broken(root.name, root, match, *on_nodes(scene.nodes()), nth=nth, event=event)
        assert done.returncode == 0, done.stderr
        assert "try 1 failed, trying again: the worker died" in done.stderr

    return inject


def kill_node(scene: Scene, root: Path, draw: random.Random) -> None:
    """A node with all that runs on it. The run goes on, on those that are left."""
    nth = draw.randint(1, 3)
    done = scene.broken(
        root.name, root, "receipts/", *on_nodes(scene.nodes()), nth=nth, action="NODE"
    )
    assert done.returncode == 0, done.stderr
    assert scene.nodes().replace_dead() == 1


def stop_worker(scene: Scene, root: Path, draw: random.Random) -> None:
    """A worker is stopped, and says nothing any more; its shard is given to another."""
    scene.order(r"data/", draw.randint(1, 3), "SIGSTOP")
    command = [
        sys.executable,
        "-m",
        "unitcorpus",
        *scene.words(root.name, root),
        *on_nodes(scene.nodes()),
    ]
    done = subprocess.run(
        command, env={**scene.environ, "SILENCE": "5"}, capture_output=True, text=True, check=False
    )
    scene.calm_down()
    assert done.returncode == 0, done.stderr
    assert "the worker said nothing for" in done.stderr


def kill_ray_driver(scene: Scene, root: Path, draw: random.Random) -> None:
    """The driver of a build on a cluster, in the middle of it."""
    done = scene.broken(root.name, root, r"\.progress\.json$", *on_nodes(scene.nodes()))
    assert done.returncode == -9, done.stderr
    wait_until_no_worker_is_left()


def one_line(done: Ended) -> str:
    """The last line of the errors, which is all there may be but for tries that failed."""
    lines = [line for line in done.stderr.splitlines() if " failed, trying again" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


PLAN = r"plan/inputs/|plan/(plan|request|rejects)\.json|/plan$|codebook"
FINISH = r"index\.json$|README\.md$|/corpus\.json$"

FAULTS = [
    Fault("driver killed, planning", "build", kill_driver(PLAN), times=5),
    Fault(
        "driver killed, first shard", "build", kill_driver(r"/(data|rejects)/.*-000000"), times=5
    ),
    Fault("driver killed, between data and receipt", "build", kill_driver("receipts/"), times=5),
    Fault("driver killed, finishing", "build", kill_driver(FINISH), times=5),
    Fault("driver killed, dedup", "dedup", kill_driver(""), times=5),
    Fault("driver killed, dedup between report and plan", "dedup", kill_driver("plan/inputs/")),
    Fault("driver killed, pairs", "pairs", kill_driver(""), times=5),
    Fault("driver killed, push", "push", kill_push, times=5),
    Fault("driver and children killed at any time", "build", kill_anywhen, times=2),
    Fault("SIGTERM", "build", kill_driver("", "SIGTERM", 143), times=2),
    Fault("Ctrl-C", "dedup", kill_driver("", "SIGINT", 130), times=3),
    Fault("full disk", "build", full_disk, mount=True, times=2),
    Fault("file too large", "build", file_too_large, times=2),
    Fault("read-only folder", "build", read_only, mount=True, times=2),
    Fault("two builds of one folder", "build", two_builds),
    Fault("source changed between runs", "build", changed_source),
    Fault("worker killed before data", "build", kill_worker(r"/data/"), ray=True),
    Fault("worker killed, between data and receipt", "build", kill_worker("receipts/"), ray=True),
    Fault("worker killed before its answer", "build", kill_worker("/receipts$", "open"), ray=True),
    Fault("worker stopped", "build", stop_worker, ray=True),
    Fault("node killed", "build", kill_node, ray=True),
    Fault("driver on a cluster killed", "build", kill_ray_driver, ray=True),
]
