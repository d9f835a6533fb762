"""A small tokenizer of Qwen2's kind: the same algorithm and added tokens, a vocabulary of 1,514.

Real checkpoints bring their own tokenizer files; the demo checkpoint brings this one, which is
trained in a fraction of a second and comes out the same, byte for byte, every time.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from saccade.demo.checkpoints.vocabulary_text import training_lines

LEARNED_TOKENS = 1514
"""Byte-level tokens before the added ones; with those the vocabulary is 1,536 = 24 * 64."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2.5's special tokens in the order of their ids; skipped when decoding."""

MARKUP_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Qwen2.5's added tokens that are not special: they stay in decoded text."""

ADDED_TOKENS = SPECIAL_TOKENS + MARKUP_TOKENS
VOCABULARY_SIZE = LEARNED_TOKENS + len(ADDED_TOKENS)

# Qwen2's split of text into pieces that merges never cross: contractions, words with one leading
# character, single digits, runs of punctuation, line ends, spaces.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def token_id(token: str) -> int:
    """The id of an added token, e.g. `token_id("<|image_pad|>")`."""
    return LEARNED_TOKENS + ADDED_TOKENS.index(token)


def build_tokenizer() -> Tokenizer:
    """Train the tokenizer; deterministic."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=LEARNED_TOKENS,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(training_lines(), trainer)
    assert tokenizer.get_vocab_size() == LEARNED_TOKENS, "the training text is too short"
    tokenizer.add_tokens(
        [
            AddedToken(token, special=token in SPECIAL_TOKENS, normalized=False)
            for token in ADDED_TOKENS
        ]
    )
    return tokenizer


def write_tokenizer(folder: Path, chat_template: str, max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json and merges.txt into `folder`."""
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    added = {
        str(token_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL_TOKENS,
        }
        for token in ADDED_TOKENS
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": max_length,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
