"""Runs a grid of training runs, and puts what came out beside the paper's numbers.

    python -m slam_model.grid paper/figure4 --data corpora --out grids/figure4
    python -m slam_model.grid paper/table2 --data corpora --out grids/table2 --seeds 0 --dry-run
    python -m slam_model.grid paper/figure4 --profile paper/small --data small --out grids/small4

Running the same command again resumes: cells that are done are skipped, an interrupted training run
goes on, a failed cell is tried again. Several of the same command, one for each GPU, share the
cells. Ends with table.md, table.csv, table.json, figure.png and figure.svg in OUT; exit code 1
where a cell failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.console import Console

from slam_model import command
from slam_model.grid.board import Board
from slam_model.grid.cells import Cell, expand
from slam_model.grid.figures import draw
from slam_model.grid.jobs import Place, score_sets, training_corpora
from slam_model.grid.outlook import outlook
from slam_model.grid.recipe import Grid, load_grid, load_profile
from slam_model.grid.results import collect
from slam_model.grid.runner import Runner, Stopped
from slam_model.grid.tables import terminal, write_tables
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import read_sealed, seal
from unitcorpus.shards.writer import write_atomic


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    grid = load_grid(options.grid)
    profile = load_profile(options.profile) if options.profile else None
    cells = expand(grid, profile, options.seeds, options.set)
    chosen = _only(cells, options.only)
    readers = [w for k in ("asr", "lm") if (v := getattr(options, k)) for w in (f"--{k}", v)]
    out = Path(options.out).expanduser()
    place = Place(out, options.data, options.device, options.vocoder, tuple(readers))
    if options.dry_run:
        _console().print(outlook(grid, chosen, place))
        return 0
    _check_data(chosen, place)
    _remember(cells, out)
    name = profile.name if profile else None
    try:
        runner = _run(grid, chosen, place)
    except Stopped as stopped:
        print("stopped; the same command goes on from there", file=sys.stderr)
        return 128 + stopped.number
    rows = collect(grid, cells, place)
    paths = write_tables(grid, rows, out, name) + draw(grid, rows, out, name)
    _console().print(terminal(grid, rows))
    print(", ".join(str(path) for path in paths))
    for cell, reason in runner.failed.items():
        print(f"failed: {cell}: {reason}", file=sys.stderr)
    return 1 if runner.failed else 0


def _run(grid: Grid, cells: Sequence[Cell], place: Place) -> Runner:
    with Board(grid, cells, place) as board:
        board.say(f"{grid.name}: {len(cells)} cells, {board.done} of them done")
        for name in dict.fromkeys(s for cell in cells for s in score_sets(grid, cell)):
            if not place.has(name):
                board.say(f"there is no {place.corpus(name)}: its scores are left out")
        runner = Runner(grid, cells, place, board)
        runner.run()
        board.say(f"{len(cells)} cells: {board.done} done, {len(runner.failed)} failed")
    return runner


def _only(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names fit a pattern, or hold it. Raises UnitcorpusError for none."""
    if not patterns:
        return list(cells)
    found = [c for c in cells if any(fnmatch(c.name, p) or p in c.name for p in patterns)]
    if not found:
        names = ", ".join(cell.name for cell in cells)
        raise UnitcorpusError(f"--only {' '.join(patterns)} fits no cell; there are: {names}")
    return found


def _check_data(cells: Sequence[Cell], place: Place) -> None:
    """Raises UnitcorpusError where a corpus to train on is missing."""
    wanted = dict.fromkeys(name for cell in cells for name in training_corpora(cell))
    missing = [name for name in wanted if not place.has(name)]
    if missing:
        raise UnitcorpusError(
            f"{place.data} has no {', '.join(missing)}: build them there (unitcorpus build or "
            f"unitcorpus pairs NAME --out {place.corpus('NAME')}), or link them"
        )


def _remember(cells: Sequence[Cell], out: Path) -> None:
    """Records the cells in OUT/grid.json; cells may be added to a grid, and none may change.

    Raises UnitcorpusError where `out` is of another grid, with what differs.
    """
    file = out / "grid.json"
    records = {cell.name: cell.record() for cell in cells}
    before = read_sealed(file)["cells"] if file.is_file() else {}
    found = []
    for name, record in before.items():
        if name not in records:
            found.append(f"{name} is no longer there")
        else:
            found += [f"{name}: {one}" for one in _differences(record, records[name])]
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise UnitcorpusError(
            f"{out} holds another grid: {'; '.join(found[:3])}{more}; change it back, or give "
            "another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(file, seal({"cells": records}))


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    """What differs between two JSON values, as `key: a → b`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        nested = [_differences(old.get(k), new.get(k), f"{place}.{k}".strip(".")) for k in keys]
        return [one for many in nested for one in many]
    return [] if old == new else [f"{place}: {old} → {new}"]


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m slam_model.grid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", help="a shipped grid's name, or the path of a YAML file")
    parser.add_argument("--data", required=True, metavar="DIR", help="has the corpora by name")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the grid")
    parser.add_argument("--profile", help="another size: paper/small, or a YAML file")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="in place of the grid's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of every pretraining recipe",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="CELL",
        help="cells whose names hold this or fit it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="says what would run; writes nothing"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    group = parser.add_argument_group("generation (GenPPL, Auto-BLEU)")
    group.add_argument("--vocoder", metavar="FOLDER", help="without it these scores are not run")
    group.add_argument("--asr", help="as of slam_model.eval")
    group.add_argument("--lm", help="as of slam_model.eval")
    return parser


if __name__ == "__main__":
    command.run(main)
