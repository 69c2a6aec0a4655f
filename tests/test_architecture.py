"""The rules of the tree: arrows point one way, and importing the package stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unitcorpus

ROOT = Path(unitcorpus.__file__).parent

# What each package may import of the others; `errors`, `seeds` and itself always.
ALLOWED = {
    "errors": set[str](),
    "seeds": set[str](),
    "recipe": set[str](),
    "shards": set[str](),
    "sources": {"recipe"},
    "channels_last": set[str](),
    "speech": {"channels_last", "recipe"},
    "units": {"channels_last", "recipe", "shards"},
    "dedup": {"recipe", "shards"},
    "pairs": {"recipe"},
    "quality": {"pairs", "recipe", "units"},
    "hub": {"shards"},
    "build": {"recipe", "shards", "sources", "speech", "units", "dedup", "quality", "hub"},
    "report": {"recipe", "shards", "units", "hub", "build"},
    "cli": {"recipe", "shards", "build", "report", "hub"},
}


def imports_of(path: Path) -> set[str]:
    """The names that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    folder = ROOT / package
    modules = sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{package}.py"]
    assert modules
    allowed = ALLOWED[package] | {package, "errors", "seeds"}
    for module in modules:
        inside = {n.split(".")[1] for n in imports_of(module) if n.startswith("unitcorpus.")}
        assert inside <= allowed, f"{module.relative_to(ROOT)} imports {sorted(inside - allowed)}"


def test_every_package_has_a_rule() -> None:
    found = {
        p.stem for p in ROOT.iterdir() if (p.is_dir() or p.suffix == ".py") and p.stem[0] != "_"
    }
    assert found - {"recipes"} == set(ALLOWED)


def test_unitcorpus_never_imports_the_trainer() -> None:
    for module in ROOT.rglob("*.py"):
        assert not any(name.split(".")[0] == "slam_model" for name in imports_of(module)), module


def test_the_trainer_reads_corpora_and_knows_nothing_of_builds() -> None:
    # `units` encode recorded prompts, `pairs` have the auto-BLEU of what is generated.
    allowed = {"shards", "recipe", "errors", "seeds", "units", "pairs"}
    for module in (ROOT.parent / "slam_model").rglob("*.py"):
        names = [name for name in imports_of(module) if name.startswith("unitcorpus.")]
        inside = {name.split(".")[1] for name in names}
        assert inside <= allowed, f"{module.name} imports {sorted(inside - allowed)}"


@pytest.mark.parametrize("statement", ["import unitcorpus", "import unitcorpus.cli"])
def test_importing_loads_no_heavy_library(statement: str) -> None:
    heavy = {
        "torch",
        "ray",
        "transformers",
        "datasets",
        "faiss",
        "pyarrow",
        "jinja2",
        "huggingface_hub",
    }
    code = f"import sys; {statement}; found = {heavy!r} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
