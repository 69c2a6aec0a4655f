"""`python -m slam_model.train` in real processes: killed, resumed, refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from runs import (
    Started,
    figures,
    lines,
    small_files,
    train,
    weights,
    write_pairs,
    write_recipe,
    write_stories,
)
from slam_model.checkpoint import Checkpoints
from slam_model.recipe import TrainRecipe, load_train_recipe
from tiny import FAMILIES
from unitcorpus.shards.format import seal, unseal

Arguments = list[object]


@pytest.fixture
def pretraining(tmp_path: Path) -> Arguments:
    recipe = write_recipe(tmp_path / "tiny.yaml", budget={"steps": 28})
    return [recipe, "--data", write_stories(tmp_path / "stories")]


@pytest.fixture
def preference(tmp_path: Path) -> Arguments:
    base = tmp_path / "base"
    recipe = write_recipe(tmp_path / "base.yaml", budget={"steps": 2})
    assert train(recipe, "--data", write_stories(tmp_path / "s"), "--out", base).code == 0
    recipe = write_recipe(
        tmp_path / "dpo.yaml",
        model={"base": str(base / "final")},
        budget={"steps": 28},
        dpo={"pairs_per_step": 4},
    )
    return [recipe, "--data", write_pairs(tmp_path / "pairs")]


@pytest.fixture(params=["pretraining", "preference"])
def arguments(request: pytest.FixtureRequest) -> Arguments:
    found: Arguments = request.getfixturevalue(request.param)
    return found


def assert_same_run(out: Path, whole: Path) -> None:
    """Every logged figure but the times, and every weight, bit for bit."""
    assert figures(out) == figures(whole)
    ours, theirs = weights(out), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit(
    arguments: Arguments, number: signal.Signals, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert train(*arguments, "--out", whole).code == 0
    for attempt in range(2):
        run = Started([*arguments, "--out", out])
        run.wait_for_step(random.randint(5, 10) + 9 * attempt)
        run.send(number)
        stopped = run.wait()
        assert stopped.code == (-signal.SIGKILL if number == signal.SIGKILL else 143)
        assert not (out / "final").exists()
    assert "goes on from there" in stopped.errors or number == signal.SIGKILL
    finished = train(*arguments, "--out", out)
    assert finished.code == 0
    assert "going on from step" in finished.errors
    assert_same_run(out, whole)


def test_what_dropout_draws_goes_on_too(tmp_path: Path) -> None:
    model = {"base": {**FAMILIES["opt"], "dropout": 0.2}, "twist": False}
    recipe = write_recipe(tmp_path / "opt.yaml", model=model)
    arguments = [recipe, "--data", write_stories(tmp_path / "stories")]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert train(*arguments, "--out", whole).code == 0
    run = Started([*arguments, "--out", out])
    run.wait_for_step(3)
    run.send(signal.SIGTERM)
    assert run.wait().code == 143
    assert train(*arguments, "--out", out).code == 0
    assert_same_run(out, whole)


def test_ctrl_c_saves_and_exits_with_130(pretraining: Arguments, tmp_path: Path) -> None:
    run = Started([*pretraining, "--out", tmp_path / "out"])
    run.wait_for_step(5)
    run.send(signal.SIGINT)
    assert run.wait().code == 130
    last = lines(tmp_path / "out")[-1]["step"]
    assert (tmp_path / "out" / "checkpoints" / f"step-{last:08d}").is_dir()


def test_two_processes_train_as_one(arguments: Arguments, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    short = [*arguments, "--set", "budget.steps=6"]
    assert train(*short, "--out", one).code == 0
    assert train(*short, "--out", two, processes=2).code == 0
    for ours, theirs in zip(figures(two), figures(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=0, atol=1e-4)


def test_two_processes_stop_at_the_same_step_on_a_signal_to_one(
    pretraining: Arguments, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    run = Started([*pretraining, "--out", out], processes=2)
    run.wait_for_step(5)
    run.send(signal.SIGTERM, only=1)
    assert run.wait().code == 143
    assert train(*pretraining, "--out", out, processes=2).code == 0
    assert train(*pretraining, "--out", whole, processes=2).code == 0
    assert_same_run(out, whole)


def test_hours_that_are_used_are_never_given_back(pretraining: Arguments, tmp_path: Path) -> None:
    seconds, out = 3.0, tmp_path / "out"
    hours = ["--set", "budget.steps=null", "--set", f"budget.hours={seconds / 3600}"]
    run = Started([*pretraining, *hours, "--out", out])
    run.wait_for_step(5)
    run.send(signal.SIGKILL)
    assert run.wait().code == -signal.SIGKILL
    kept = Checkpoints(out / "checkpoints", keep=2).latest(pytest.fail)
    assert kept is not None
    assert kept.state["seconds"] > 0
    assert train(*pretraining, *hours, "--out", out).code == 0
    assert next(x for x in lines(out) if x["step"] > kept.step)["elapsed"] >= kept.state["seconds"]
    assert seconds <= lines(out)[-1]["elapsed"] < seconds + 2


def test_what_is_trained_loads_with_plain_transformers(
    pretraining: Arguments, tmp_path: Path
) -> None:
    assert train(*pretraining, "--out", tmp_path / "out", "--set", "budget.steps=2").code == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "final")
    assert model.config.vocab_size == 52
    recipe = load_train_recipe(str(tmp_path / "out" / "final" / "recipe.yaml"))
    assert isinstance(recipe, TrainRecipe)
    assert recipe.budget.steps == 2


def test_a_finished_run_may_be_given_more_and_nothing_is_trained_twice(
    pretraining: Arguments, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    constant = ["--set", "schedule.shape=constant", "--set", "schedule.warmup=0"]
    assert train(*pretraining, *constant, "--out", out, "--set", "budget.steps=6").code == 0
    modified = (out / "metrics.jsonl").read_text()
    assert train(*pretraining, *constant, "--out", out, "--set", "budget.steps=6").code == 0
    assert (out / "metrics.jsonl").read_text() == modified
    assert train(*pretraining, *constant, "--out", out, "--set", "budget.steps=9").code == 0
    assert train(*pretraining, *constant, "--out", whole, "--set", "budget.steps=9").code == 0
    losses = [[line["loss"] for line in figures(run)] for run in (out, whole)]
    assert losses[0] == losses[1]


def test_a_truncated_checkpoint_is_said_and_the_one_before_is_used(
    pretraining: Arguments, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert train(*pretraining, "--out", whole).code == 0
    run = Started([*pretraining, "--out", out])
    run.wait_for_step(14)
    run.send(signal.SIGTERM)
    assert run.wait().code == 143
    newest = sorted((out / "checkpoints").iterdir())[-1]
    os.truncate(newest / "model" / "model.safetensors", 1000)
    finished = train(*pretraining, "--out", out)
    assert f"{newest} is damaged (model/model.safetensors has 1000 bytes of" in finished.errors
    assert finished.code == 0
    assert_same_run(out, whole)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_rows(
    pretraining: Arguments, tmp_path: Path
) -> None:
    wild = ["optim.lr=1e30", "schedule.warmup=0", "checkpoint.steps=1"]
    options = [word for key in wild for word in ("--set", key)]
    ended = train(*pretraining, *options, "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.errors.count("\n") == 1
    assert "step 2: the loss is nan" in ended.errors
    assert "stories train-000" in ended.errors
    assert "The checkpoint of step 1 is kept" in ended.errors


def test_a_full_disk_is_one_error_and_the_checkpoint_before_is_whole(
    pretraining: Arguments, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert train(*pretraining, "--out", out, "--set", "budget.steps=4").code == 0
    more = [*pretraining, "--out", out, "--set", "budget.steps=8"]
    full = train(*more, prepare=small_files)
    assert full.code == 2
    assert f"cannot save {out / 'checkpoints' / 'step-00000008'}" in full.errors
    assert "step 4 is kept" in full.errors
    assert train(*more).code == 0


def other_vocabulary(folder: Path) -> list[str]:
    write_stories(folder / "other", size=30)
    recipe = write_recipe(folder / "other.yaml", budget={"steps": 1})
    out = folder / "of_other"
    assert train(recipe, "--data", folder / "other", "--out", out).code == 0
    return ["--set", f"model.base={out / 'final'}", "--set", "model.twist=true"]


def other_units(folder: Path) -> list[str]:
    """A model of as many units, but not of these."""
    out = folder / "of_other"
    recipe = write_recipe(folder / "other.yaml", budget={"steps": 1})
    corpus = write_stories(folder / "other")
    info = unseal((corpus / "corpus.json").read_bytes(), "corpus.json")
    info["units"] = {**info["units"], "fingerprint": "0" * 64}
    (corpus / "corpus.json").write_bytes(seal(info))
    assert train(recipe, "--data", corpus, "--out", out).code == 0
    return ["--set", f"model.base={out / 'final'}", "--set", "model.twist=true"]


def unfinished(folder: Path) -> list[str]:
    corpus = write_stories(folder / "unfinished")
    (corpus / "corpus.json").unlink()
    return ["--data", str(corpus)]


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "unfinished corpus": (unfinished, "is not a finished corpus"),
    "checkpoint of other units": (other_units, "was trained on other units (test50, 50 units"),
    "no corpus": (lambda f: ["--data", str(f / "nothing")], "is not a finished corpus"),
    "other units": (
        lambda f: ["--data", str(f / "stories"), str(write_stories(f / "b", size=30))],
        "build both with the same units",
    ),
    "other vocabulary": (other_vocabulary, "has a vocabulary of 32 tokens, the corpus one of 52"),
    "long context": (
        lambda f: ["--set", "data.context=300", "--set", "data.micro_tokens=600"],
        "256 positions: data.context=300 is longer",
    ),
    "no budget": (lambda f: ["--set", "budget.steps=0"], "'budget.steps': input should be greater"),
    "no such corpus to repeat": (
        lambda f: ["--set", "data.repeats={storis: 2}"],
        r"there is no corpus 'storis' (did you mean 'stories'?)",
    ),
    "pairs to pretrain on": (lambda f: ["--data", str(write_pairs(f / "p"))], "holds pairs"),
    "no such tracker": (lambda f: ["--set", "log.trackers=[nope]"], "'nope' cannot be had here"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line(case: str, pretraining: Arguments, tmp_path: Path) -> None:
    make, message = BAD[case]
    refused = train(*pretraining, *make(tmp_path), "--out", tmp_path / "out")
    assert refused.code == 2
    assert message in refused.errors
    assert refused.errors.count("\n") == 1
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_another_recipe_or_other_data_in_the_same_folder_is_refused(
    pretraining: Arguments, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = [*pretraining, "--out", out, "--set", "budget.steps=2"]
    assert train(*first).code == 0
    other = train(*first, "--set", "optim.lr=0.1")
    assert (other.code, "optim.lr: 0.003 → 0.1" in other.errors) == (2, True)
    data = train(*first, "--data", write_stories(tmp_path / "else", name="else"))
    assert (data.code, "was trained on stories, not on else" in data.errors) == (2, True)
    fresh = train(*first, "--resume", "never")
    assert (fresh.code, "--resume auto goes on with it" in fresh.errors) == (2, True)


def test_one_run_at_a_time_in_a_folder(pretraining: Arguments, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = Started([*pretraining, "--out", out, "--set", "budget.steps=100000"])
    run.wait_for_step(1)
    second = train(*pretraining, "--out", out)
    run.send(signal.SIGKILL)
    run.wait()
    assert second.code == 2
    assert "another process trains in" in second.errors


def test_pairs_of_high_scores_or_too_long_are_left_out_and_said(
    preference: Arguments, tmp_path: Path
) -> None:
    recipe, flag, _ = preference
    pairs = write_pairs(tmp_path / "scored", scores=[0.1] * 10 + [0.3] * 30)
    run = [recipe, flag, pairs, "--set", "budget.steps=1", "--out", tmp_path / "out"]
    assert "10 of 40 pairs are used: 30 are not below dpo.max_scores" in train(*run).errors
    none = train(*run[:-1], tmp_path / "none", "--set", "dpo.max_scores={text_slam_chosen: 0.01}")
    assert (none.code, "no pair is left to train on" in none.errors) == (2, True)
    typo = train(*run[:-1], tmp_path / "typo", "--set", "dpo.max_scores={text_slam_chosn: 0.3}")
    assert (typo.code, "did you mean 'text_slam_chosen'?" in typo.errors) == (2, True)


def test_the_command_itself_explains_and_refuses(tmp_path: Path) -> None:
    python = [sys.executable, "-m", "slam_model.train"]
    wrong = [*python, "slm", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no recipe 'slm' (did you mean 'slam'?)" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_inline_base_is_not_written_back(tmp_path: Path) -> None:
    """The recipes of the tests share FAMILIES: loading must not change them."""
    assert "vocab_size" not in FAMILIES["qwen2"]
