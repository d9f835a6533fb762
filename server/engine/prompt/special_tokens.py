"""Text that spells a special token stays text: escaped for the template, undone when tokenised.

Special are the tokens that the tokenizer itself marks so (``<|im_start|>``, ``<|image_pad|>`` ...).
Words of the vocabulary that are only long, such as ``<tool_call>`` or ``<|fim_prefix|>``, mean
nothing to the server and stay what they are. Pure.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Protocol

# A noncharacter: it has no meaning in any text, and text that holds it all the same keeps it.
MARK = "\U0010ffff"
"""Without it in a text nothing there was escaped: it can be tokenised as it is."""
_MARKS = re.compile(f"{MARK}+")


class _Tokenizer(Protocol):
    def __call__(self, text: str, **options: Any) -> Any: ...


class SpecialTokens:
    """Escapes text from users, and tokenises what a template has made of it.

    Escaping puts a mark behind every character that may begin a special token's spelling, so
    that no spelling is left, nor can one come about where a template joins two texts; marks in
    the text itself are doubled. In the rendered text every spelling is thus the template's own.

    Args:
        spellings: id by spelling of every special token.

    Raises:
        ValueError: a special token of one character, which no mark can part.
    """

    def __init__(self, spellings: dict[str, int]) -> None:
        for spelling in spellings:
            if len(spelling) < 2:
                raise ValueError(
                    f"the special token {spelling!r} is too short to be told from text"
                )
        self._ids = spellings
        # Longest first, as the tokenizer takes them.
        longest = sorted(spellings, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, longest))})")
        # A spelling may also begin at the end of a text and go on in the next one.
        heads = [_head(first, group) for first, group in groupby(sorted(spellings), lambda s: s[0])]
        self._escaped = re.compile("|".join([MARK, *heads]))

    def escape(self, value: Any) -> Any:
        """A copy of ``value`` in which all text, at any depth and keys included, is escaped."""
        if isinstance(value, str):
            return self._escaped.sub(_marked, value)
        if isinstance(value, dict):
            return {self.escape(key): self.escape(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.escape(item) for item in value]
        return value

    def encode(
        self, tokenizer: _Tokenizer, text: str
    ) -> tuple[list[int], list[tuple[int, int]], str]:
        """Ids of rendered text, the characters that each stands for, and the text without escapes.

        The ids are those that ``tokenizer`` would give if its special tokens had other spellings
        than the escaped ones: between two special tokens text is tokenised as one.
        """
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        plain = ""
        for piece in self._special.split(text):
            start = len(plain)
            if (special := self._ids.get(piece)) is not None:
                plain += piece
                ids.append(special)
                offsets.append((start, len(plain)))
            elif piece:
                piece = _MARKS.sub(lambda run: MARK * (len(run[0]) // 2), piece)
                plain += piece
                encoding = tokenizer(
                    piece,
                    add_special_tokens=False,
                    split_special_tokens=True,
                    return_offsets_mapping=True,
                )
                ids += encoding["input_ids"]
                offsets += [(start + a, start + b) for a, b in encoding["offset_mapping"]]
        return ids, offsets, plain


def _marked(found: re.Match[str]) -> str:
    return found[0] + MARK


def _head(first: str, spellings: Iterable[str]) -> str:
    following = "".join(sorted({re.escape(spelling[1]) for spelling in spellings}))
    return rf"{re.escape(first)}(?=[{following}]|\Z)"
