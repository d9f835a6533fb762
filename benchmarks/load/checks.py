"""Whether the answers of a run are right: unless all are, it has no figures.

Every request must be answered, not empty, with as many prompt tokens as are planned for its media
and counted for its text, and as many output tokens as were asked for. Witnesses must get the right
answer, or the one that the same server gives when it has nothing else to do: that is the model's
own mistake. Two servers must answer alike, but where the second finds another token nearly as
likely.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from saccade.benchmarks.common.near_ties import is_near_tie
from saccade.benchmarks.load.asking import ask, authorization, request_body
from saccade.benchmarks.load.generator import Result
from saccade.benchmarks.load.profiles import Message, Sample

_TIMEOUT = 600.0  # seconds


@dataclass
class Tally:
    """What was checked."""

    answers: int = 0
    right: int = 0  # witnesses, with the answer that is known
    model_mistakes: int = 0  # witnesses that the model gets wrong when nothing else is asked
    near_ties: int = 0  # answers of two servers that part where two tokens are as likely

    def sentence(self) -> str:
        """For people."""
        parts = [f"{self.answers} answers checked"]
        if self.right or self.model_mistakes:
            parts.append(
                f"{self.right} known ones right, {self.model_mistakes} the model's mistakes"
            )
        if self.near_ties:
            parts.append(f"{self.near_ties} near ties")
        return ", ".join(parts)


class Checker:
    """Checks the answers of the servers, and counts."""

    def __init__(self, urls: Mapping[str, str], models: Mapping[str, str], max_tokens: int) -> None:
        self._urls, self._models, self._max_tokens = urls, models, max_tokens
        self._text_tokens: dict[tuple[str, str], int] = {}
        self.tally = Tally()

    def problems(self, samples: Sequence[Sample], results: Mapping[str, Result]) -> list[str]:
        """Why these runs of the same requests must not be reported; empty if all is right.

        Raises:
            LoadError: a server does not answer what is asked to check it.
        """
        found = [
            f"{name}, request {index}: {problem}"
            for name, result in results.items()
            for index, sample in enumerate(samples)
            if (problem := self._problem(name, index, sample, result))
        ]
        self.tally.answers += len(samples) * len(results)
        return found or list(self._differences(samples, results))

    def _problem(self, name: str, index: int, sample: Sample, result: Result) -> str | None:
        if error := result["errors"][index]:
            return f"failed: {error.strip().splitlines()[-1]}"
        expected = self._count_text(name, sample) + sample.media_tokens
        prompt, output = result["input_lens"][index], result["output_lens"][index]
        if sample.answer is not None:
            return self._witness_problem(name, sample, result["generated_texts"][index])
        if prompt != expected:
            return (
                f"usage.prompt_tokens is {prompt}, but {expected - sample.media_tokens} for the "
                f"text and {sample.media_tokens} for its media make {expected}"
            )
        if not result["generated_texts"][index]:
            return "the answer is empty"
        if output != self._max_tokens:
            return f"usage.completion_tokens is {output} instead of {self._max_tokens}"
        return None

    def _witness_problem(self, name: str, sample: Sample, text: str) -> str | None:
        if text.strip() == sample.answer:
            self.tally.right += 1
            return None
        alone, _ = ask(self._urls[name], self._body(name, sample))
        if text == alone:
            self.tally.model_mistakes += 1
            return None
        return f"the answer is {text!r}, alone {alone!r}; right is {sample.answer!r}"

    def _count_text(self, name: str, sample: Sample) -> int:
        """Prompt tokens of a request without its media, as the server counts them."""
        messages = [_without_media(message) for message in sample.messages]
        key = name, json.dumps(messages)
        if key not in self._text_tokens:
            body = request_body(self._models[name], messages, 1, ends=True)
            _, self._text_tokens[key] = ask(self._urls[name], body)
        return self._text_tokens[key]

    def _differences(
        self, samples: Sequence[Sample], results: Mapping[str, Result]
    ) -> Iterator[str]:
        if len(results) < 2:
            return
        (ours, other) = results
        for index, sample in enumerate(samples):
            texts = [results[name]["generated_texts"][index] for name in (ours, other)]
            if texts[0] == texts[1] or sample.answer is not None:
                continue
            body = self._body(other, sample)
            if is_near_tie(self._urls[other], body, texts[0], _TIMEOUT, authorization()):
                self.tally.near_ties += 1
            else:
                yield f"request {index}: {texts[0]!r}, {other} {texts[1]!r}"

    def _body(self, name: str, sample: Sample) -> bytes:
        ends = sample.answer is not None
        return request_body(self._models[name], sample.messages, self._max_tokens, ends)


def _without_media(message: Message) -> Message:
    content = message["content"]
    if isinstance(content, list):
        content = [part for part in content if part["type"] == "text"]
    return {**message, "content": content}
