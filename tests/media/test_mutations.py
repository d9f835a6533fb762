"""Ten thousand damaged files: each is served or refused, none kills or fattens the process."""

from collections import Counter
from pathlib import Path

from hostile_run import finish, start

SEED = "saccade-1"
CASES = 10_000
PROCESSES = 2


def test_ten_thousand_mutations_of_real_files(tmp_path: Path) -> None:
    share = CASES // PROCESSES
    children = []
    for number in range(PROCESSES):
        folder = tmp_path / str(number)
        folder.mkdir()
        bounds = str(number * share), str((number + 1) * share)
        children.append((start(folder, "mutations", SEED, *bounds), folder))
    try:
        outcomes = {}
        for child, folder in children:
            outcomes |= finish(child, folder)
    finally:
        for child, _ in children:
            child.kill()
            child.wait()
    assert len(outcomes) == CASES
    kinds = Counter(case.outcome for case in outcomes.values())
    # Both ways out were taken often, so that neither is the only one that works.
    assert min(kinds["served"], kinds["DecodeError"]) > CASES // 10, kinds
    assert set(kinds) <= {"served", "DecodeError", "LimitError", "ControlError"}
    originals = {name.split()[0] for name in outcomes}
    assert len(originals) == 23
