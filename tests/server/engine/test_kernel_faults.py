"""Every compiled operation fails at once: the server starts and answers rightly all the same.

One at a time, which takes a server for each, is `tests/support/server/faulty_servers.py`.
"""

import re

import pytest
from faulty_servers import compiled_operations, doctor_with_faults, serve_with_faults


@pytest.mark.usefixtures("starts_engine")
@pytest.mark.parametrize(("fault", "dtype"), [("raise", "bfloat16"), ("wrong", "float32")])
def test_the_server_answers_rightly_and_names_them(fault: str, dtype: str) -> None:
    operations = compiled_operations(dtype)
    assert operations, "nothing is compiled here: run make setup with a C++ compiler"
    asked = ",".join(f"{name}:{fault}" for name in operations)
    outcome = serve_with_faults(asked, dtype)
    assert outcome.answers > 0
    assert outcome.wrong == []
    named = set(
        re.findall(r"out of use, the next backend takes over: (\w+) \(compiled", outcome.log)
    )
    assert named == set(operations)
    code, said = doctor_with_faults(asked)
    assert code == 1
    listed = re.search(r"WRONG: kernels: out of use: ([\w, ]+);", said)
    assert listed
    assert set(listed[1].split(", ")) >= set(operations)  # of every dtype
