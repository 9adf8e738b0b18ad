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
    normals, offsets = half_planes(outline_m)
    signed = points_m @ normals.T - offsets  # (N, V)
    inside = signed.max(axis=1)
    if not np.any(inside > 0.0):
        return np.asarray(inside)
    edges = outline_m[_following(len(outline_m))] - outline_m  # (V, 2)
    relative = points_m[:, None, :] - outline_m[None]  # (N, V, 2)
    along = np.clip(np.sum(relative * edges, axis=2) / np.sum(edges * edges, axis=1), 0.0, 1.0)
    gap = relative - along[..., None] * edges
    outside = np.sqrt(np.sum(gap * gap, axis=2).min(axis=1))
    return np.asarray(np.where(inside > 0.0, outside, inside))


def nearest_distance(points_m: Floats, outline_m: Floats, planes: tuple[Floats, Floats]) -> float:
    """Least ``outward_distance`` of the points to an outline with those ``half_planes``; only the points that can be
    the nearest are looked at closely.

    # (N, 2), (V, 2) -> ()
    """
    normals, offsets = planes
    bound = (points_m @ normals.T - offsets).max(axis=1)  # never above the distance
    first = int(bound.argmin())
    if bound[first] <= 0.0:
        return float(bound[first])
    reach = float(outward_distance(points_m[first : first + 1], outline_m)[0])
    return float(outward_distance(points_m[bound <= reach], outline_m).min())
