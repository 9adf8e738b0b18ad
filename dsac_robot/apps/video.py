"""Frames to an MP4 file (H.264), which every browser plays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dsac_robot.core.params import ParameterError


class VideoWriter:
    """Writes frames of one size to ``path``; a context manager. The file is whole only after the ``with`` block.

    Raises ParameterError for a name that does not end in .mp4, a folder that is not there, or odd sizes, which H.264
    cannot hold.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate_hz: int = 25) -> None:
        if path.suffix.lower() != ".mp4":
            raise ParameterError(f"--video {path}: the name must end in .mp4")
        if not path.parent.is_dir():
            raise ParameterError(f"--video {path}: there is no folder {path.parent}; make it first")
        if size[0] % 2 or size[1] % 2:
            raise ParameterError(f"a video of {size[0]}x{size[1]}: both numbers must be even")
        try:
            import av
        except ImportError as error:
            raise ParameterError("--video needs PyAV: pip install 'dsac_robot[video]', or make venv") from error
        self._av: Any = av
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(rate_hz), options={"crf": "20"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size, "yuv420p"

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Append one frame. # (H, W, 3) RGB"""
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
