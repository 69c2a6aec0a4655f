"""A Whisper and a Llama with random weights, in the file layout of the real ones: tokenizers and
processor too, all written by transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

END = "<|endoftext|>"
LANGUAGES = ("<|en|>", "<|de|>")
TASKS = ("<|translate|>", "<|transcribe|>")
OTHERS = ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def make_whisper(folder: Path, silent: bool = False, seed: int = 1) -> Path:
    """A multilingual Whisper of 2 × 1 layers; it writes ASCII, and nothing at all if `silent`."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: i for i, token in enumerate([END, *sorted(letters)])}
    tokenizer = WhisperTokenizer(vocabulary, [])
    named = ["<|startoftranscript|>", *LANGUAGES, *TASKS, *OTHERS]
    stamps = [f"<|{n * 0.02:.2f}|>" for n in range(1501)]
    tokenizer.add_tokens([*named, *stamps], special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids
    features = WhisperFeatureExtractor(feature_size=16)
    WhisperProcessor(features, tokenizer).save_pretrained(folder)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_target_positions=24, pad_token_id=ids(END), bos_token_id=ids(END),
        eos_token_id=ids(END), decoder_start_token_id=ids(named[0]),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "embed_positions" not in name:
                    parameter.mul_(8)
            model.model.decoder.embed_tokens.weight[ids(stamps[0]) :] = 0  # rarely the likeliest
    spoken = set() if silent else {ids(letter) for letter in map(chr, range(33, 127))}
    never = [i for i in range(ids(stamps[0])) if i not in spoken | {ids(END)}]
    model.generation_config = GenerationConfig(
        pad_token_id=ids(END), bos_token_id=ids(END), eos_token_id=ids(END),
        decoder_start_token_id=ids(named[0]), is_multilingual=True, max_length=20,
        lang_to_id={one: ids(one) for one in LANGUAGES},
        task_to_id={one.strip("<|>"): ids(one) for one in TASKS},
        no_timestamps_token_id=ids("<|notimestamps|>"), max_initial_timestamp_index=50,
        suppress_tokens=never, begin_suppress_tokens=[] if silent else [ids(END)],
        return_timestamps=False,
        prev_sot_token_id=ids("<|startofprev|>"),
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def make_llama(folder: Path, seed: int = 2) -> Path:
    """A text model of 2 layers with a byte-level tokenizer that puts a BOS first, as Llama's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=special[0], eos_token=special[1]
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
    model.save_pretrained(folder)
    return folder
