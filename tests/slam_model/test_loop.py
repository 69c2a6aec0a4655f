"""The update: independent of how a step is cut, and the mean over the tokens that it says it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from runs import write_stories
from slam_model.budget import Clock
from slam_model.checkpoint import Checkpoints
from slam_model.loop import Run, evaluate, train, update
from slam_model.metrics import Flops, Log, cut_after, line
from slam_model.model import load_model
from slam_model.pretrain import Pretraining
from slam_model.recipe import TrainRecipe
from slam_model.tokens import open_tokens
from tiny import FAMILIES, random_units, write_corpus

Make = Callable[..., Run]


@pytest.fixture
def sixteen(tmp_path: Path) -> Path:
    """Sixteen documents of 34 to 64 tokens: no two fit into a pack of 64."""
    rng = np.random.default_rng(0)
    rows = [{"units": random_units(rng, int(n))} for n in rng.integers(32, 63, 16)]
    return write_corpus(tmp_path / "sixteen", {"train": rows, "validation": rows[:3]})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def run(
        corpus: Path, *, family: str = "qwen2", precision: str = "float32", **sections: Any
    ) -> Run:
        recipe = TrainRecipe.model_validate(
            {
                "name": "tiny",
                "model": {"base": FAMILIES[family], "twist": False},
                "data": {"context": 64, "tokens_per_step": 1024, "micro_tokens": 1024},
                "precision": precision,
                "optim": {"lr": 1e-3, "weight_decay": 0.1},
                "schedule": {"warmup": 0},
                "budget": {"steps": 3},
                "log": {"steps": 1},
                **sections,
            }
        )
        dtype = torch.bfloat16 if precision == "bf16_pure" else torch.float32
        model = load_model(FAMILIES[family], vocab=52, context=64, twist=False, dtype=dtype)
        accelerator = Accelerator(cpu=True)
        data = [open_tokens(corpus, split) for split in ("train", "validation")]
        return Run(
            recipe,
            accelerator,
            model,
            Pretraining(recipe, data[:1], data[1:], accelerator),
            Clock(),
            Checkpoints(tmp_path / "out" / "checkpoints", keep=1),
            Log(tmp_path / "out" / "metrics.jsonl", main=True),
            {"recipe": {}, "data": {}},
        )

    return run


def in_float64(run: Run) -> Run:
    """The same run in float64, so that differences are of the method and not of rounding."""
    run.model.double()
    return run


def parameters(run: Run) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in run.model.named_parameters()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_one_pack_of_sixteen_and_sixteen_packs_of_one_give_the_same_update(
    make: Make, sixteen: Path, family: str
) -> None:
    data = {"context": 64, "tokens_per_step": 2000, "epochs": 1}
    whole = in_float64(make(sixteen, family=family, data={**data, "micro_tokens": 2000}))
    cut = in_float64(make(sixteen, family=family, data={**data, "micro_tokens": 64}))
    before = parameters(whole)
    one, many = update(whole), update(cut)
    assert whole.task.ended
    assert many.tokens == one.tokens
    assert many.means["loss"] == pytest.approx(one.means["loss"], abs=1e-12)
    assert many.norm == pytest.approx(one.norm, abs=1e-12)
    ours, theirs = parameters(cut), parameters(whole)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)
    assert any((ours[name] - before[name]).abs().max() > 1e-4 for name in ours)


def test_the_loss_is_the_mean_over_all_target_tokens_of_the_step(
    make: Make, sixteen: Path, tmp_path: Path
) -> None:
    """The oracle is transformers' own loss of one document at a time, weighted by its targets."""
    run = make(sixteen, data={"context": 64, "tokens_per_step": 2000, "epochs": 1})
    run.model.save_pretrained(tmp_path / "before")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "before")
    corpus = open_tokens(sixteen, "train")
    total = targets = 0.0
    for start, end in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True):
        ids = torch.from_numpy(corpus.tokens[start:end].astype(np.int64))[None]
        count = ids.shape[1] - 1
        total += plain(input_ids=ids, labels=ids).loss.item() * count
        targets += count
    assert update(run).means["loss"] == pytest.approx(total / targets, rel=1e-5)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_clipping_bounds_the_gradient_and_reports_it_unclipped(
    make: Make, sixteen: Path, clip: float | None
) -> None:
    run = make(sixteen, optim={"lr": 1e-3, "clip": clip})
    norm = update(run).norm
    found = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert norm > 0.1
    clipped = float(torch.cat([g.flatten() for g in found]).norm())
    assert clipped == pytest.approx(clip or norm, rel=1e-4)


