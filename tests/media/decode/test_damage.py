"""Damaged files: each is served or refused, none kills or fattens the process."""

import random
from collections import Counter
from pathlib import Path

from damage import damaged
from loading_run import Outcome, run_files
from real_files import real_clips, real_images

SEED = "saccade-1"
CASES = 20  # of each file


def test_damaged_files_are_served_or_refused(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    for kind, files in (("image", real_images()), ("video", real_clips())):
        cases = {
            f"{name} {number}": damaged(data, random.Random(f"{SEED}/{name}/{number}"))
            for name, data in files.items()
            for number in range(CASES)
        }
        outcomes += run_files(cases, kind, tmp_path).values()
    kinds = Counter(case.outcome for case in outcomes)
    # Both ways out were taken often, so that neither is the only one that works.
    assert min(kinds["served"], kinds["DecodeError"]) > len(outcomes) // 10, kinds
    assert set(kinds) <= {"served", "DecodeError"}
