"""Chunks, packs and the loader: nothing lost or twice, the same for any number of processes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_model.loader import Loader, Step
from slam_model.packing import (
    IGNORE,
    PADDING,
    Pack,
    chunk_table,
    deal,
    flat_pack,
    packs_in_order,
)
from slam_model.tokens import Tokens
from tiny import stories, write_corpus
from unitcorpus.errors import UnitcorpusError

Lengths = st.lists(st.integers(2, 60), min_size=1, max_size=30)


def corpus_of(lengths: list[int], name: str = "c") -> Tokens:
    """A corpus in memory whose every token is another number, so that a token tells its place."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(
        name=name,
        split="train",
        location="",
        fingerprint=name,
        unit_spec={"size": 60_000, "fingerprint": "x", "extractor": {"kind": "test"}},
        shards=(("train-000000", 0),),
        tokens=np.arange(offsets[-1], dtype=np.uint16),
        offsets=offsets,
    )


def loader_of(corpora: list[Tokens], **changes: object) -> Loader:
    arguments = {"context": 16, "tokens_per_step": 100, "micro_tokens": 40, "seed": 0, **changes}
    return Loader(corpora, **arguments)  # type: ignore[arg-type]


def rows_of(step: Step) -> list[int]:
    return [row for pack in step.packs for row in pack.rows.tolist() if row != PADDING]


# --- chunks -----------------------------------------------------------------------------------


