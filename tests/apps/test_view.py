"""``dsac-robot view``: a drive becomes a video that plays; what cannot be shown is refused in a sentence."""

from pathlib import Path

import av
import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.video import VideoWriter
from dsac_robot.apps.view_cmd import FRAME_HZ, LINGER_FRAMES
from dsac_robot.core.params import ParameterError

SECONDS = 0.4


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_drive_is_written_as_a_video_that_decodes_and_in_which_something_moves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "drive.mp4"
    arguments = ["view", "--world", "empty", "--seconds", str(SECONDS), "--size", "160x120", "--video", str(path)]
    assert main(arguments) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    frames = frames_of(path)
    assert len(frames) == round(SECONDS * FRAME_HZ) + LINGER_FRAMES
    assert frames[0].shape == (120, 160, 3)
    assert frames[0].std() > 10.0
    assert np.abs(frames[0].astype(int) - frames[-1].astype(int)).mean() > 0.5


def test_what_is_written_is_what_was_drawn(tmp_path: Path) -> None:
    path = tmp_path / "ramp.mp4"
    drawn = [np.full((64, 96, 3), level, np.uint8) for level in (20, 90, 160, 230)]
    with VideoWriter(path, (96, 64)) as writer:
        for image in drawn:
            writer.add(image)
    shown = frames_of(path)
    assert [round(float(image.mean()), -1) for image in shown] == [20, 90, 160, 230]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--video", "drive.gif"], ".mp4"),
        (["--video", "no/such/folder/drive.mp4"], "no/such/folder"),
        (["--video", "drive.mp4", "--size", "wide"], "'wide'"),
        (["--video", "drive.mp4", "--size", "9999x720"], "1920x1080"),
        (["--video", "drive.mp4", "--size", "161x120"], "even"),
        (["--video", "drive.mp4", "--world", "moon"], "'moon'"),
        (["--video", "drive.mp4", "--world-file", "plan.world"], "world_N.world"),
        (["--video", "drive.mp4", "--seconds", "0"], "[0.1, 1000]"),
        (["--video", "drive.mp4", "--seed", "-1"], "--seed -1"),
    ],
)
def test_what_cannot_be_shown_ends_with_status_2_and_names_what_is_wrong(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", *arguments]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_display_the_window_is_refused_and_the_video_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view"]) == 2
    assert "--video" in capsys.readouterr().err


def test_a_video_of_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="even"):
        VideoWriter(tmp_path / "odd.mp4", (97, 64))
