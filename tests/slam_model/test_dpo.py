"""Preference optimisation against TRL, the DPO authors' definitions, and one pair at a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from slam_model.dpo import Preference, preference_loss
from slam_model.model import load_model
from slam_model.pairs import read_pairs
from slam_model.pairset import PairSet, completion_logps, pair_packs, usable
from slam_model.recipe import Dpo, TrainRecipe
from slam_model.reference import Reference, weights_digest
from tiny import FAMILIES, random_units, write_corpus
from unitcorpus.errors import UnitcorpusError

LOGPS = st.lists(
    st.tuples(*[st.floats(-500, 0, allow_subnormal=False)] * 4), min_size=1, max_size=8
)


def logps(rows: list[tuple[float, ...]]) -> tuple[Tensor, ...]:
    return torch.tensor(rows, dtype=torch.float64).unbind(1)


@given(LOGPS, st.floats(0.01, 1))
def test_dpo_is_the_negative_log_likelihood_of_the_preference(
    rows: list[tuple[float, ...]], beta: float
) -> None:
    """Equation 7: −log σ(β log-ratio of chosen − β log-ratio of rejected), as softmax over both."""
    pc, pr, rc, rr = logps(rows)
    losses, chosen, rejected = preference_loss(pc, pr, rc, rr, beta)
    logits = torch.stack([beta * (pc - rc), beta * (pr - rr)], 1)
    zeros = torch.zeros(len(rows), dtype=torch.long)
    expected = torch.nn.functional.cross_entropy(logits, zeros, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(chosen, logits[:, 0], rtol=0, atol=1e-9)
    torch.testing.assert_close(rejected, logits[:, 1], rtol=0, atol=1e-9)


@given(LOGPS, st.floats(0.01, 1), st.floats(0, 0.49))
def test_label_smoothing_is_the_expected_loss_under_flipped_labels(
    rows: list[tuple[float, ...]], beta: float, smoothing: float
) -> None:
    pc, pr, rc, rr = logps(rows)
    losses, *_ = preference_loss(pc, pr, rc, rr, beta, smoothing)
    right, *_ = preference_loss(pc, pr, rc, rr, beta)
    wrong, *_ = preference_loss(pr, pc, rr, rc, beta)
    expected = (1 - smoothing) * right + smoothing * wrong
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)


@given(LOGPS, st.floats(0.01, 1))
def test_ipo_is_the_squared_distance_of_the_summed_margin(
    rows: list[tuple[float, ...]], beta: float
) -> None:
    pc, pr, rc, rr = logps(rows)
    losses, *_ = preference_loss(pc, pr, rc, rr, beta, variant="ipo")
    numpy = np.array(rows)
    margin = (numpy[:, 0] - numpy[:, 1]) - (numpy[:, 2] - numpy[:, 3])
    np.testing.assert_allclose(losses.numpy(), (margin - 0.5 / beta) ** 2, rtol=1e-12, atol=1e-9)


# --- TRL ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer over unit words, with a policy and another model as its reference."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<S>": 1, **{f"u{i}": i + 2 for i in range(50)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = {"prompt": "<S> u3 u4", "chosen": " u5 u6 u7 <S>", "rejected": " u8 <S>"}
    return trl.DPOTrainer(
        plain_model(0),
        plain_model(1),
        args=trl.DPOConfig(
            str(tmp_path_factory.mktemp("trl")), use_cpu=True, bf16=False, report_to=[]
        ),
        train_dataset=Dataset.from_list([rows]),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<S>"
        ),
    )


def plain_model(seed: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(FAMILIES["qwen2"])
    torch.manual_seed(seed)
    kind = AutoConfig.for_model(config.pop("model_type"), **config, vocab_size=52)
    return AutoModelForCausalLM.from_config(kind).eval()


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.7])
def test_dpo_equals_trl_on_given_log_probabilities(trainer: Any, beta: float) -> None:
    """TRL's own loss, on one completion token a side, whose log-probability is given to it."""
    generator = torch.Generator().manual_seed(0)
    pc, pr, rc, rr = -100 * torch.rand(4, 9, generator=generator, dtype=torch.float64)
    per_token = torch.cat([pc, pr])[:, None]
    nothing = torch.zeros_like(per_token)
    outputs = SimpleNamespace(
        log_probs=per_token, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
    )
    inputs = {
        "input_ids": torch.ones(18, 2, dtype=torch.long),
        "attention_mask": torch.ones(18, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1]] * 18),
        "ref_chosen_logps": rc,
        "ref_rejected_logps": rr,
    }
    trainer.beta, trainer.precompute_ref_logps = beta, True
    theirs = trainer._compute_loss(lambda **_: outputs, inputs, False)
    losses, *_ = preference_loss(pc, pr, rc, rr, beta)
    torch.testing.assert_close(losses.mean(), theirs, rtol=0, atol=1e-9)


def test_a_packed_batch_has_the_loss_of_trls_padded_one(
    trainer: Any, pairs: PairSet, models: tuple[Any, Any]
) -> None:
    policy, reference = models
    for ours, theirs in zip((policy, reference), (trainer.model, trainer.ref_model), strict=True):
        theirs.load_state_dict({k: v.float() for k, v in ours.state_dict().items()})
    rows = [
        {
            "prompt_ids": chosen[:n].tolist(),
            "chosen_ids": chosen[n:].tolist(),
            "rejected_ids": rejected[n:].tolist(),
        }
        for (chosen, rejected), n in zip(pairs.sides, pairs.prompt_lengths, strict=True)
    ]
    trainer.beta, trainer.precompute_ref_logps = 0.3, False
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
        losses = loss_of(policy, reference, pairs, beta=0.3)
    assert float(losses.mean()) == pytest.approx(float(theirs), abs=1e-5)


