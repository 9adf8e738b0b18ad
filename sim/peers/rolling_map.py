"""What a robot without a map knows of the obstacles: an occupancy grid around it, from its lidar and odometry alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dsac_robot.core.guard_geometry import Pose, from_frame, to_frame
from dsac_robot.core.lidar import Mask, free_distance, returns_in_base
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32, Scan

CELL_M = 0.025
HALF_CELLS = 144  # the window reaches so far from its middle: 3.6 m
MOVE_CELLS = 16  # the window follows the robot in steps of so many cells
SEEN_THROUGH_M = 0.06  # an occupied cell is cleared where a beam goes so far beyond it
REACH_CELLS = 24  # distances to obstacles are known up to 0.6 m

DistanceMap = npt.NDArray[np.float32]


class RollingMap:
    """Occupied cells in a square window that moves with the robot. Axes as in the odom frame: x first, then y.

    Cells are marked where a beam ends and cleared where one passes; what leaves the window is forgotten.
    """

    def __init__(self, lidar: Lidar) -> None:
        self._lidar = lidar
        size = 2 * HALF_CELLS
        self.occupied: Mask = np.zeros((size, size), bool)
        self._low: npt.NDArray[np.int64] = np.array([-HALF_CELLS, -HALF_CELLS], np.int64)  # first cell, in cells

    @property
    def low_m(self) -> Floats:
        """Centre of the first cell, in the odom frame. # (2,)"""
        return np.asarray(self._low * CELL_M + 0.5 * CELL_M)

    def cells(self, points_m: Floats) -> tuple[npt.NDArray[np.int64], Mask]:
        """Cell of each point of the odom frame, and whether it is in the window. # (..., 2) -> (..., 2), (...)"""
        cells = np.floor(points_m / CELL_M).astype(np.int64) - self._low
        return cells, np.asarray(np.all((cells >= 0) & (cells < 2 * HALF_CELLS), axis=-1))

    def update(self, scan: Scan, pose: Pose) -> None:
        """Take in a scan that was made with the base at ``pose``."""
        self._follow(pose)
        free, valid = free_distance(scan.ranges_m, self._lidar)
        self._clear(free, valid, pose)
        hits = to_frame(returns_in_base(scan.ranges_m, self._lidar), pose)
        cells, inside = self.cells(hits)
        self.occupied[tuple(cells[inside].T)] = True

    def _follow(self, pose: Pose) -> None:
        wanted = np.floor(np.array(pose[:2]) / CELL_M).astype(np.int64) - HALF_CELLS
        move = (wanted - self._low) // MOVE_CELLS * MOVE_CELLS
        if not move.any():
            return
        size = 2 * HALF_CELLS
        moved = np.zeros_like(self.occupied)
        old = tuple(slice(max(0, m), min(size, size + m)) for m in move)
        new = tuple(slice(max(0, -m), min(size, size - m)) for m in move)
        if all(part.start < part.stop for part in old):
            moved[new] = self.occupied[old]
        self.occupied = moved
        self._low = self._low + move

    def _clear(self, free_m: Floats32, valid: Mask, pose: Pose) -> None:
        lidar = self._lidar
        cells = np.argwhere(self.occupied)
        centres = np.asarray((cells + self._low + 0.5) * CELL_M, np.float64)
        points = from_frame(centres, pose) - np.array([lidar.x_m, lidar.y_m])
        angle = np.arctan2(points[:, 1], points[:, 0]) - lidar.yaw_rad - lidar.angle_min_rad
        beam = np.rint(np.mod(angle, math.tau) / lidar.angle_increment_rad).astype(np.int64)
        aimed = beam < lidar.beams
        beam = np.where(aimed, beam, 0)
        beyond = free_m[beam] - np.hypot(points[:, 0], points[:, 1])
        gone = cells[aimed & valid[beam] & (beyond > SEEN_THROUGH_M)]
        self.occupied[tuple(gone.T)] = False

    def distances(self) -> DistanceMap:
        """Distance of each cell's centre to the nearest occupied one's, at most 0.6 m. # (I, J), metres

        The exact Euclidean distance transform, by rows and then over the rows within reach.
        """
        size, far = 2 * HALF_CELLS, 10 * HALF_CELLS
        index = np.arange(size)
        before = np.maximum.accumulate(np.where(self.occupied, index, -far), axis=1)
        after = np.minimum.accumulate(np.where(self.occupied, index, far)[:, ::-1], axis=1)[:, ::-1]
        in_row = np.minimum(np.minimum(index - before, after - index), REACH_CELLS).astype(np.int16) ** 2
        squared = in_row.copy()
        for offset in range(1, REACH_CELLS):
            add = np.int16(offset * offset)
            np.minimum(squared[offset:], in_row[:-offset] + add, out=squared[offset:])
            np.minimum(squared[:-offset], in_row[offset:] + add, out=squared[:-offset])
        return (CELL_M * np.sqrt(np.arange(REACH_CELLS**2 + 1))).astype(np.float32)[squared]
