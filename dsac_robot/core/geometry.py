"""Convex outlines and points."""

from __future__ import annotations

import numpy as np

from dsac_robot.core.values import Floats


def _following(count: int) -> list[int]:
    """Index of the vertex after each."""
    return [*range(1, count), 0]


def half_planes(outline_m: Floats) -> tuple[Floats, Floats]:
    """Outward unit normals and offsets of a convex counter-clockwise outline: inside is n · p <= d for each edge.

    # (V, 2) -> (V, 2), (V,)
    """
    edges = outline_m[_following(len(outline_m))] - outline_m
    normals: Floats = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals, np.asarray(np.sum(normals * outline_m, axis=1))


def outward_distance(points_m: Floats, outline_m: Floats) -> Floats:
    """Signed distance of points to a convex outline: exact outside along edges and at corners, negative inside.

    # (N, 2), (V, 2) -> (N,)
    """
    return _outward(points_m, outline_m, half_planes(outline_m))


def _outward(points_m: Floats, outline_m: Floats, planes: tuple[Floats, Floats]) -> Floats:
    inside = _beyond_edges(points_m, planes)
    if not np.any(inside > 0.0):
        return inside
    edge_x, edge_y = (outline_m[_following(len(outline_m))] - outline_m).T[..., None]  # (V, 1) each
    x, y = points_m[:, 0] - outline_m[:, :1], points_m[:, 1] - outline_m[:, 1:]  # (V, N) each
    along = np.minimum(np.maximum((x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0.0), 1.0)
    x, y = x - along * edge_x, y - along * edge_y
    outside = np.sqrt((x * x + y * y).min(axis=0))
    return np.asarray(np.where(inside > 0.0, outside, inside))


def _beyond_edges(points_m: Floats, planes: tuple[Floats, Floats]) -> Floats:
    """Distance beyond the edge that each point is farthest beyond: never above the distance to the outline, and equal
    to it inside. Sums are written out, so that a point's number does not depend on how many points there are.

    # (N, 2) -> (N,)
    """
    normals, offsets = planes
    signed = normals[:, :1] * points_m[:, 0] + normals[:, 1:] * points_m[:, 1] - offsets[:, None]  # (V, N)
    return np.asarray(signed.max(axis=0))


def nearest_distance(points_m: Floats, outline_m: Floats, planes: tuple[Floats, Floats]) -> float:
    """Least ``outward_distance`` of the points to an outline with those ``half_planes``. # (N, 2), (V, 2) -> ()"""
    return float(_outward(points_m, outline_m, planes).min())


def box_corners(boxes_m: Floats) -> Floats:
    """The four corners, in order, of each box: x, y, half length, half thickness, heading of its length.

    # (M, 5) -> (M, 4, 2)
    """
    x, y, length, thickness, yaw = boxes_m.T
    c, s = np.cos(yaw), np.sin(yaw)
    along, across = np.stack([length * c, length * s], axis=1), np.stack([-thickness * s, thickness * c], axis=1)
    centre = np.stack([x, y], axis=1)
    corners = [centre + a * along + b * across for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return np.stack(corners, axis=1)