@given(Lengths, st.integers(2, 20))
def test_chunks_predict_every_token_of_a_document_once(lengths: list[int], context: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    start, length = chunk_table(offsets, context)
    assert length.max() <= context
    assert length.min() >= 2
    predicted = [t for s, n in zip(start, length, strict=True) for t in range(s + 1, s + n)]
    expected = [t for i, n in enumerate(lengths) for t in range(offsets[i] + 1, offsets[i] + n)]
    assert predicted == expected
    for i, n in enumerate(lengths):
        mine = length[(start >= offsets[i]) & (start < offsets[i + 1])]
        assert len(mine) == -(-(n - 1) // (context - 1))  # the fewest
        assert (mine[:-1] == context).all()


# --- packs ------------------------------------------------------------------------------------


def test_a_pack_is_its_documents_end_to_end() -> None:
    documents = [np.array(one, np.uint16) for one in ([1, 5, 6, 1], [1, 9, 1], [1, 1])]
    pack = flat_pack(documents, rows=[7, 3, 9])
    assert pack.input_ids.tolist() == [1, 5, 6, 1, 1, 9, 1, 1, 1]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert pack.labels.tolist() == [5, 6, 1, IGNORE, 9, 1, IGNORE, 1, IGNORE]
    assert pack.document.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert pack.cu_seqlens.tolist() == [0, 4, 7, 9]
    assert pack.rows.tolist() == [7, 3, 9]
    assert (pack.max_length, pack.targets, len(pack)) == (4, 6, 9)


@given(Lengths)
def test_sums_are_those_of_each_document(lengths: list[int]) -> None:
    pack = flat_pack([np.zeros(n, np.uint16) for n in lengths])
    values = torch.arange(len(pack), dtype=torch.float64)
    by_hand = [float(part.sum()) for part in torch.split(values, lengths)]
    assert pack.sums(values).tolist() == by_hand


def test_a_pack_moves_whole() -> None:
    moved = flat_pack([np.array([1, 2, 1], np.uint16)]).to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {value.device.type for value in tensors} == {"meta"}


@given(Lengths, st.integers(60, 130), st.integers(1, 4))
def test_dealt_packs_hold_every_item_once_and_are_never_too_full(
    lengths: list[int], capacity: int, multiple: int
) -> None:
    sizes = np.array(lengths, np.int64)
    packs = deal(sizes, capacity, multiple)
    assert sorted(item for pack in packs for item in pack) == list(range(len(lengths)))
    assert max(int(sizes[pack].sum()) for pack in packs) <= capacity
    assert len(packs) % multiple == 0


def story_lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of stories: log-normal as TinyStories' words are, times six or seven units a word."""
    rng = np.random.default_rng(seed)
    return [int(n) for n in np.clip(rng.lognormal(6.9, 0.31, count), 60, 9000)]


@pytest.mark.parametrize(("micro_tokens", "fill"), [(8192, 0.95), (2048, 0.95)])
def test_packs_of_stories_are_full(micro_tokens: int, fill: float) -> None:
    loader = loader_of(
        [corpus_of(story_lengths(400))],
        context=1024,
        tokens_per_step=79_000,
        micro_tokens=micro_tokens,
    )
    packs = [pack for _ in range(20) for pack in next(loader).packs]
    assert sum(map(len, packs)) / (len(packs) * micro_tokens) >= fill


@given(Lengths, st.integers(2, 20), st.integers(20, 80))
def test_packs_in_order_hold_the_corpus_in_order(
    lengths: list[int], context: int, micro: int
) -> None:
    corpus = corpus_of(lengths)
    packs = list(packs_in_order(corpus, context, micro))
    assert all(len(pack) <= micro for pack in packs)
    labels = [label for pack in packs for label in pack.labels.tolist() if label != IGNORE]
    firsts = set(corpus.offsets.tolist())
    assert labels == [t for t in corpus.tokens.tolist() if t not in firsts]


def test_a_limit_keeps_the_first_documents() -> None:
    corpus = corpus_of([10, 10, 10, 10])
    assert [p.rows.tolist() for p in packs_in_order(corpus, 16, 20, limit=35)] == [[0, 1], [2]]
    assert [p.rows.tolist() for p in packs_in_order(corpus, 16, 20, limit=1)] == [[0]]


# --- the loader -------------------------------------------------------------------------------


@given(Lengths, st.integers(20, 300), st.integers(0, 5))
def test_an_epoch_is_every_chunk_once_in_another_order(
    lengths: list[int], tokens_per_step: int, seed: int
) -> None:
    corpus = corpus_of(lengths)
    chunks = len(chunk_table(corpus.offsets, 16)[0])
    loader = loader_of([corpus], tokens_per_step=tokens_per_step, seed=seed, epochs=2)
    rows = [row for step in loader for row in rows_of(step)]
    # A step may reach over the end of an epoch, and a pack has its rows in an order of its own.
    assert Counter(rows) == Counter([*range(chunks)] * 2)


def test_orders_are_of_seed_and_epoch() -> None:
    corpus = corpus_of([5] * 60)
    orders = {
        (seed, epoch): tuple(order)
        for seed in (0, 1)
        for epoch in (0, 1)
        for loader in [loader_of([corpus], seed=seed, tokens_per_step=5, micro_tokens=16)]
        for rows in [[rows_of(next(loader))[0] for _ in range(120)]]
        for order in [rows[60 * epoch : 60 * epoch + 60]]
    }
    assert len(set(orders.values())) == 4
    assert all(sorted(order) == list(range(60)) for order in orders.values())


@settings(max_examples=30)
@given(Lengths, st.integers(0, 12), st.sampled_from([None, [0.5, 1.7]]))
def test_rows_before_a_state_and_after_it_are_all_rows(
    lengths: list[int], before: int, repeats: list[float] | None
) -> None:
    corpora = [corpus_of(lengths, "a"), corpus_of(lengths[::-1], "b")]
    whole = loader_of(corpora, repeats=repeats)
    uninterrupted = [rows_of(next(whole)) for _ in range(before + 6)]
    first = loader_of(corpora, repeats=repeats)
    rows = [rows_of(next(first)) for _ in range(before)]
    second = loader_of(corpora, repeats=repeats)
    second.restore(json.loads(json.dumps(first.state())))
    assert rows + [rows_of(next(second)) for _ in range(6)] == uninterrupted
    assert second.state() == whole.state()


@given(Lengths, st.integers(2, 4))
def test_a_step_is_the_same_for_any_number_of_processes(lengths: list[int], processes: int) -> None:
    corpus = corpus_of(lengths)
    alone = loader_of([corpus], epochs=2)
    together = [
        loader_of([corpus], epochs=2, process=process, processes=processes)
        for process in range(processes)
    ]
    for step in alone:
        shares = [next(loader) for loader in together]
        assert sorted(row for share in shares for row in rows_of(share)) == sorted(rows_of(step))
        assert len({len(share.packs) for share in shares}) == 1
        assert shares[0].packs
        assert sum(pack.targets for share in shares for pack in share.packs) == step.targets
        assert {(s.tokens, s.targets, s.rows) for s in shares} == {
            (step.tokens, step.targets, step.rows)
        }
        assert {json.dumps(loader.state()) for loader in together} == {json.dumps(alone.state())}
    assert alone.ended
    assert all(loader.ended for loader in together)
    assert [next(loader, None) for loader in together] == [None] * processes


@given(Lengths)
def test_packs_hold_the_tokens_of_their_rows(lengths: list[int]) -> None:
    corpora = [corpus_of(lengths, "a"), corpus_of([9, 30], "b")]
    tables = [chunk_table(corpus.offsets, 16) for corpus in corpora]
    chunks = [
        corpus.tokens[s : s + n].tolist()
        for corpus, (start, length) in zip(corpora, tables, strict=True)
        for s, n in zip(start, length, strict=True)
    ]
    for step in loader_of(corpora, epochs=1):
        assert step.tokens == sum(len(pack) for pack in step.packs)
        assert step.rows == len(rows_of(step))
        for pack in step.packs:
            assert pack.input_ids.tolist() == sum((chunks[row] for row in pack.rows), [])  # noqa: RUF017


@given(Lengths, st.integers(20, 300))
def test_steps_are_as_full_as_their_next_chunk_allows(lengths: list[int], size: int) -> None:
    corpus = corpus_of(lengths)
    steps = list(loader_of([corpus], tokens_per_step=size, epochs=3))
    assert all(step.tokens <= size for step in steps)
    assert all(step.tokens > size - 16 for step in steps[:-1])


@pytest.mark.parametrize("epochs", [0.5, 2.25])
def test_the_data_end_after_a_fraction_of_an_epoch(epochs: float) -> None:
    rows = [r for step in loader_of([corpus_of([5] * 40)], epochs=epochs) for r in rows_of(step)]
    assert len(rows) == 40 * epochs
    assert max(Counter(rows).values()) <= np.ceil(epochs)


@given(st.floats(0.2, 3), st.integers(1, 6))
@settings(max_examples=30)
def test_repeats_are_spread_evenly_over_a_corpus(repeats: float, epochs: int) -> None:
    corpora = [corpus_of([5] * 30, "a"), corpus_of([5] * 20, "b")]
    loader = loader_of(corpora, repeats=[1, repeats], epochs=epochs)
    seen = Counter(row for step in loader for row in rows_of(step))
    assert {seen[row] for row in range(30)} == {epochs}
    of_second = [seen[row] for row in range(30, 50)]
    assert sum(of_second) == round(epochs * repeats * 20)
    assert max(of_second) - min(of_second) <= 1


def test_padded_packs_have_one_shape_and_the_same_targets() -> None:
    corpus = corpus_of([14, 5, 9, 30, 11, 2, 7])
    plain, padded = loader_of([corpus], epochs=1), loader_of([corpus], epochs=1, pad=True)
    for step, filled in zip(plain, padded, strict=True):
        assert {len(pack) for pack in filled.packs} == {40}
        assert sum(pack.targets for pack in filled.packs) == step.targets
        assert all(pack.max_length <= 16 for pack in filled.packs)
        assert rows_of(filled) == rows_of(step)


def test_a_process_without_a_document_gets_a_pack_without_a_target() -> None:
    shares = [
        next(loader_of([corpus_of([9])], epochs=1, process=process, processes=3))
        for process in range(3)
    ]
    assert [pack.targets for share in shares for pack in share.packs] == [8, 0, 0]


def test_a_row_is_told_by_corpus_sample_and_place(tmp_path: Path) -> None:
    from slam_model.tokens import open_tokens

    one = write_corpus(tmp_path / "one", {"train": stories(3, longest=10)})
    long = {"units": (np.arange(30) % 9).astype(np.uint16)}
    two = write_corpus(tmp_path / "two", {"train": [stories(1)[0], long]})
    corpora = [open_tokens(one), open_tokens(two)]
    loader = loader_of(corpora)
    last = sum(len(chunk_table(corpus.offsets, 16)[0]) for corpus in corpora) - 1
    assert loader.key(0).startswith("one train-000000-000000, tokens 0 to ")
    assert loader.key(last) == "two train-000000-000001, tokens 30 to 32"


def test_another_seed_is_not_gone_on_from() -> None:
    state = loader_of([corpus_of([5])], seed=1).state()
    with pytest.raises(UnitcorpusError, match="seed 1, not 0"):
        loader_of([corpus_of([5])]).restore(state)


def test_corpora_of_different_units_are_not_mixed() -> None:
    other = corpus_of([5], "other")
    other.unit_spec["fingerprint"] = "y"
    with pytest.raises(UnitcorpusError, match=r"the units of c .* are not those of other"):
        loader_of([corpus_of([5]), other])


def test_types_are_those_that_models_take() -> None:
    pack: Pack = next(loader_of([corpus_of([9, 12])])).packs[0]
    assert pack.input_ids.dtype == pack.labels.dtype == pack.position_ids.dtype == torch.int64
    assert pack.cu_seqlens.dtype == pack.document.dtype == torch.int32
