"""The "text models" of the small grids: TWIST starts from them as from the published ones.

    python recipes/paper/small_bases.py small/data

Each of the paper's nine bases at a hundredth of its width, with its family, head layout, norms and
positions, trained for a moment on the letters of small/data/stinystories, a token each. Finished
ones are skipped.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import yaml

import unitcorpus
from slam_model import command, train
from slam_model.base import shipped
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import Recipe

LAYERS = 2
STEPS = 40
"""Of about 2,000 letters."""


def main(arguments: list[str]) -> int:
    data = Path(arguments[0])
    letters = _letters(data)
    for name, config in shipped().items():
        out = data / "bases" / name.rsplit("/", 1)[-1]
        if not (out / "final" / "config.json").is_file():
            out.mkdir(parents=True, exist_ok=True)
            recipe = out / "recipe.yaml"
            recipe.write_text(yaml.safe_dump(_recipe(_small(config))), "utf-8")
            train.main([str(recipe), "--data", str(letters), "--out", str(out), "--device", "cpu"])
            _forget_units(out / "final" / "config.json")
    return 0


def _forget_units(path: Path) -> None:
    """A text model does not say of which units it is; ours do, and are refused for others."""
    config = json.loads(path.read_text("utf-8"))
    del config["unit_spec"]
    path.write_text(json.dumps(config, indent=2), "utf-8")


def _letters(data: Path) -> Path:
    """A corpus of the stories' texts, of which each character is a unit."""
    table = {letter: number for number, letter in enumerate(string.printable)}
    rows = data / "letters.jsonl"
    with rows.open("w", encoding="utf-8") as stream:
        for sample in unitcorpus.open(data / "stinystories").samples("train"):
            units = [table[letter] for letter in sample.meta["text"] if letter in table]
            collapsed = [a for a, b in zip(units, [*units[1:], -1], strict=True) if a != b]
            stream.write(json.dumps({"file_name": sample.meta["id"], "units": collapsed}) + "\n")
    units = {"extractor": "published", "name": "letters", "size": 100, "frame_rate": 25}
    source = {"kind": "units", "path": str(rows)}
    recipe = {"name": "letters", "source": source, "units": units, "validation": 0}
    build_corpus(Recipe.model_validate(recipe), data / "letters")
    return data / "letters"


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """A published configuration with few and narrow layers; the larger of a family stays larger."""
    width = 64 if config["hidden_size"] < 900 and config["model_type"] != "qwen2" else 96
    grouped = config.get("num_key_value_heads") != config["num_attention_heads"]
    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "ffn_dim": 4 * width,
        "word_embed_proj_dim": width
        * config.get("word_embed_proj_dim", 1)
        // config["hidden_size"],
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if grouped else 4,
    }
    return config | {key: value for key, value in sizes.items() if key in config}


def _recipe(base: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "letters",
        "model": {"base": base, "twist": False},
        "data": {"context": 256, "tokens_per_step": 2000, "micro_tokens": 2048},
        "optim": {"lr": 0.003},
        "schedule": {"warmup": 0.1},
        "budget": {"steps": STEPS},
        "evaluation": {"steps": None},
        "checkpoint": {"steps": None, "minutes": None, "keep": 1},
    }


if __name__ == "__main__":
    command.run(main)
