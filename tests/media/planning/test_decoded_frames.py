"""Videos that were decoded elsewhere are planned as files are: same sizes, same sampled frames."""

import pytest

from saccade.media.controls import VideoControls
from saccade.media.errors import DecodeError
from saccade.media.planning.decoded_frames import FrameSource, plan_decoded_frames
from saccade.media.planning.plan import PixelLimits, VideoSource, VisionGeometry, plan_video

GEOMETRY, LIMITS = VisionGeometry(), PixelLimits()


def test_all_frames_of_a_video_that_was_sampled_before():
    source = FrameSource(100, 60, [0, 10, 20, 30, 45], source_frames=50, source_fps=10.0)
    places, plan = plan_decoded_frames(source, None, GEOMETRY, LIMITS)
    assert places == [0, 1, 2, 3, 4, 4]  # the last one fills the last step
    assert plan.frame_indices == (0, 10, 20, 30, 45)
    assert plan.frame_times == (0.0, 1.0, 2.0, 3.0, 4.5)
    assert (plan.width, plan.height, plan.grid, plan.tokens) == (112, 56, (3, 4, 8), 24)
    assert (plan.sampled_fps, plan.seconds_per_grid) == (1.0, 2.0)


@pytest.mark.parametrize("controls", [VideoControls(fps=1.0), VideoControls(nframes=6)])
def test_frames_are_sampled_as_those_of_a_file(controls):
    source = FrameSource(100, 60, range(90), source_frames=90, source_fps=30.0)
    places, plan = plan_decoded_frames(source, controls, GEOMETRY, LIMITS)
    of_file = plan_video(VideoSource(100, 60, 90, 30.0), controls, GEOMETRY)
    assert tuple(places) == plan.frame_indices == of_file.frame_indices
    assert plan.frame_times == of_file.frame_times
    assert plan.seconds_per_grid == pytest.approx(of_file.seconds_per_grid)


def test_too_few_frames_to_sample():
    source = FrameSource(100, 60, [0], source_frames=1, source_fps=30.0)
    with pytest.raises(DecodeError, match="at least 2 are needed"):
        plan_decoded_frames(source, VideoControls(fps=1.0), GEOMETRY, LIMITS)
