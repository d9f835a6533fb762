"""Damaged files: each is served or refused, none kills or fattens the process."""

import random
from collections import Counter

import pytest
from damage import damaged
from loading_run import Outcome, run_files
from real_files import real_clips, real_images

SEED = "saccade-1"
CASES = 12  # of each file
FILES = {f"{name}.image": data for name, data in real_images().items()}
FILES |= {f"{name}.video": data for name, data in real_clips().items()}
# Percent of a file that are left of it.
SHARES = (*range(0, 100, 5), 99, 100)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    cuts = {
        f"{share}% of {name}": data[: len(data) * share // 100]
        for name, data in FILES.items()
        for share in SHARES
    }
    damages = {
        f"damage {number} of {name}": damaged(data, random.Random(f"{SEED}/{name}/{number}"))
        for name, data in FILES.items()
        for number in range(CASES)
    }
    return run_files(cuts | damages, tmp_path_factory.mktemp("damage"))


def test_damaged_files_are_served_or_refused(outcomes: dict[str, Outcome]) -> None:
    damages = [case for name, case in outcomes.items() if name.startswith("damage")]
    assert len(damages) == CASES * len(FILES)
    kinds = Counter(case.outcome for case in damages)
    # Both ways out were taken often, so that neither is the only one that works.
    assert min(kinds["served"], kinds["DecodeError"]) > len(damages) // 10, kinds
    assert set(kinds) <= {"served", "DecodeError"}


@pytest.mark.parametrize("name", FILES)
def test_files_cut_short(name: str, outcomes: dict[str, Outcome]) -> None:
    cuts = {share: outcomes[f"{share}% of {name}"].outcome for share in SHARES}
    assert set(cuts.values()) == {"served", "DecodeError"}
    served = [share for share, outcome in cuts.items() if outcome == "served"]
    assert 100 in served
    if name in ("mp4.video", "mov.video"):
        least = 99  # their header is at the end
    elif name.endswith("video"):
        least = 15  # two frames are more than that
    elif name in ("png-moving.image", "gif-moving.image"):
        least = 30  # the first of three frames is whole from a third on
    else:
        least = 99 if "palette" in name else 100  # a palette PNG ends in spare chunks
    assert min(served) >= least
