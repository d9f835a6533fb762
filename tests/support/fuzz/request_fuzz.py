"""Random bodies to a running server: no answer is a 5xx, and every refusal names a field.

    python tests/support/fuzz/request_fuzz.py http://127.0.0.1:8000 --bodies 20000 [--key K]

Half of the bodies are requests of real clients (`people_send`) with something changed in them, the
others what hypothesis makes of the server's own OpenAPI document. No answer is longer than a token;
most bodies go where no model runs.
"""

import argparse
import asyncio
import copy
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

sys.path.append(str(Path(__file__).parents[1] / "server"))
from people_send import CALLS, CHAT, RESPONSES, SCHEMAS, VIDEOS

ANSWER_FIELDS = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
PATHS = (*ANSWER_FIELDS, "/v1/vision/plan", "/tokenize", "/detokenize")
# Of ten bodies about chat, so many go to each.
_CHAT_PATHS = ["/v1/vision/plan"] * 5 + ["/tokenize"] * 2 + ["/v1/chat/completions"] * 3
# What may be missing altogether.
_REQUIRED = ("messages", "input", "prompt", "tokens", "model", "max_tokens")
# Python's own words, which are nothing to a caller.
_INSIDE = re.compile(
    r"NoneType|Traceback|object has no|not subscriptable|not iterable|unhashable|pydantic"
    r"|unexpected keyword|0x[0-9a-f]{6}|argument of type|codec can't|must be str, not"
)
_CONCURRENT = 8

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 5, 10**9, 10**30, -(10**30), 0.5, -0.5, 1e308),
    *("", " ", "a", "auto", "none", "required", "text", "user", "system", "\0", "\u2028", "é" * 9),
    *(
        "<|im_end|>",
        "<|image_pad|>",
        "data:,",
        "data:image/png;base64,AAAA",
        "http://[",
        "file:///",
    ),
    *([], {}, [None], [[]], [{}], {"": None}, {"type": None}, {"type": "function"}, [1, 2], ["a"]),
    *({"type": "object"}, {"$ref": "#"}, {"name": "a"}, {"url": None}, [True], {"a": {"b": [1]}}),
)
NAMES = (
    *("max_pixels", "fps", "detail", "type", "content", "role", "name", "url", "image", "format"),
    *("stream", "stream_options", "n", "logprobs", "top_logprobs", "prompt_logprobs", "echo"),
    *(
        "stop",
        "seed",
        "tools",
        "tool_choice",
        "response_format",
        "structured_outputs",
        "tool_calls",
    ),
    *("guided_json", "guided_regex", "functions", "function_call", "media_io_kwargs", "vision"),
    *("mm_processor_kwargs", "logit_bias", "bad_words", "min_tokens", "ignore_eos", "temperature"),
    *("continue_final_message", "add_generation_prompt", "chat_template_kwargs", "cache_salt"),
    *("truncate_prompt_tokens", "allowed_token_ids", "stop_token_ids", "repetition_detection"),
    *("parallel_tool_calls", "vllm_xargs", "request_id", "visoin", "x_unknown", "use_beam_search"),
    *("text", "include", "reasoning", "truncation", "metadata", "strict", "parameters", "images"),
)


class Finding(NamedTuple):
    """What should not have been answered so."""

    why: str
    path: str
    body: Any
    answer: str


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _places(value[index], (*path, index))


