"""Continuations: as transformers gives them one at a time, whatever the batch, with and without
noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedModel

from slam_model.decoding import Sampling, decode, load_generator
from slam_model.model import load_model
from slam_model.tokens import BOS, EOS, FIRST_UNIT, PAD
from tiny import FAMILIES, random_units
from unitcorpus.errors import UnitcorpusError

VOCAB = 52
LENGTHS = (1, 40, 3, 17, 17, 88, 2)
IDS = [f"prompt {n}" for n in range(len(LENGTHS))]
GREEDY = Sampling(tokens=24, temperature=0)
SAMPLED = Sampling(tokens=24, temperature=1.2, top_k=20, top_p=0.9, repetition_penalty=1.1, seed=5)


def strong_model(folder: Path, family: str) -> Path:
    """A checkpoint whose preferences are far enough apart for its words to differ."""
    model = load_model(FAMILIES[family], vocab=VOCAB, context=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strong_model(tmp_path_factory.mktemp("checkpoint") / request.param, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    folder = strong_model(tmp_path_factory.mktemp("llama") / "llama", "llama")
    return load_generator(str(folder), VOCAB, "float32", "cpu")


def make_prompts() -> list[NDArray[np.uint16]]:
    rng = np.random.default_rng(3)
    units = [random_units(rng, n) + FIRST_UNIT for n in LENGTHS]
    return [np.concatenate([[BOS], one]).astype(np.uint16) for one in units]


def same(ours: list[Any], theirs: list[Any]) -> bool:
    return [one.tolist() for one in ours] == [one.tolist() for one in theirs]


@contextmanager
def scores_of(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """The last position's logits of every forward pass in the block, [rows, vocabulary] each."""
    seen: list[torch.Tensor] = []
    hook = model.register_forward_hook(lambda _m, _i, output: seen.append(output.logits[:, -1]))
    yield seen
    hook.remove()


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_shares_a_batch_changes_no_token(
    checkpoint: Path, dtype: str, sampling: Sampling
) -> None:
    model = load_generator(str(checkpoint), VOCAB, dtype, "cpu")
    alone = decode(model, make_prompts(), IDS, sampling, batch=1)
    for batch in (3, 7):
        assert same(decode(model, make_prompts(), IDS, sampling, batch), alone)
    assert len({tuple(one.tolist()) for one in alone}) == len(alone)


def test_logits_of_a_padded_batch_are_those_of_each_prompt_alone(checkpoint: Path) -> None:
    model = load_generator(str(checkpoint), VOCAB, "float32", "cpu")
    prompts = sorted(make_prompts(), key=len)
    short = replace(GREEDY, tokens=8)
    with scores_of(model) as together:
        decode(model, prompts, IDS, short, batch=len(prompts))
    for row, prompt in enumerate(prompts):
        with scores_of(model) as alone:
            decode(model, [prompt], ["any"], short)
        for ours, theirs in zip(together, alone, strict=False):
            torch.testing.assert_close(ours[row], theirs[0], atol=1e-5, rtol=1e-5)


def test_order_and_company_change_no_sample(llama: PreTrainedModel) -> None:
    prompts = make_prompts()
    forward = decode(llama, prompts, IDS, SAMPLED, batch=3)
    backward = decode(llama, prompts[::-1], IDS[::-1], SAMPLED, batch=4)[::-1]
    assert same(forward, backward)


# --- oracles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_the_plain_checkpoint_under_transformers(
    checkpoint: Path, penalty: float
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(checkpoint)
    theirs = []
    for prompt in make_prompts():
        tokens = torch.from_numpy(prompt.astype(np.int64))[None]
        output = plain.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=GREEDY.tokens,
            do_sample=False,
            repetition_penalty=penalty,
            suppress_tokens=[PAD],
        )
        new = output[0, len(prompt) :].tolist()
        theirs.append(np.array(new[: new.index(EOS)] if EOS in new else new) - FIRST_UNIT)
    model = load_generator(str(checkpoint), VOCAB, "float32", "cpu")
    ours = decode(model, make_prompts(), IDS, replace(GREEDY, repetition_penalty=penalty))
    assert same(ours, theirs)


def test_the_cache_changes_nothing(checkpoint: Path) -> None:
    """Against a forward pass over everything for each token."""
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    model = load_generator(str(checkpoint), VOCAB, "float64", "cpu")
    ours = decode(model, make_prompts(), IDS, GREEDY)
    for prompt, units in zip(make_prompts(), ours, strict=True):
        tokens = prompt.astype(np.int64).tolist()
        while len(tokens) < len(prompt) + GREEDY.tokens:
            with torch.no_grad():
                logits = plain(torch.tensor([tokens]), use_cache=False).logits[0, -1]
            logits[PAD] = -torch.inf
            tokens.append(int(logits.argmax()))
            if tokens[-1] == EOS:
                break
        assert [t - FIRST_UNIT for t in tokens[len(prompt) :] if t != EOS] == units.tolist()


