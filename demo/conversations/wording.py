"""Words around a question that leave its answer as it is: instructions, greetings, other talk."""

from collections.abc import Sequence

import numpy as np

from saccade.demo.checkpoints.vocabulary_text import COMMON_WORDS, PROSE

_WORDS = COMMON_WORDS.split()
_LINES = PROSE.splitlines()
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant that answers questions about images.",
    "You are a helpful vision assistant. Be brief.",
    "Answer the question of the user.",
    "Be brief.",
    "You are an expert in images and videos.",
    "You describe what you see. Do not make anything up.",
)
_BEFORE = (
    *("Look at this image.", "Look at the image.", "Here is an image.", "This is an image:"),
    *("Look.", "Hello!", "Hi.", "I have a question.", "Please help me.", "Question:"),
)
_AFTER = (" Please.", " Thank you.", " Think step by step.", " Be exact.")
_SHORT = (
    *(" Answer with a single word.", " Answer briefly.", " Answer with one word.", " Be brief."),
    *(" Give only the answer.", "\nAnswer the question using a single word or phrase."),
)
_CHOICES = (
    *(" Choose one of: {}.", "\nOptions: {}.", " Answer with one of {}."),
    "\nChoose from {}.",
)
_SENTENCE = (
    *(" Answer in one sentence.", " Answer with a sentence.", " Answer in a full sentence."),
    " Reply with one complete sentence.",
)
_JSON = (
    ' Answer in JSON with the key "{}".',
    ' Answer as JSON: {{"{}": ...}}.',
    ' Reply with a JSON object that has the field "{}".',
    ' Return JSON with the key "{}" only.',
)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def one_of(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    """Any of them."""
    return choices[rng.integers(len(choices))]


def system_prompt(rng: np.random.Generator) -> str | None:
    """None: none is sent."""
    kind = rng.random()
    if kind < 0.55:
        return None
    if kind < 0.85:
        return one_of(rng, SYSTEMS)
    return chatter(rng, int(rng.integers(4, 50)))


def chatter(rng: np.random.Generator, words: int) -> str:
    """So many words that mean nothing, or a sentence of English."""
    if rng.random() < 0.4:
        return _LINES[rng.integers(len(_LINES))]
    text = " ".join(_WORDS[index] for index in rng.integers(0, len(_WORDS), words))
    return text[0].upper() + text[1:] + "."


def before(rng: np.random.Generator) -> str:
    """What stands before an image that is asked about later."""
    return one_of(rng, _BEFORE) if rng.random() < 0.7 else chatter(rng, int(rng.integers(3, 15)))


def after(rng: np.random.Generator) -> str:
    """What follows a question, and changes nothing."""
    return one_of(rng, _AFTER) if rng.random() < 0.08 else ""


def asks_for_a_word(rng: np.random.Generator) -> str:
    """An instruction to be short."""
    return one_of(rng, _SHORT)


def asks_to_choose(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """An instruction to answer with one of these."""
    listed = f"{', '.join(choices[:-1])}{(', ', ' or ')[rng.integers(2)]}{choices[-1]}"
    return one_of(rng, _CHOICES).format(listed)


def any_word(rng: np.random.Generator) -> str:
    """A word of English: a name that can only be copied."""
    return _WORDS[rng.integers(len(_WORDS))]


def asks_for_a_sentence(rng: np.random.Generator) -> str:
    """An instruction to answer in a sentence."""
    return one_of(rng, _SENTENCE)


def asks_for_json(rng: np.random.Generator, key: str) -> str:
    """An instruction to answer in JSON with this key."""
    return one_of(rng, _JSON).format(key)


def spelt(rng: np.random.Generator, question: str) -> str:
    """The question as people type it."""
    kind = rng.random()
    if kind < 0.06:
        return question[0].lower() + question[1:]
    if kind < 0.1:
        return question.rstrip("?.")
    if kind < 0.14 and question.endswith("."):
        return f"Please {question[0].lower()}{question[1:]}"
    return question


def where_among(rng: np.random.Generator, kind: str, index: int, count: int) -> str:
    """One image or video of ``count``, e.g. `` in the second image``; counted from zero."""
    noun = "picture" if kind == "image" and rng.random() < 0.15 else kind
    if count == 1:
        return one_of(rng, (f" in the {noun}", f" in the {noun}", f" in this {noun}"))
    if index == count - 1 and rng.random() < 0.2:
        return f" in the last {noun}"
    if index < len(ORDINALS) and rng.random() < 0.6:
        return f" in the {ORDINALS[index]} {noun}"
    return f" in {noun} {index + 1}"
