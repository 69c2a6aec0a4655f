"""`make crash`: the faults of the table, again and again, each time at another point.

    python tests/crash/crash.py [--seed 0] [--rounds 1] [--minutes 12]

Prints a line a fault as it goes, and in the end a table; exits with 1 where anything was lost. What
is not injected when the time is over is not, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "hub")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from faults import FAULTS, Fault, can_mount  # noqa: E402 - after their path
from scene import Scene  # noqa: E402


def injected(scene: Scene, fault: Fault, draw: random.Random, table: Table) -> None:
    """Injects a fault, recovers from it, and notes what came of it."""
    root = scene.place(fault.task)
    start = time.monotonic()
    table.injected[fault.name] += 1
    try:
        fault.inject(scene, root, draw)
        loss = scene.recovered(fault.task, root)
    except AssertionError as error:
        print(f"{fault.name}: {error}", file=sys.stderr)
        return
    table.lost[fault.name] += loss.lost
    table.different[fault.name] += loss.different
    if loss.left or loss.problems:
        print(f"{fault.name}: {[*loss.left, *loss.problems]}", file=sys.stderr)
    else:
        table.recovered[fault.name] += 1
    print(f"{time.monotonic() - start:5.1f} s  {fault.name}", flush=True)


class Table:
    """What was injected, and what came of it, by the faults' names."""

    def __init__(self) -> None:
        self.injected = Counter[str]()
        self.recovered = Counter[str]()
        self.lost = Counter[str]()
        self.different = Counter[str]()

    def lines(self) -> list[str]:
        head = f"{'fault':<44} {'injected':>8} {'recovered':>9} {'lost':>5} {'different':>9}"
        rows = [self._line(fault.name, [fault.name]) for fault in FAULTS]
        return [head, *rows, self._line("all", list(self.injected))]

    def _line(self, title: str, names: list[str]) -> str:
        injected, recovered, lost, different = (
            sum(column[name] for name in names)
            for column in (self.injected, self.recovered, self.lost, self.different)
        )
        return f"{title:<44} {injected:>8} {recovered:>9} {lost:>5} {different:>9}"

    @property
    def whole(self) -> bool:
        return self.injected == self.recovered and not (self.lost + self.different)


def main() -> None:
    parser = argparse.ArgumentParser(description="break builds, and see that nothing is lost")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=12)
    given = parser.parse_args()
    draw, end = random.Random(given.seed), time.monotonic() + 60 * given.minutes
    table = Table()
    with (
        tempfile.TemporaryDirectory(prefix="unitcorpus-crash-") as home,
        Scene(Path(home)) as scene,
    ):
        mounts = can_mount(Path(home))
        orders = [f for f in FAULTS for _ in range(f.times) if mounts or not f.mount]
        for fault in orders * given.rounds:
            if time.monotonic() > end:
                print("the time is over: what follows was not injected")
                break
            injected(scene, fault, draw, table)
    print("\n".join(["", f"seed {given.seed}; lost and different in bytes", *table.lines()]))
    sys.exit(0 if table.whole else 1)


if __name__ == "__main__":
    main()