def probabilities(logits: torch.Tensor, prompt: NDArray[np.uint16], how: Sampling) -> Any:
    """The definitions, one token at a time, in float64."""
    scores = logits.double().numpy().copy()
    for token in set(prompt.tolist()):
        by = how.repetition_penalty
        scores[token] = scores[token] / by if scores[token] > 0 else scores[token] * by
    scores[PAD] = -np.inf
    scores = scores / how.temperature
    if how.top_k:
        scores[scores < np.sort(scores)[-how.top_k]] = -np.inf
    share = np.exp(scores - scores.max())
    share /= share.sum()
    kept, total = np.zeros_like(share), 0.0
    for token in np.argsort(-share):  # the fewest that reach top_p
        if total >= how.top_p:
            break
        kept[token] = share[token]
        total += share[token]
    return kept / kept.sum()


@pytest.mark.parametrize(
    "how",
    [
        Sampling(1, 1.0, 0),
        Sampling(1, 0.7, 8),
        Sampling(1, 1.5, 0, 0.6),
        Sampling(1, 1.0, 30, 0.9, 1.5),
    ],
    ids=["plain", "top-k", "top-p", "all"],
)
def test_tokens_are_drawn_from_the_distribution_that_the_settings_define(
    llama: PreTrainedModel, how: Sampling
) -> None:
    prompt, draws = make_prompts()[3], 4000
    with scores_of(llama) as seen:
        drawn = decode(llama, [prompt] * draws, [f"{n}" for n in range(draws)], how, batch=1000)
    expected = probabilities(seen[0][0], prompt, how) * draws
    tokens = [int(one[0]) + FIRST_UNIT if len(one) else EOS for one in drawn]
    counts = np.bincount(tokens, minlength=VOCAB)
    assert not counts[expected == 0].any()
    assert counts[PAD] == 0
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    use = wanted > 0
    assert use.sum() > 3
    assert stats.chisquare(observed[use], wanted[use]).pvalue > 1e-4


# --- seeds, ends and limits -------------------------------------------------------------------


def test_seed_and_id_decide(llama: PreTrainedModel) -> None:
    prompts, ids = [make_prompts()[3]] * 3, ["a", "b", "a"]
    first = decode(llama, prompts, ids, SAMPLED)
    assert same([first[0]], [first[2]])
    assert not same([first[0]], [first[1]])
    assert not same(first, decode(llama, prompts, ids, replace(SAMPLED, seed=6)))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 30))
def test_continuations_are_units(
    llama: PreTrainedModel, seed: int, temperature: float, top_k: int
) -> None:
    sampling = Sampling(12, temperature, top_k, seed=seed)
    for one in decode(llama, make_prompts(), IDS, sampling):
        assert one.dtype == np.uint16
        assert len(one) <= 12
        assert (one < VOCAB - FIRST_UNIT).all()


def ending(model: PreTrainedModel, bias: float) -> PreTrainedModel:
    """The model with EOS likelier by `bias`."""
    head = torch.nn.Linear(32, VOCAB)
    with torch.no_grad():
        head.weight.copy_(model.get_output_embeddings().weight)
        head.bias.zero_()
        head.bias[EOS] = bias
    model.set_output_embeddings(head)
    return model


def test_a_row_that_ends_leaves_the_others_as_they_are(llama: PreTrainedModel) -> None:
    model = ending(deepcopy(llama), 4.0)
    sampling = replace(SAMPLED, top_k=0, top_p=1.0, temperature=1.0)
    together = decode(model, make_prompts(), IDS, sampling, batch=7)
    assert same(together, decode(model, make_prompts(), IDS, sampling, batch=1))
    lengths = {len(one) for one in together}
    assert min(lengths) < sampling.tokens
    assert len(lengths) > 1


def test_a_context_that_is_too_long_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(UnitcorpusError, match=r"89 tokens with 168 more is longer than .* 256"):
        decode(llama, make_prompts(), IDS, Sampling(168))
    decode(llama, make_prompts()[5:6], IDS[5:6], Sampling(167, top_k=1))


def test_a_diverged_model_is_told(llama: PreTrainedModel) -> None:
    model = deepcopy(llama)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    for sampling in (GREEDY, SAMPLED):
        with pytest.raises(UnitcorpusError, match="diverged"):
            decode(model, make_prompts(), IDS, sampling)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0.0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnitcorpusError, match=rf"--{next(iter(wrong)).replace('_', '-')} is .*be"):
        Sampling(**wrong)
