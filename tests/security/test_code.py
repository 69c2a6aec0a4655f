"""No file that is read is run: what the source may not contain, and a checkpoint that tries."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import slam_model
import unitcorpus
from slam_model.model import load_model
from unitcorpus.errors import UnitcorpusError

PACKAGES = [Path(str(package.__file__)).parent for package in (unitcorpus, slam_model)]

MAY_UNPICKLE = {
    # An unpickler that has no names to call, and a pipe between two processes of one build.
    "unitcorpus/units/pickled.py",
    "unitcorpus/build/isolated_process.py",
}
FORBIDDEN = {
    *("eval", "exec", "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "shelve.open"),
    *(
        "joblib.load",
        "dill.load",
        "dill.loads",
        "os.system",
        "tempfile.mktemp",
        "pandas.read_pickle",
    ),
}


def calls() -> Iterator[tuple[str, str, dict[str, str]]]:
    """(file, what is called, its keywords) of every call in the source."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            where = path.relative_to(package.parent).as_posix()
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    words = {k.arg or "**": ast.unparse(k.value) for k in node.keywords}
                    words |= {str(n): ast.unparse(a) for n, a in enumerate(node.args)}
                    yield where, ast.unparse(node.func), words


def test_nothing_that_runs_what_it_reads_is_called() -> None:
    seen = set()
    for where, name, words in calls():
        last = name.rpartition(".")[2]
        assert name not in FORBIDDEN, where
        if "pickle." in name and last in ("load", "loads", "Unpickler"):
            assert where in MAY_UNPICKLE, where
        if name == "torch.load":
            assert words.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle", "False") == "False", where
        if name == "yaml.load":
            assert words["1"] == "_Loader", where
        if last in ("from_pretrained", "from_config") and name[0].isupper() and "Auto" in name:
            assert words.get("trust_remote_code") == "False", where
        assert words.get("trust_remote_code", "False") == "False", where
        assert words.get("shell", "False") == "False", where
        seen.add(name)
    assert {"torch.load", "np.load", "yaml.load", "AutoModelForCausalLM.from_pretrained"} <= seen


def test_a_checkpoint_with_code_of_its_own_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    mark = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "model_type": "evil",
        "architectures": ["EvilForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling.EvilConfig",
            "AutoModelForCausalLM": "modeling.EvilForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UnitcorpusError):
        load_model(str(folder), vocab=502, context=8)
    assert not mark.exists()


class Harmful:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt"])
def test_weights_that_are_a_program_are_not_run(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    torch.save({"weight": Harmful(mark)}, path)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, map_location="cpu", weights_only=True)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # so that the test could fail
    assert mark.exists()