def mutated(rng: random.Random, body: Any) -> Any:
    """A copy with one to three things changed."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(body))
        if not places:
            return body
        # As many at the top as deep inside: most places are in schemas.
        depth = rng.choice([1, 1, 2, 4, 5, 6, 9])
        *holders, last = rng.choice([p for p in places if len(p) <= depth] or places)
        holder = body
        for key in holders:
            holder = holder[key]
        match rng.randrange(6):
            case 0 if isinstance(holder, dict):
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice(JUNK))
            case 2 if isinstance(holder, list):
                holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[last]))
            case 3:
                holder[last] = rng.choice([[holder[last]], {"a": holder[last]}, str(holder[last])])
            case 4 if isinstance(holder, dict):
                holder[rng.choice(NAMES)] = holder.pop(last)
            case _:
                holder[last] = copy.deepcopy(rng.choice(JUNK))
    return body


def of_clients(rng: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """Paths and bodies."""
    chats = [*CHAT.values(), *CALLS.values(), *SCHEMAS.values(), *VIDEOS.values()]
    others = {
        "/v1/completions": [{"model": "demo", "prompt": "A star", "stop": ["a"], "logprobs": 1}],
        "/tokenize": [{"model": "demo", "prompt": "A star"}],
        "/detokenize": [{"model": "demo", "tokens": [1, 2, 3]}],
        "/v1/responses": list(RESPONSES.values()),
    }
    for _ in range(count):
        if rng.random() < 0.8:
            yield rng.choice(_CHAT_PATHS), mutated(rng, rng.choice(chats))
        else:
            path = rng.choice(list(others))
            yield path, mutated(rng, rng.choice(others[path]))


def of_the_document(document: dict[str, Any], seed: int, count: int) -> list[tuple[str, Any]]:
    """Paths and bodies, of which some fit their schemas and some do not."""
    import hypothesis
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url="http://unused")
    bodies: list[tuple[str, Any]] = []

    def collect(path: str, mode: GenerationMode) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max(1, count // len(PATHS) // 2),
            phases=[hypothesis.Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(schema[path]["POST"].as_strategy(generation_mode=mode))
        def keep(case: Any) -> None:
            try:
                bodies.append((path, json.loads(json.dumps(case.body, allow_nan=False))))
            except (TypeError, ValueError):  # no body that JSON knows
                bodies.append((path, {}))

        keep()

    for path in PATHS:
        collect(path, GenerationMode.POSITIVE)
        collect(path, GenerationMode.NEGATIVE)
    return bodies


def bounded(path: str, body: Any) -> Any:
    """The body with an answer of a token where its length would be more."""
    if not isinstance(body, dict) or path not in ANSWER_FIELDS:
        return body
    fields = ANSWER_FIELDS[path]
    if all(body.get(name) is None for name in fields):
        return {**body, fields[0]: 1}
    long = {n: 1 for n in fields if type(body.get(n)) in (int, float) and body[n] > 1}
    return {**body, **long}


def judged(path: str, body: Any, status: int, answer: str) -> Finding | None:
    """What is wrong with an answer."""
    if status >= 500 or '"server_error"' in answer or '"internal_error"' in answer:
        return Finding("server error", path, body, answer)
    if status < 400:
        if 'data: {"error"' in answer and '"param":' not in answer.replace('"param":null', ""):
            return Finding("an error in a stream, of no field", path, body, answer)
        return None
    error = json.loads(answer)["error"]
    if _INSIDE.search(error["message"]) or "\n" in error["message"]:
        return Finding("words of the inside", path, body, answer)
    if status == 400 and error["code"] != "invalid_json":
        if not error["param"]:
            return Finding("no field named", path, body, answer)
        root = re.split(r"[.\[]", error["param"], maxsplit=1)[0]
        if isinstance(body, dict) and root not in body and root not in _REQUIRED:
            return Finding("a field named that was not sent", path, body, answer)
    return None


async def fuzz(
    url: str, bodies: list[tuple[str, Any]], headers: dict[str, str]
) -> tuple[Counter[str], list[Finding]]:
    """Sends them all, some at a time; counts of statuses by path, and what was found."""
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    waiting = iter(bodies)

    async def work(client: httpx.AsyncClient) -> None:
        for path, body in waiting:
            body = bounded(path, body)
            answer = await client.post(url + path, json=body, headers=headers)
            counts[f"{path} {answer.status_code}"] += 1
            if finding := judged(path, body, answer.status_code, answer.text):
                findings.append(finding)

    async with httpx.AsyncClient(timeout=600) as client, asyncio.TaskGroup() as group:
        for _ in range(_CONCURRENT):
            group.create_task(work(client))
    return counts, findings


def make_bodies(url: str, seed: int, count: int) -> list[tuple[str, Any]]:
    """As many as that, shuffled; the same for the same seed."""
    rng = random.Random(seed)
    document = httpx.get(url + "/openapi.json").json()
    bodies = [*of_clients(rng, count // 2), *of_the_document(document, seed, count - count // 2)]
    rng.shuffle(bodies)
    return bodies


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:80]: _shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one) for one in value[:20]]
    return value[:80] if isinstance(value, str) else value


def main() -> int:
    """Prints what was found, each kind once in full, and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--bodies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", default="")
    parser.add_argument("--show", type=int, default=5, help="of each kind")
    args = parser.parse_args()
    headers = {"Authorization": f"Bearer {args.key}"} if args.key else {}
    bodies = make_bodies(args.url, args.seed, args.bodies)
    counts, findings = asyncio.run(fuzz(args.url, bodies, headers))
    shown: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = finding.why, re.sub(r"[^a-z ]", "", finding.answer.lower())[:70]
        shown[kind] += 1
        if shown[kind] <= args.show:
            print(f"{finding.why}: POST {finding.path}\n  {json.dumps(_shortened(finding.body))}")
            print(f"  {finding.answer[:400]}\n")
    for line, count in sorted(counts.items()):
        print(f"{line}: {count}")
    print(f"RESULT bodies={len(bodies)} findings={len(findings)} kinds={len(shown)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