# --- packs of pairs ----------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> PairSet:
    rng = np.random.default_rng(0)
    rows = [
        {part: random_units(rng, int(n)) for part, n in zip(PARTS, of, strict=True)}
        for of in rng.integers(1, 30, (17, 3))
    ]
    root = write_corpus(tmp_path / "pairs", {"train": rows})
    return usable([read_pairs(root, "train")], Dpo(max_scores={}), 64)


PARTS = ("prompt", "chosen", "rejected")


@pytest.fixture
def models() -> tuple[Any, Any]:
    made = [
        load_model(FAMILIES["qwen2"], vocab=52, context=64, twist=False, seed=seed)
        for seed in (0, 1)
    ]
    return made[0].double(), made[1].double()


def recipe_of(micro_tokens: int = 200, **dpo: Any) -> TrainRecipe:
    return TrainRecipe.model_validate(
        {
            "name": "tiny",
            "model": {"base": FAMILIES["qwen2"], "twist": False},
            "data": {"context": 64, "micro_tokens": micro_tokens},
            "optim": {"lr": 1e-3},
            "budget": {"steps": 1},
            "dpo": {"pairs_per_step": 5, **dpo},
        }
    )


def logps_of(model: Any, pairs: PairSet, micro_tokens: int = 200) -> Tensor:
    """[pairs, 2], from packs."""
    found = torch.zeros(len(pairs) * 2, dtype=torch.float64)
    data = recipe_of(micro_tokens).data
    for pack in pair_packs(pairs, np.arange(len(pairs)), data):
        found[pack.rows] = completion_logps(model, pack, pairs).double()
    return found.view(-1, 2)


def loss_of(policy: Any, reference: Any, pairs: PairSet, beta: float) -> Tensor:
    pc, pr = logps_of(policy, pairs).unbind(1)
    rc, rr = logps_of(reference, pairs).unbind(1)
    return preference_loss(pc, pr, rc, rr, beta)[0]


def test_log_probabilities_equal_those_of_one_sequence_at_a_time(
    pairs: PairSet, models: tuple[Any, Any]
) -> None:
    """The oracle is transformers' own forward over each whole sequence, summed by hand."""
    model, _ = models
    plain = plain_model(0).double()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        packed = logps_of(model, pairs)
        for number, sides in enumerate(pairs.sides):
            for side, sequence in enumerate(sides):
                ids = torch.from_numpy(sequence.astype(np.int64))
                scores = plain(input_ids=ids[None]).logits[0].log_softmax(-1)
                start = int(pairs.prompt_lengths[number])
                alone = sum(float(scores[i - 1, ids[i]]) for i in range(start, len(ids)))
                assert float(packed[number, side]) == pytest.approx(alone, abs=1e-9)


def test_how_pairs_are_packed_changes_no_log_probability(
    pairs: PairSet, models: tuple[Any, Any]
) -> None:
    with torch.no_grad():
        one, many = (logps_of(models[0], pairs, tokens) for tokens in (128, 5000))
    torch.testing.assert_close(one, many, rtol=0, atol=1e-9)


@given(st.integers(1, 7), st.integers(1, 40), st.integers(1, 4))
def test_every_pair_is_seen_once_an_epoch_and_a_restored_task_goes_on(
    per_step: int, count: int, steps: int
) -> None:
    units = np.ones(4, np.uint16)
    pairs = PairSet(
        names=[str(i) for i in range(count)],
        sides=[(units, units)] * count,
        prompt_lengths=np.full(count, 2),
        fingerprint="",
        words="",
    )
    recipe = recipe_of(pairs_per_step=per_step)
    assert recipe.dpo is not None

    def task() -> Preference:
        return Preference(
            recipe, recipe.dpo or Dpo(), Accelerator(cpu=True), pairs, torch.zeros(count, 2), None
        )

    def numbers(of: Preference) -> list[int]:
        return [int(row) // 2 for pack in of.share().packs for row in pack.rows[::2]]

    whole = task()
    taken = [numbers(whole) for _ in range(3 * count // per_step + 1)]
    seen = [number for step in taken for number in sorted(step)]
    counts = [seen.count(number) for number in range(count)]
    assert max(counts) - min(counts) <= 1

    first, second = task(), task()
    for _ in range(min(steps, len(taken) - 1)):
        first.share()
    second.restore(first.state())
    assert numbers(second) == taken[min(steps, len(taken) - 1)]


def test_the_reference_is_computed_once_and_found_again(
    pairs: PairSet, models: tuple[Any, Any]
) -> None:
    model = models[1].float()
    loaded: list[int] = []

    def load() -> Any:
        loaded.append(1)
        return model

    recipe, accelerator = recipe_of(), Accelerator(cpu=True)
    first = Reference(weights_digest(model), load, recipe, accelerator).logps(pairs)
    again = Reference(weights_digest(model), load, recipe_of(beta=0.9), accelerator).logps(pairs)
    assert len(loaded) == 1
    assert torch.equal(first, again)
    with torch.no_grad():
        torch.testing.assert_close(first.double(), logps_of(model, pairs), rtol=0, atol=1e-3)
    with pytest.raises(UnitcorpusError, match="is not the model that this run started from"):
        Reference(weights_digest(models[0]), load, recipe, accelerator).logps(pairs)


def test_other_weights_have_another_digest(models: tuple[Any, Any]) -> None:
    one = weights_digest(models[0])
    assert one == weights_digest(models[0])
    next(models[0].parameters()).data[0, 0] += 1e-9
    assert one != weights_digest(models[0])
