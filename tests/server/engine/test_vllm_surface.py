"""Every name and signature of vLLM that the code touches is as the reviewed table says."""

import json

import pytest
from vllm.v1.request import Request
from vllm_surface import describe, member
from vllm_table import FILE, described, differences, expected, installed_version, updated
from vllm_touched import imported_names, inherited_members, touched

from saccade.model.cpu.idle_wait import spin_again

STORED = json.loads(FILE.read_text(encoding="utf-8"))
SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"


@pytest.fixture(scope="module")
def found():
    """What the installed vLLM has of all that is touched."""
    spin_again()  # other tests make processors of ours in this process
    return described(touched())


def test_nothing_differs_from_the_table(found):
    lines = differences(STORED["names"], found, installed_version())
    assert not lines, (
        f"vLLM {installed_version()} is not what the code was checked on; review each, then take "
        "it into the table: python tests/support/vllm/vllm_table.py --write\n" + "\n".join(lines)
    )


def test_what_is_touched_exists_unless_another_version_has_it(found):
    missing = {
        f"{key} {name}"
        for key, names in found.items()
        for name, entry in names.items()
        if entry is None and not isinstance(STORED["names"][key][name], dict)
    }
    assert not missing


def test_what_is_found_in_the_code(tmp_path):
    file = tmp_path / "code.py"
    file.write_text(
        "import vllm.envs\n"
        "from vllm.inputs import TokensPrompt as Prompt\n"
        "from vllm_other import x\n"
        "def late():\n"
        "    from vllm.v1.request import Request\n"
        "NAME, TEXT = 'vllm.models', 'vllm.models are many'\n"
    )
    assert imported_names([file]) == {
        "vllm.envs": {""},
        "vllm.inputs": {"TokensPrompt"},
        "vllm.v1.request": {"Request"},
        "vllm.models": {""},
    }
    inherited = inherited_members()
    assert {"_try_schedule_encoder_inputs", "running", "schedule"} <= inherited[SCHEDULER]
    assert "_executor" in inherited["vllm.renderers.hf:HfRenderer"]


def test_what_a_name_is_told_to_be():
    class Held:
        field: int

        async def call(self, one, two=2, *rest, word, **more) -> tuple[int, str]:
            """Called."""

    Held.__module__ = "vllm.held"
    assert member(Held, "call") == "async (self, one, two=, *rest, word, **more) -> tuple[int, str]"
    assert member(Held, "field") == "field"
    assert member(Held, "gone") is None
    assert member(Request, "num_prompt_tokens") == "instance attribute"
    assert member(Request, "has_encoder_inputs") == "property"
    assert describe("vllm.v1.request", "Gone", set()) is None
    assert describe("vllm.gone.for_good", "Name", set()) is None
    assert describe("vllm.envs", "VLLM_GONE", set()) is None
    assert describe("text in vllm.plugins", "not said there", set()) is None


def test_a_difference_is_told_by_module_and_name():
    table = {
        "vllm.a": {"f": "(x)", "g": "(x)", "same": {"0.1": None, "0.2": "class(x)"}},
        "vllm.a:C": {"m": "field", "left": "field"},
    }
    now = {"vllm.a": {"f": "(x, y)", "g": None, "same": "class(x)", "new": "(z)"}}
    now["vllm.a:C"] = {"m": "field"}
    assert differences(table, now, "0.2") == [
        "vllm.a f: was (x), is (x, y)",
        "vllm.a g: was (x), is gone",
        "vllm.a new: touched, but not in the table; vLLM has (z)",
        "vllm.a:C left: in the table, but nothing touches it any more",
    ]
    taken = updated(table, now, "0.2", ["0.1", "0.2"])
    assert differences(taken, now, "0.2") == []
    assert taken["vllm.a"] == {
        "f": {"0.1": "(x)", "0.2": "(x, y)"},
        "g": {"0.1": "(x)", "0.2": None},
        "same": {"0.1": None, "0.2": "class(x)"},
        "new": "(z)",
    }
    assert taken["vllm.a:C"] == {"m": "field"}
    # A version that nobody has looked at is held against the newest.
    assert expected(taken["vllm.a"]["f"], "0.3") == "(x, y)"
