"""The network: documents apart in every family, exact shapes, what is loaded, saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from slam_model.base import find_base, shipped
from slam_model.model import TOKEN_IDS, load_model, pack_nll
from slam_model.packing import PADDING, Pack, flat_pack, padding
from tiny import FAMILIES, random_units
from unitcorpus.errors import UnitcorpusError

VOCAB = 52
families = pytest.mark.parametrize("family", sorted(FAMILIES))


def make(base: str | dict[str, Any], **changes: Any) -> PreTrainedModel:
    return load_model(base, **{"vocab": VOCAB, "context": 64, **changes})


def documents(seed: int = 0, lengths: tuple[int, ...] = (3, 40, 1, 17)) -> list[Any]:
    rng = np.random.default_rng(seed)
    units = [random_units(rng, n).astype(np.int64) + 2 for n in lengths]
    return [np.array([1, *one, 1], np.uint16) for one in units]


def text_model(folder: Path, family: str, **changes: Any) -> PreTrainedModel:
    """A text model's checkpoint: another vocabulary, its own special tokens."""
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    config = {**FAMILIES[family], "vocab_size": 80, **ids, **changes}
    model = AutoModelForCausalLM.from_config(find_base(config, None, True).config)
    model.save_pretrained(folder)
    return model


def plain(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The same model as transformers loads it, with its own attention."""
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype)


def one_at_a_time(model: PreTrainedModel, sequences: list[Any]) -> torch.Tensor:
    """−log p of each token after the first, document by document, through plain transformers."""
    parts = []
    for tokens in (torch.tensor(one.astype(np.int64))[None] for one in sequences):
        logits = model(tokens, use_cache=False).logits[0, :-1]
        parts.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none"))
    return torch.cat(parts)


# --- documents apart --------------------------------------------------------------------------


@families
def test_packed_loss_and_gradients_are_those_of_the_documents_one_at_a_time(
    family: str, tmp_path: Path
) -> None:
    model = make(FAMILIES[family], dtype=torch.float64)
    oracle = plain(model, tmp_path)
    pack = flat_pack(documents())
    nll = pack_nll(model, pack)
    expected = one_at_a_time(oracle, documents())
    assert (nll[pack.labels != -100] - expected).abs().max() < 1e-9
    assert (nll[pack.labels == -100] == 0).all()
    torch.autograd.backward([nll.sum(), expected.sum()])
    for (name, ours), (_, theirs) in zip(
        model.named_parameters(), oracle.named_parameters(), strict=True
    ):
        assert (ours.grad - theirs.grad).abs().max() < 1e-9, name


@families
def test_changing_a_document_changes_no_other(family: str) -> None:
    model = make(FAMILIES[family], dtype=torch.float64)
    before, after = documents(), documents()
    after[1] = documents(seed=9)[1]
    one, two = (pack_nll(model, flat_pack(each)) for each in (before, after))
    inside = flat_pack(before).document == 1
    assert (one[inside] - two[inside]).abs().max() > 1e-3
    assert (one[~inside] - two[~inside]).abs().max() < 1e-12


@families
def test_which_documents_share_a_pack_changes_nothing(family: str) -> None:
    model = make(FAMILIES[family], dtype=torch.float64)
    docs = documents()
    together = flat_pack(docs)
    sums = together.sums(pack_nll(model, together))
    for i, one in enumerate(docs):
        alone = flat_pack([one])
        torch.testing.assert_close(alone.sums(pack_nll(model, alone))[0], sums[i])


def test_filling_a_pack_changes_nothing() -> None:
    model = make(FAMILIES["opt"], dtype=torch.float64)
    pack = flat_pack(documents())
    filling = padding(100, context=64)
    padded = flat_pack([*documents(), *filling], rows=[0, 1, 2, 3, PADDING, PADDING])
    nll = pack_nll(model, padded)
    assert (nll[: len(pack)] - pack_nll(model, pack)).abs().max() < 1e-12
    assert (nll[len(pack) :] == 0).all()


@families
def test_gradient_checkpointing_changes_no_gradient(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make(
            FAMILIES[family], dtype=torch.float64, gradient_checkpointing=checkpointing
        ).train()
        torch.autograd.backward(pack_nll(model, flat_pack(documents())).sum())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(*gradients, strict=True))


def test_a_wrapped_model_gives_the_same(tmp_path: Path) -> None:
    from torch.distributed import destroy_process_group, init_process_group
    from torch.nn.parallel import DistributedDataParallel

    model = make(FAMILIES["qwen2"])
    pack = flat_pack(documents())
    expected = pack_nll(model, pack)
    init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        torch.testing.assert_close(pack_nll(DistributedDataParallel(model), pack), expected)
        compiled: Any = torch.compile(model, backend="eager")
        torch.testing.assert_close(pack_nll(compiled, pack), expected)
        torch.testing.assert_close(pack_nll(DistributedDataParallel(compiled), pack), expected)
    finally:
        destroy_process_group()


def test_a_model_that_would_mix_documents_is_not_run(tmp_path: Path) -> None:
    stranger = plain(make(FAMILIES["qwen2"]), tmp_path)
    with pytest.raises(ValueError, match="would mix the documents"):
        pack_nll(stranger, flat_pack(documents()))


def test_no_model_runs_without_the_bounds_of_its_documents() -> None:
    with pytest.raises(TypeError, match="cu_seq_lens_q"):
        make(FAMILIES["qwen2"])(torch.ones(1, 4, dtype=torch.int64))


# --- shapes and starting weights --------------------------------------------------------------

COUNTS = {
    "facebook/MobileLLM-125M": 106_492_608,
    "HuggingFaceTB/SmolLM2-135M": 106_492_608,
    "facebook/MobileLLM-350M": 315_117_120,
    "HuggingFaceTB/SmolLM2-360M": 315_117_120,
    "facebook/opt-125m": 87_015_936,
    "facebook/opt-350m": 305_714_176,
    "Qwen/Qwen2.5-0.5B": 358_347_904,
    "EleutherAI/pythia-160m": 85_827_072,
    "EleutherAI/pythia-410m": 303_339_520,
}
"""Table 6 of the paper, with 500 units."""


def test_all_base_models_of_the_paper_are_shipped() -> None:
    assert set(shipped()) == set(COUNTS)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    config = find_base(name, None, from_scratch=True).config
    config.update({"vocab_size": 502, **TOKEN_IDS})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


@families
def test_twist_keeps_the_first_rows_and_every_other_weight(family: str, tmp_path: Path) -> None:
    text = text_model(tmp_path, family)
    model = make(str(tmp_path))
    for (name, theirs), (_, ours) in zip(
        text.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert torch.equal(ours, theirs[:VOCAB] if len(theirs) == 80 else theirs), name
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (family != "gpt_neox")


@families
def test_the_special_tokens_are_ours(family: str, tmp_path: Path) -> None:
    text_model(tmp_path / "text", family)
    model = make(str(tmp_path / "text"))
    saved = plain(model, tmp_path / "saved")
    for one in (model, saved):
        for place in (one.config, one.generation_config):
            assert {name: getattr(place, name) for name in TOKEN_IDS} == TOKEN_IDS
        assert one.config.vocab_size == VOCAB
    assert model.get_input_embeddings().padding_idx is None


def test_the_gradient_of_opts_bos_embedding_is_whole(tmp_path: Path) -> None:
    """OPT pads with 1, our BOS. Its rows are tied, so a part of the gradient is always there: the
    oracle is the difference quotient."""
    text_model(tmp_path, "opt")
    model = make(str(tmp_path), dtype=torch.float64)
    pack, weight = flat_pack(documents()), model.get_input_embeddings().weight
    torch.autograd.backward(pack_nll(model, pack).sum())
    for column in range(4):
        losses = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                weight[1, column] += step
                losses.append(float(pack_nll(model, pack).sum()))
        with torch.no_grad():
            weight[1, column] += 1e-6
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(weight.grad[1, column]), 1e-5)


def test_random_weights_are_those_of_the_seed(tmp_path: Path) -> None:
    text_model(tmp_path, "llama")
    weights = [
        make(base, twist=False, seed=seed).state_dict()["model.layers.0.mlp.up_proj.weight"]
        for base, seed in [(FAMILIES["llama"], 1), (FAMILIES["llama"], 1), (FAMILIES["llama"], 2)]
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    again = make(str(tmp_path), twist=False, seed=1).state_dict()
    assert torch.equal(again["model.layers.0.mlp.up_proj.weight"], weights[0])


def test_a_configuration_file_is_trained_from_scratch(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(FAMILIES["llama"]))
    file, inline = make(str(path)).state_dict(), make(FAMILIES["llama"]).state_dict()
    assert all(torch.equal(file[name], inline[name]) for name in inline)


@families
def test_what_is_saved_loads_plainly_with_the_same_loss(family: str, tmp_path: Path) -> None:
    model = make(FAMILIES[family])
    tokens = torch.tensor(documents()[1].astype(np.int64))[None]
    loss = plain(model, tmp_path)(tokens, labels=tokens).loss
    nll = pack_nll(model, flat_pack(documents()[1:2]))
    torch.testing.assert_close(loss, nll.sum() / (len(nll) - 1))


@families
def test_a_checkpoint_is_taken_as_it_is(family: str, tmp_path: Path) -> None:
    model = make(FAMILIES[family], seed=4)
    model.save_pretrained(tmp_path)
    again = make(str(tmp_path)).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


@families
def test_a_published_checkpoint_loads_out_of_its_wrapping(family: str, tmp_path: Path) -> None:
    model = make(FAMILIES[family])
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {f"lm.{name}": value for name, value in weights.items()},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    inner = json.loads((tmp_path / "config.json").read_text())
    wrapped = {
        "model_type": "speech_language_model",
        "architectures": ["UnitLM"],
        "base_config": {**inner, "vocab_size": 80, "torch_dtype": "bfloat16"},
        "vocab_size": VOCAB,
    }
    (tmp_path / "config.json").write_text(json.dumps(wrapped))
    loaded = make(str(tmp_path))
    ours = loaded.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in model.state_dict().items())
    plain(loaded, tmp_path / "unwrapped")
    with pytest.raises(UnitcorpusError, match="vocabulary of 52 tokens, the corpus one of 102"):
        make(str(tmp_path), vocab=102)


# --- rotary positions -------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_neox"])
def test_theta_turns_the_model_and_is_saved(family: str, tmp_path: Path) -> None:
    text_model(tmp_path / "text", family)
    base = str(tmp_path / "text")
    model, other = make(base, rope_theta=500.0), make(base)
    turned = [pack_nll(one, flat_pack(documents())) for one in (model, other)]
    assert (turned[0] - turned[1]).abs().max() > 1e-5
    saved = plain(model, tmp_path / "saved")
    assert saved.config.rope_parameters["rope_theta"] == 500.0
    theirs = one_at_a_time(saved, documents())
    pack = flat_pack(documents())
    torch.testing.assert_close(turned[0][pack.labels != -100], theirs)


def test_the_frequencies_are_asserted_and_not_only_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slam_model.model._set_rope", lambda base, theta: None)
    with pytest.raises(AssertionError, match="rope_theta was not taken"):
        make(FAMILIES["llama"], rope_theta=500.0)


def test_theta_of_a_model_without_rotary_positions_is_refused() -> None:
    with pytest.raises(UnitcorpusError, match="no rotary positions: set"):
        make(FAMILIES["opt"], rope_theta=10_000.0)


# --- refused ----------------------------------------------------------------------------------


def refused(match: str, base: str | dict[str, Any], **changes: Any) -> None:
    with pytest.raises(UnitcorpusError, match=match) as caught:
        make(base, **changes)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    make(FAMILIES["llama"], vocab=102).save_pretrained(tmp_path)
    refused("a vocabulary of 102 tokens, the corpus one of 52", str(tmp_path))


def spec_of(fingerprint: str) -> dict[str, Any]:
    return {
        "extractor": {"kind": "published", "name": "test"},
        "size": 50,
        "fingerprint": fingerprint,
    }


def test_a_checkpoint_says_its_units_and_is_refused_for_others(tmp_path: Path) -> None:
    make(FAMILIES["llama"], unit_spec=spec_of("a" * 64)).save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config.unit_spec == spec_of("a" * 64)
    refused(
        r"trained on other units \(test, 50 units, spec aaaaaaaa\)",
        str(tmp_path),
        unit_spec=spec_of("b" * 64),
    )
    make(str(tmp_path), unit_spec=spec_of("a" * 64))
    anew = make(str(tmp_path), unit_spec=spec_of("b" * 64), twist=False)
    assert anew.config.unit_spec == spec_of("b" * 64)


def test_a_checkpoint_that_does_not_say_its_units_takes_those_of_the_data(tmp_path: Path) -> None:
    make(FAMILIES["llama"]).save_pretrained(tmp_path)
    assert make(str(tmp_path), unit_spec=spec_of("b")).config.unit_spec == spec_of("b")


def test_a_text_model_of_too_few_tokens_is_refused(tmp_path: Path) -> None:
    text_model(tmp_path, "llama")
    refused("a vocabulary of 80 tokens, the corpus one of 502", str(tmp_path), vocab=502)


@families
def test_a_context_longer_than_the_positions_is_refused(family: str) -> None:
    refused(r"has 256 positions: data.context=257 is longer", FAMILIES[family], context=257)


def test_a_sliding_window_shorter_than_the_context_is_refused() -> None:
    config = {**FAMILIES["llama"], "model_type": "mistral", "sliding_window": 32}
    refused("attends to 32 tokens only", config)
    make(config, context=32)


def test_layers_that_are_no_attention_are_refused() -> None:
    refused("linear_attention layers", {"model_type": "mamba", "hidden_size": 32})


def test_a_family_with_an_attention_of_its_own_is_refused() -> None:
    config = {"model_type": "bloom", "hidden_size": 32, "n_layer": 1, "n_head": 4}
    refused("type bloom cannot keep the documents of a batch apart", config)


def test_a_model_type_that_is_unknown_is_refused() -> None:
    refused(r"no model of type 'qwen22' \(did you mean 'qwen2'", {"model_type": "qwen22"})


def test_a_folder_without_weights_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FAMILIES["llama"]))
    refused("no weights: set model.twist=false", str(tmp_path))
    make(str(tmp_path), twist=False)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refused("config.json", str(tmp_path), twist=False)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    text_model(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused("cannot load the weights", str(tmp_path))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    text_model(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, path, {"format": "pt"})
    refused("1 weights are missing, such as model.layers.1.mlp.up_proj.weight", str(tmp_path))


def test_a_name_that_the_hub_has_not_is_refused() -> None:
    refused("cannot find the model Qwen/Qwen2.5-0.5", "Qwen/Qwen2.5-0.5")


def test_gpu_attention_without_a_gpu_is_refused() -> None:
    refused("needs a GPU", FAMILIES["llama"], attention="flex")


def test_half_precision_loads() -> None:
    model = make(FAMILIES["llama"], dtype=torch.bfloat16)
    pack: Pack = flat_pack(documents())
    assert pack_nll(model, pack).dtype == torch.float32
