"""Trains a speech language model from corpora of units.

    python -m slam_model.train slam --data corpora/librispeech corpora/stinystories --out runs/slam
    python -m slam_model.train slam_dpo --data corpora/spokenswag --out runs/slam-dpo \
        --set model.base=runs/slam/final

Running the same command again resumes it. Writes OUT/metrics.jsonl, OUT/checkpoints/ and, when the
budget is spent, OUT/final/ (plain `save_pretrained`, and the recipe). Several processes:
`accelerate launch --num_processes 2 -m slam_model.train …`. How much of each corpus: data.weights,
data.repeats, or a mixture file in place of the corpora (slam_model.mixture).
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

import unitcorpus
from slam_model import command
from slam_model.budget import Clock
from slam_model.checkpoint import Checkpoint, Checkpoints, whole_folder
from slam_model.dpo import make_preference
from slam_model.loop import Run, Task, train
from slam_model.metrics import Log, duration
from slam_model.mixture import Sources, find_sources
from slam_model.model import load_model
from slam_model.pairs import Pairs, read_pairs
from slam_model.pretrain import Pretraining
from slam_model.recipe import TrainRecipe, changes, load_train_recipe
from slam_model.reference import Reference, weights_digest
from slam_model.tokens import Tokens, check_same_units, open_tokens
from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.seeds import seed_of

SETTLE = 0.5
"""Seconds before several processes part: gloo's thread needs the interpreter once more after the
last collective, and the end of its group waits for that thread without letting go of it."""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    disable_progress_bar()  # transformers' own; the log has one
    recipe = load_train_recipe(options.recipe, options.set)
    out = Path(options.out).expanduser()
    accelerator = _accelerator(options.device, recipe, out)
    with _alone(out) if accelerator.is_main_process else nullcontext():
        return run(recipe, find_sources(options.data), out, accelerator, options.resume == "auto")


def run(
    recipe: TrainRecipe, sources: Sources, out: Path, accelerator: Accelerator, resume: bool
) -> int:
    """Trains into `out`, from where an earlier run of it stopped. Returns the exit code."""
    read: Any = read_pairs if recipe.dpo else open_tokens
    data = [read(location, recipe.data.train) for location in sources.locations]
    check_same_units(data)
    recipe = sources.mixed(recipe, [one.name for one in data])
    validation = [
        read(location, recipe.data.validation)
        for location in sources.locations
        if recipe.data.validation in unitcorpus.open(location).splits
    ]
    record: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "data": [[one.name, one.fingerprint] for one in data],
    }
    checkpoints = Checkpoints(out / "checkpoints", recipe.checkpoint.keep)
    resumed = _resumable(checkpoints, record, resume, accelerator.is_main_process)
    done, used = (resumed.step, resumed.state["seconds"]) if resumed else (0, 0.0)
    with Log(out / "metrics.jsonl", accelerator.is_main_process, done) as log:
        if resumed:
            log.say(f"going on from step {done}, {duration(used)} used")
        torch.manual_seed(seed_of(recipe.seed, "process", str(accelerator.process_index)))

        def load(base: str | dict[str, Any]) -> PreTrainedModel:
            return _model(recipe, base, data[0], accelerator.device)

        model = load(str(resumed.model) if resumed else recipe.model.base)
        clock = Clock(used, recipe.budget.count_overhead)
        task: Task
        if recipe.dpo:
            weights = resumed.state["weights"] if resumed else weights_digest(model)
            record["weights"] = weights
            start = partial(load, recipe.model.base) if resumed else lambda: model
            reference = Reference(weights, start, recipe, accelerator)
            with clock.overhead():
                task = make_preference(recipe, data, validation, accelerator, reference, log.say)
        else:
            task = Pretraining(recipe, data, validation, accelerator)
        job = Run(recipe, accelerator, model, task, clock, checkpoints, log, record, resumed)
        number = train(job)
        if accelerator.num_processes > 1:
            time.sleep(SETTLE)
        accelerator.end_training()
        if number:
            log.say(f"stopped after step {job.budget.steps}; the same command goes on from there")
            return 128 + number
        if accelerator.is_main_process:
            _finish(model, recipe, out / "final")
        log.say(
            f"{job.budget.steps} steps, {job.budget.tokens} tokens, "
            f"{duration(job.budget.seconds)}: the model is in {out / 'final'}"
        )
    return 0


def _resumable(
    checkpoints: Checkpoints, record: dict[str, Any], resume: bool, main: bool
) -> Checkpoint | None:
    """The checkpoint to go on from, or None for a new run.

    Raises UnitcorpusError where the folder holds a run that this one cannot go on with.
    """
    if main:
        checkpoints.remove_temporary()
    steps = checkpoints.steps()
    if not steps:
        return None
    out = checkpoints.folder.parent
    if not resume:
        raise UnitcorpusError(
            f"{out} holds a run up to step {steps[-1]}: --resume auto goes on with it; for a new "
            "run give another --out"
        )
    found = checkpoints.latest(_warn if main else lambda _: None)
    if found is None:
        raise UnitcorpusError(f"every checkpoint of {out} is damaged; to start again remove it")
    if found.state["data"] != record["data"]:
        before, now = (", ".join(n for n, _ in which["data"]) for which in (found.state, record))
        changed = " (its content is another)" if before == now else f", not on {now}"
        raise UnitcorpusError(
            f"{out} was trained on {before}{changed}: give the same --data, or another --out"
        )
    differences = changes(found.state["recipe"], record["recipe"])
    if differences:
        raise UnitcorpusError(
            f"{out} holds a run of another recipe: {'; '.join(differences)}; "
            "change it back, or give another --out"
        )
    return found


def _warn(text: str) -> None:
    print(f"slam_model: {text}", file=sys.stderr, flush=True)


def _model(
    recipe: TrainRecipe, base: str | dict[str, Any], data: Tokens | Pairs, device: torch.device
) -> PreTrainedModel:
    model = recipe.model
    return load_model(
        base,
        vocab=data.vocabulary,
        context=recipe.data.context,
        twist=model.twist or base != model.base,
        rope_theta=model.rope_theta,
        revision=model.revision if base == model.base else None,
        dtype=torch.bfloat16 if recipe.precision == "bf16_pure" else torch.float32,
        attention=model.attention,
        gradient_checkpointing=model.gradient_checkpointing,
        seed=recipe.seed,
        device=device,
        unit_spec=data.unit_spec,
    )


def _finish(model: PreTrainedModel, recipe: TrainRecipe, final: Path) -> None:
    """Writes the finished model and its recipe."""
    with whole_folder(final, "the last checkpoint has the same weights") as folder:
        model.save_pretrained(folder)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (folder / "recipe.yaml").write_text(text, "utf-8")


def _accelerator(device: str, recipe: TrainRecipe, out: Path) -> Accelerator:
    """The processes and their device. Raises UnitcorpusError for what is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UnitcorpusError("--device cuda: torch sees no GPU here; use --device cpu")
    known = [tracker.value for tracker in get_available_trackers()]
    for name in recipe.log.trackers:
        if name not in known:
            raise UnitcorpusError(
                f"log.trackers: '{name}' cannot be had here{nearest(name, known)}; installed: "
                f"{', '.join(known) or 'none'}"
            )
    cpu = device == "cpu" or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=cpu, log_with=list(recipe.log.trackers) or None, project_dir=out)
    if recipe.log.trackers:
        accelerator.init_trackers(recipe.name)
    return accelerator


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Holds the lock of a run's folder, or raises UnitcorpusError where another process does."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnitcorpusError(f"another process trains in {out}; wait for it") from None
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m slam_model.train",
        description="Train a speech language model from corpora of units.",
        epilog="example: python -m slam_model.train demo/slam --data corpora/demo --out runs/demo",
    )
    parser.add_argument("recipe", help="a shipped recipe's name, or the path of a YAML file")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DIR",
        help="finished corpora, or one .yaml file that names them with weights or epochs",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--resume",
        choices=["auto", "never"],
        default="auto",
        help="auto: go on with the run in OUT, if there is one; never: refuse if there is one",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. budget.hours=1"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    command.run(main)
