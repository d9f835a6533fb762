"""What is sent: content by seed and index, planned tokens, witnesses, files for vLLM's command."""

import json
import shlex

import pytest
from vllm.benchmarks.serve import add_cli_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from saccade.benchmarks.load.checks import Checker
from saccade.benchmarks.load.dataset import read_dataset, vllm_command, write_dataset
from saccade.benchmarks.load.profiles import PROFILES, Sample
from saccade.benchmarks.load.witnesses import EVERY, make_witnesses, with_witnesses


def media(sample: Sample) -> list[str]:
    return [
        part[part["type"]]["url"]
        for part in sample.messages[0]["content"]
        if part["type"] != "text"
    ]


@pytest.mark.parametrize("name", PROFILES)
def test_content_is_decided_by_seed_and_index(name: str):
    profile = PROFILES[name]
    first = profile.samples(1, range(20, 22))
    assert first == profile.samples(1, range(20, 22))
    assert first[0].messages != first[1].messages
    assert media(first[0]) != media(profile.samples(2, range(20, 21))[0])


@pytest.mark.parametrize(
    ("name", "count", "tokens"),
    [
        ("image-448", 1, 16 * 16 + 2),
        ("image-1024", 1, 37 * 27 + 2),  # resized to 1036x756
        ("images-8", 8, 8 * (16 * 16 + 2)),
        ("video", 1, 4 * 16 * 12 + 2),  # eight frames, by twos
        ("conversation", 1, 37 * 27 + 2),
    ],
)
def test_media_and_what_is_planned_for_them(name: str, count: int, tokens: int):
    sample = PROFILES[name].samples(1, range(1))[0]
    assert len(set(media(sample))) == count
    assert sample.media_tokens == tokens


def test_the_turns_of_a_conversation_share_its_image():
    samples = PROFILES["conversation"].samples(5, range(32))
    assert [len(sample.messages) for sample in samples[:16]] == [1] * 4 + [3] * 4 + [5] * 4 + [
        7
    ] * 4
    shown = [media(sample)[0] for sample in samples]
    assert shown[:4] == shown[4:8] == shown[8:12] == shown[12:16]
    assert len(set(shown)) == 8
    for turn in range(1, 4):
        assert samples[4 * turn].messages[: 2 * turn - 1] == samples[4 * (turn - 1)].messages


def test_mixed_has_all_others_by_turns_and_no_image_twice():
    samples = PROFILES["mixed"].samples(1, range(20))
    kinds = [media(sample)[0][:10] for sample in samples[:5]]
    assert kinds == ["data:image"] * 3 + ["data:video", "data:image"]
    assert [len(media(sample)) for sample in samples[:5]] == [1, 1, 8, 1, 1]
    assert [len(sample.messages) for sample in samples[4::5]] == [1] * 4
    shown = [url for sample in samples for url in media(sample)]
    assert len(set(shown)) == len(shown)


def test_one_request_in_eight_becomes_a_witness():
    samples = [Sample([{"role": "user", "content": "?"}]) for _ in range(20)]
    mixed = with_witnesses(samples, 7)
    known = [index for index, sample in enumerate(mixed) if sample.answer is not None]
    assert known == [EVERY - 1, 2 * EVERY - 1, 19]
    assert [mixed[index] for index in range(20) if index not in known] == samples[:17]
    assert len({json.dumps(mixed[index].messages) for index in known}) == 3
    assert make_witnesses(7, 3) == [mixed[index] for index in known]


def test_a_witness_is_right_or_what_the_server_says_alone(fake_server):
    (witness,) = make_witnesses(0, 1)

    def problems(text: str) -> tuple[list[str], Checker]:
        checker = Checker({"a": fake_server.url}, {"a": "fake"}, 3)
        result = {"errors": [""], "generated_texts": [text], "input_lens": [9], "output_lens": [1]}
        return checker.problems([witness], {"a": result}), checker

    found, checker = problems(f"{witness.answer}\n")
    assert (found, checker.tally.right, checker.tally.model_mistakes) == ([], 1, 0)
    found, checker = problems("A red car")  # as the fake server always says
    assert (found, checker.tally.right, checker.tally.model_mistakes) == ([], 0, 1)
    found, checker = problems("A blue car")
    assert len(found) == 1
    assert "the answer is 'A blue car', alone 'A red car'" in found[0]


def test_a_file_holds_the_requests(tmp_path):
    samples = [*PROFILES["conversation"].samples(1, range(2)), *make_witnesses(1, 1)]
    write_dataset(file := tmp_path / "some.jsonl", samples)
    lines = read_dataset(file)
    assert [line["prompt"] for line in lines] == [sample.messages for sample in samples]
    assert [line.get("request_overrides") for line in lines] == [None, None, {"min_tokens": 0}]


def test_the_command_is_one_that_vllm_takes():
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    text = vllm_command("a b.jsonl", "http://x", "m", 5, 2.5, 7, 3, {"ttft": 500.0}, 4)
    tool, bench, serve, *words = shlex.split(text)
    assert (tool, bench, serve) == ("vllm", "bench", "serve")
    args = parser.parse_args(words)
    assert (args.dataset_name, args.dataset_path) == ("custom", "a b.jsonl")
    assert (args.request_rate, args.num_prompts, args.max_concurrency) == (2.5, 5, 4)
    assert args.goodput == ["ttft:500"]
    assert args.extra_body == {"max_completion_tokens": 7, "min_tokens": 7}