def test_float32_weights_stay_float32_under_bfloat16_arithmetic(make: Make, sixteen: Path) -> None:
    mixed, full = make(sixteen, precision="bf16"), make(sixteen)
    pure = make(sixteen, precision="bf16_pure")
    losses = [update(run).means["loss"] for run in (mixed, full, pure)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[2] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}
    assert {p.dtype for p in pure.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["adamw", "ademamix", "adalomo"])
def test_every_optimizer_lowers_the_loss(make: Make, sixteen: Path, name: str) -> None:
    run = make(sixteen, optim={"name": name, "lr": 0.02}, budget={"steps": 25})
    first = update(run).means["loss"]
    assert train(run) == 0
    assert update(run).means["loss"] < first - 0.05


def test_a_run_ends_with_its_data_and_measures_the_last_step(
    make: Make, sixteen: Path, tmp_path: Path
) -> None:
    data = {"context": 64, "tokens_per_step": 256, "micro_tokens": 256, "epochs": 1}
    run = make(sixteen, data=data, budget={"hours": 1}, evaluation={"steps": 2})
    assert train(run) == 0
    found = [json.loads(text) for text in (tmp_path / "out" / "metrics.jsonl").open()]
    assert found[-1]["tokens"] == len(open_tokens(sixteen, "train").tokens)
    assert "validation_perplexity" in found[-1]
    measured = [entry["step"] for entry in found if "validation_loss" in entry]
    assert measured == [*range(2, found[-1]["step"], 2), found[-1]["step"]]
    assert run.checkpoints.steps() == [found[-1]["step"]]


def test_a_token_budget_ends_the_run(make: Make, tmp_path: Path) -> None:
    run = make(write_stories(tmp_path / "s"), budget={"tokens": 4000})
    train(run)
    assert 4000 <= run.budget.tokens < 4000 + 1024


def test_validation_is_the_mean_over_the_tokens_of_the_split(make: Make, sixteen: Path) -> None:
    """In packs of any size, and equal to the training loss of the same documents."""
    run = make(sixteen)
    figures = evaluate(run)
    small = make(sixteen, data={"context": 64, "tokens_per_step": 64, "micro_tokens": 64})
    assert evaluate(small) == pytest.approx(figures, rel=1e-6)
    assert figures["validation_perplexity"] == pytest.approx(np.exp(figures["validation_loss"]))


def test_flops_are_six_per_weight_and_token_and_the_attention(make: Make, sixteen: Path) -> None:
    """Against torch's own count of a step of one document without a mask; it counts attention in
    full, so the causal half is added."""
    from torch.utils.flop_counter import FlopCounterMode

    run = make(sixteen, family="gpt_neox")
    config = AutoModelForCausalLM.from_config(run.model.config, attn_implementation="eager")
    n = 60
    ids = torch.ones(1, n, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        config(input_ids=ids, labels=ids).loss.backward()
    layers, width = run.model.config.num_hidden_layers, run.model.config.hidden_size
    causal_half = 6 * layers * width * n * n
    ours = Flops(run.model).of(np.array([n])) + causal_half
    assert counter.get_total_flops() == pytest.approx(ours, rel=0.05)


def test_lines_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 8)) + '{"st')
    cut_after(path, 5)
    assert [json.loads(text)["step"] for text in path.open()] == [1, 2, 3, 4, 5]
    cut_after(path, 9)
    assert len(path.read_text().splitlines()) == 5


def test_the_line_on_the_terminal() -> None:
    figures = {"step": 120, "loss": 3.41214, "lr": 9.8e-4, "tokens_per_s": 182_345.0, "mfu": 0.412}
    assert line({**figures, "left": 724.0}) == (
        "step 120  loss 3.4121  lr 9.8e-04  182.3k tok/s  MFU 41 %  0:12:04 left"
    )
