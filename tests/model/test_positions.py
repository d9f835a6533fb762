"""Positions against the formula, in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from saccade.model.positions import MediumPosition, mrope_positions, temporal_ids

FRAME_RATES = [Fraction(tenths, 10) for tenths in range(1, 601)]
GRIDS = 384  # 768 frames


@pytest.mark.parametrize("tokens_per_second", [2, 4])
def test_temporal_ids_are_exact_for_every_frame_rate(tokens_per_second: int) -> None:
    for fps in FRAME_RATES:
        exact = [int(index * 2 / fps * tokens_per_second) for index in range(GRIDS)]
        ids = temporal_ids(GRIDS, 2 / float(fps), tokens_per_second)
        np.testing.assert_array_equal(ids, exact, err_msg=f"{fps} frames a second")


def test_sampled_ntsc_rate() -> None:
    # 60 frames sampled of 901 at 30000/1001 frames a second.
    seconds = Fraction(2) * 901 * 1001 / (60 * 30000)
    exact = [int(index * seconds * 2) for index in range(30)]
    sampled_fps = 60 / 901 * (30000 / 1001)
    np.testing.assert_array_equal(temporal_ids(30, 2 / sampled_fps, 2), exact)


def test_text_counts_up() -> None:
    positions, delta = mrope_positions(5, [], 2)
    np.testing.assert_array_equal(positions, [range(5)] * 3)
    assert delta == 0


def test_image_between_text() -> None:
    # Two words, an image of 2 x 3 tokens, two words.
    positions, delta = mrope_positions(10, [MediumPosition(2, (1, 2, 3))], 2)
    np.testing.assert_array_equal(
        positions,
        [
            [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
            [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
            [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
        ],
    )
    assert delta == 7 - 10


def test_text_after_a_video_resumes_above_its_largest_id() -> None:
    # Three grids of 1 x 2 tokens, two seconds apart: ids 0, 4, 8.
    positions, delta = mrope_positions(8, [MediumPosition(1, (3, 1, 2), 2.0)], 2)
    np.testing.assert_array_equal(
        positions,
        [[0, 1, 1, 5, 5, 9, 9, 10], [0, 1, 1, 1, 1, 1, 1, 10], [0, 1, 2, 1, 2, 1, 2, 10]],
    )
    assert delta == 11 - 8


def test_media_in_any_order_and_nothing_after() -> None:
    image, video = MediumPosition(0, (1, 1, 2)), MediumPosition(3, (2, 1, 1), 0.5)
    positions, delta = mrope_positions(5, [video, image], 2)
    np.testing.assert_array_equal(positions[0], [0, 0, 2, 3, 4])
    assert delta == 5 - 5
