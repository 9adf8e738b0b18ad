"""The guard's loops: roll-outs, clearances, and what was seen; see ``core.compiled``.

All of them, and all constants in them, are in this one file. ``guard_check.compile_loops`` runs each once.
"""

from __future__ import annotations

import math

import numpy as np

from dsac_robot.core.compiled import compiled
from dsac_robot.core.lidar import Mask
from dsac_robot.core.values import NS, Floats, Floats32, Indices, Twist

GRID_S = 0.02  # time step of a roll-out
SPACING_M = 0.025  # poses are checked at this spacing of the fastest corner, or at GRID_S where that is coarser
REST_MPS = 0.02  # below this speed of every corner the robot is at rest
GRAZE_M = 0.05  # a beam that ends so little before a point still shows it free: returns themselves are checked apart
SLIP_M = 0.04  # skid-steer wheels slip so far, mostly when reversing and turning, while a return is remembered
BODY_M = 2e-4  # rounding; more would let a slow robot push its own free space before it
TIE_M = 2e-5  # rounding in "no nearer than the stop"
INSIDE_M = 0.01  # a return so far within the outline is not the lidar's noise
AWAY = 0.1  # of its way a robot with a return inside its outline must get away from it
CELL_M = 0.02  # one remembered return a cell
MATCH_ROUNDS = 3
MATCH_EVERY = 4  # returns
MATCH_SIDE = 4  # returns to either side that make a line
MATCH_M = 0.25  # returns farther apart do not match
MATCH_EDGE_M = 0.1  # a larger step from beam to beam is an edge
MATCH_NOISE_M = 0.03  # distance at which a return counts for a quarter in the last round; twice that in the one before
MATCH_LEAST = 20.0  # matching returns, or nothing is known
MATCH_TIE = 0.01


@compiled
def clearance_at(x: float, y: float, planes: Floats) -> float:
    """Distance of a point in the base frame to the outline with these planes, at most; negative inside. # (P, 3)"""
    most = -np.inf
    for i in range(len(planes)):
        most = max(most, planes[i, 0] * x + planes[i, 1] * y - planes[i, 2])
    return most


@compiled
def seen_from(x: float, y: float, pose: Floats, c: float, s: float) -> tuple[float, float]:
    """Coordinates of a point in the frame at ``pose``: x, y, yaw, of which ``c`` and ``s`` are cosine and sine (they
    take longer than all the rest). # (3,) or longer"""
    dx, dy = x - pose[0], y - pose[1]
    return c * dx + s * dy, c * dy - s * dx


@compiled
def sector_of(x: float, y: float, eye: Floats) -> float:
    """In which sector of a scan from ``eye`` a point lies: whole number and part; maybe NaN. # (4,)"""
    sector: float = (math.atan2(y - eye[1], x - eye[0]) - eye[2]) % math.tau / eye[3]
    return sector


@compiled
def beyond(x: float, y: float, eye: Floats, free_m: Floats32) -> float:
    """How far beyond a point a scan looked; -inf where no valid beam points at it. # (4,), (S,)"""
    dx, dy = x - eye[0], y - eye[1]
    sector = sector_of(x, y, eye)
    if not 0.0 <= sector < len(free_m):  # NaN: compiled loops do not check their indices
        return -math.inf
    gap: float = free_m[int(sector)] - math.sqrt(dx * dx + dy * dy)
    return gap


@compiled
def bridged(free_m: Floats32, valid: Mask, shown: Floats32) -> int:
    """Write what the beams show to the first sectors; an invalid beam between two valid ones shows what the shorter of
    them does. How many are valid. # (B,), (B,), (S,)"""
    count = 0
    for i in range(len(free_m)):
        if valid[i]:
            shown[i], count = free_m[i], count + 1
        elif 0 < i < len(free_m) - 1 and valid[i - 1] and valid[i + 1]:
            shown[i] = min(free_m[i - 1], free_m[i + 1])
    return count


@compiled
def saw_around(x: float, y: float, radius: float, eye: Floats, free_m: Floats32) -> bool:
    """Whether a scan looked past all that lies within ``radius`` of a point, so that nothing could come to the point
    from a place where it was not seen. # (4,), (S,)"""
    far = math.hypot(x - eye[0], y - eye[1])
    if not radius < far:
        return False
    middle, half = sector_of(x, y, eye), math.asin(radius / far) / eye[3]
    first, last, turn = math.floor(middle - half), math.floor(middle + half), round(math.tau / eye[3])
    for i in range(first, last + 1):
        sector = i % turn
        if sector >= len(free_m) or not free_m[sector] >= far + radius - GRAZE_M:
            return False
    return True


@compiled
def beyond_each(points: Floats, eye: Floats, free_m: Floats32) -> Floats:
    """``beyond`` of each point. # (N, 2) or wider, (4,), (S,) -> (N,)"""
    gaps = np.empty(len(points))
    for i in range(len(points)):
        gaps[i] = beyond(points[i, 0], points[i, 1], eye, free_m)
    return gaps


@compiled
def placed_returns(returns: Floats, pose: Floats, slip: Floats, eye: Floats, free_m: Floats32) -> Floats:
    """The returns in the odom frame, with their scan's slip, that another scan does not look at. # (N, 2) -> (M, 5)"""
    placed, count = np.empty((len(returns), 5)), 0
    c, s = math.cos(pose[2]), math.sin(pose[2])
    for i in range(len(returns)):
        x = pose[0] + c * returns[i, 0] - s * returns[i, 1]
        y = pose[1] + s * returns[i, 0] + c * returns[i, 1]
        if beyond(x, y, eye, free_m) == -math.inf:
            placed[count, 0], placed[count, 1] = x, y
            placed[count, 2], placed[count, 3], placed[count, 4] = slip[0], slip[1], slip[2]
            count += 1
    return placed[:count]


@compiled
def line_through(free_m: Floats32, middle: int, fan: Floats, most_m: float) -> tuple[float, float, float]:
    """The line through the means of the returns to either side of a beam, in that beam's frame: unit normal and
    distance from the eye; zeros at an edge, or where there is no return. ``fan``: directions. # (S,), (F, 2)"""
    side = len(fan) // 2
    x, y, along, across = 0.0, 0.0, 0.0, 0.0  # sums over both sides, and of the left one less the right one
    before = free_m[middle - side]
    for j in range(len(fan)):
        here = free_m[middle - side + j]
        if not 0.0 < here < most_m or abs(here - before) > MATCH_EDGE_M:
            return 0.0, 0.0, 0.0
        before = here
        if j != side:
            left = 1.0 if j > side else -1.0
            x, y = x + here * fan[j, 0], y + here * fan[j, 1]
            along, across = along + left * here * fan[j, 0], across + left * here * fan[j, 1]
    length = math.sqrt(along * along + across * across)
    return -across / length, along / length, (along * y - across * x) / (2 * side * length)


@compiled
def eliminate(a: Floats, b: Floats) -> None:
    """Solve a x = b in place: b becomes x. No pivots: ``a`` is symmetric and positive definite. # (N, N), (N,)"""
    for j in range(len(b)):
        for i in range(len(b)):
            if i != j:
                part = a[i, j] / a[j, j]
                for k in range(len(b)):
                    a[i, k] -= part * a[j, k]
                b[i] -= part * b[j]
    for j in range(len(b)):
        b[j] /= a[j, j]


@compiled
def scan_shift(
    returns: Floats, pose: Floats, eye: Floats, free_m: Floats32, most_m: float
) -> tuple[float, float, float]:
    """The shift x, y and the turn about the base at ``pose`` that lay the returns onto what an earlier scan met; zeros
    where they do not tell. Point-to-line (Chen and Medioni 1992), outliers weighted down. # (N, 2), (3,), (4,), (S,)"""
    shift, fan, lines = np.zeros(3), np.empty((2 * MATCH_SIDE + 1, 2)), np.full((len(free_m), 3), np.nan)
    for j in range(len(fan)):
        fan[j, 0], fan[j, 1] = math.cos((j - MATCH_SIDE) * eye[3]), math.sin((j - MATCH_SIDE) * eye[3])
    for rounds_left in range(MATCH_ROUNDS - 1, -1, -1):
        noise_m = MATCH_NOISE_M * 2.0**rounds_left
        # Normal equations of the distances from the lines; the unknowns are tied to zero where those do not tell.
        a, b, total = np.zeros((3, 3)), np.zeros(3), 0.0
        turned_c, turned_s = math.cos(pose[2] + shift[2]), math.sin(pose[2] + shift[2])
        for i in range(0, len(returns), MATCH_EVERY):
            arm_x = turned_c * returns[i, 0] - turned_s * returns[i, 1]
            arm_y = turned_s * returns[i, 0] + turned_c * returns[i, 1]
            x, y = pose[0] + shift[0] + arm_x - eye[0], pose[1] + shift[1] + arm_y - eye[1]
            sector = (math.atan2(y, x) - eye[2]) % math.tau / eye[3]
            if not MATCH_SIDE <= sector < len(free_m) - MATCH_SIDE:
                continue
            middle = int(sector)
            if abs(free_m[middle] - math.sqrt(x * x + y * y)) > MATCH_M:
                continue
            if np.isnan(lines[middle, 2]):  # of an earlier round, mostly
                across, along, lines[middle, 2] = line_through(free_m, middle, fan, most_m)
                bearing = eye[2] + (middle + 0.5) * eye[3]
                c, s = math.cos(bearing), math.sin(bearing)
                lines[middle, 0], lines[middle, 1] = c * across - s * along, s * across + c * along
            n_x, n_y, far = lines[middle, 0], lines[middle, 1], lines[middle, 2]
            off = n_x * x + n_y * y - far
            weight = (n_x * n_x + n_y * n_y) / (1.0 + (off / noise_m) ** 2) ** 2
            row = n_x, n_y, n_y * arm_x - n_x * arm_y
            total += weight
            for j in range(3):
                b[j] -= weight * row[j] * off
                for k in range(3):
                    a[j, k] += weight * row[j] * row[k]
        if total < MATCH_LEAST:
            return 0.0, 0.0, 0.0
        for j in range(3):
            a[j, j] += MATCH_TIE * total
        eliminate(a, b)
        for j in range(3):
            shift[j] += b[j]
    return shift[0], shift[1], shift[2]


@compiled
def thinned(points: Floats, x: float, y: float, reach: float) -> Floats:
    """Of the points within ``reach`` (along x and y) of a place, the first in each cell. # (N, 5) -> (M, 5)"""
    low_x, low_y = math.floor((x - reach) / CELL_M), math.floor((y - reach) / CELL_M)
    size = math.ceil(2.0 * reach / CELL_M) + 1
    taken, kept, count = np.zeros((size, size), np.bool_), np.empty((len(points), 5)), 0
    for i in range(len(points)):
        across, along = math.floor(points[i, 0] / CELL_M) - low_x, math.floor(points[i, 1] / CELL_M) - low_y
        if 0 <= across < size and 0 <= along < size and not taken[int(across), int(along)]:
            taken[int(across), int(along)] = True
            for j in range(5):
                kept[count, j] = points[i, j]
            count += 1
    return kept[:count]


@compiled
def slipped(x: float, y: float, before: Floats, now: Floats) -> float:
    """How far a point of the odom frame has slipped between two slips: see ``guard_memory.View``. # (3,), (3,)"""
    turn = now[2] - before[2]
    return math.hypot(now[0] - before[0] - turn * y, now[1] - before[1] + turn * x)


@compiled
def roll_out_poses(
    commands: Floats, stop_s: Floats, first: Twist, before: Floats, hold_s: float, lag: tuple[float, ...]
) -> tuple[Floats, Indices]:
    """``guard_motion.roll_out``: poses with times, and how many of each command. # (K, 2) ... -> (K, M, 4), (K,)

    ``lag``: part of a twist left after GRID_S, time until the lag has died out, side slip s, circumradius m.
    """
    keep, settle_s, slip_s, radius = lag
    begin = len(before) * GRID_S
    longest = math.ceil((begin + hold_s + stop_s.max() + settle_s) / GRID_S)
    poses = np.empty((len(commands), max(len(before) + 1, longest) + 1, 4))
    counts = np.empty(len(commands), np.intp)
    for k in range(len(commands)):
        end = max(len(before) + 1, math.ceil((begin + hold_s + stop_s[k] + settle_s) / GRID_S))
        speed, turn = first
        x, y, yaw, travelled, cell = 0.0, 0.0, 0.0, 0.0, 0.0
        poses[k, 0] = 0.0
        count, moves = 1, abs(speed) + radius * abs(turn) > REST_MPS
        for i in range(end):
            part = 1.0
            if i >= len(before):
                part = min(max(1.0 - ((i + 0.5) * GRID_S - begin - hold_s) / max(stop_s[k], 1e-9), 0.0), 1.0)
            wanted_speed = before[i, 0] if i < len(before) else commands[k, 0] * part
            wanted_turn = before[i, 1] if i < len(before) else commands[k, 1] * part
            corner = abs(speed) + radius * abs(turn)  # speed of the fastest corner, at most
            new_speed = wanted_speed + keep * (speed - wanted_speed)
            new_turn = wanted_turn + keep * (turn - wanted_turn)
            way, turned = 0.5 * (new_speed + speed) * GRID_S, 0.5 * (new_turn + turn) * GRID_S
            middle = yaw + 0.5 * turned - slip_s / GRID_S * turned
            x, y, yaw = x + way * math.cos(middle), y + way * math.sin(middle), yaw + turned
            speed, turn = new_speed, new_turn
            travelled += corner * GRID_S
            moved, moves = moves, abs(speed) + radius * abs(turn) > REST_MPS
            due = math.ceil(travelled / SPACING_M) != cell or i == end - 1
            if (moves and due) or (moved and not moves):  # the pose at rest always counts
                cell = math.ceil(travelled / SPACING_M)
                poses[k, count, 0], poses[k, count, 1], poses[k, count, 2] = x, y, yaw
                poses[k, count, 3] = (i + 1) * GRID_S
                count += 1
        counts[k] = count
    return poses, counts


@compiled
def stood_at(
    now_ns: int, stamp_ns: int, pose: Floats, here: Floats, stamps_ns: Indices, moved: Floats, poses: Floats,
    unseen_mps: float, dark_mps: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    """``guard_memory.Known.stood``, and by how much the last of the dated has shrunk: the disc where there is one.

    ``here``, ``moved``: drift and slip, of the newest scan and of what is kept. # (4,), (G, 4) -> (F + 1, 5), (2,)
    """
    stood, shrunk = np.empty((len(poses) + 1, 5)), np.zeros(2)
    for i in range(len(stamps_ns) + 1):
        age_s = max(now_ns - (stamp_ns if i == 0 else stamps_ns[i - 1]), 0) / NS
        off = 0.0
        if i > 0:
            off = here[0] - moved[i - 1, 0] + slipped(pose[0], pose[1], moved[i - 1, 1:], here[1:])
        shrunk[0], shrunk[1] = off + unseen_mps * age_s, off + dark_mps * age_s
        if i <= len(poses):
            stood[i, :3] = pose if i == 0 else poses[i - 1]
            stood[i, 3:] = shrunk
    return stood, shrunk


@compiled
def swept_seen_free(
    poses: Floats, base: Floats, boundary: Floats, planes: Floats,
    eye: Floats, free_m: Floats32, beams: int, stood: Floats, eyes: Floats, frames_free_m: Floats32, disc: Floats,
) -> bool:  # fmt: skip
    """``guard_memory.seen_free``, with the parts of ``Known``."""
    cb, sb = math.cos(base[2]), math.sin(base[2])
    stood_c, stood_s = np.cos(stood[:, 2]), np.sin(stood[:, 2])
    for m in range(len(poses)):
        c, s = math.cos(poses[m, 2]), math.sin(poses[m, 2])
        for q in range(len(boundary)):
            x = poses[m, 0] + c * boundary[q, 0] - s * boundary[q, 1]
            y = poses[m, 1] + s * boundary[q, 0] + c * boundary[q, 1]
            if clearance_at(x, y, planes) <= BODY_M:  # the body is there now
                continue
            x, y = base[0] + cb * x - sb * y, base[1] + sb * x + cb * y
            gap = beyond(x, y, eye, free_m)
            if gap > -GRAZE_M:
                continue
            dark = 1 if gap == -math.inf and sector_of(x, y, eye) < beams else 0
            free = math.hypot(x - disc[0], y - disc[1]) < disc[2 + dark]
            for f in range(len(stood)):
                if not free:
                    there = seen_from(x, y, stood[f], stood_c[f], stood_s[f])
                    free = clearance_at(there[0], there[1], planes) < BODY_M - stood[f, 3 + dark]
            for f in range(len(eyes)):
                if not free and stood[f + 1, 3 + dark] > stood[f + 1, 3]:
                    free = saw_around(x, y, stood[f + 1, 4], eyes[f], frames_free_m[f])
                elif not free:
                    free = beyond(x, y, eyes[f], frames_free_m[f]) > stood[f + 1, 3] - GRAZE_M
            if not free:
                return False
    return True


@compiled
def near_discs(
    poses: Floats, counts: Indices, keeps: Floats, growth: float, age: float, reach: float, base: Floats,
    returns: Floats, view_pose: Floats, eye: Floats, free_m: Floats32, remembered: Floats, slip: Floats,
) -> Floats:  # fmt: skip
    """The discs to which one of the commands may not keep its distance: within ``reach`` and that of the box around all
    poses. ``remembered``: x, y, their slip. # (R, 5), (3,) -> (N, 3): x, y, radius in the base frame"""
    low_x, high_x, low_y, high_y, last = np.inf, -np.inf, np.inf, -np.inf, 0.0
    for k in range(len(counts)):
        for m in range(counts[k]):
            x, y = poses[k, m, 0], poses[k, m, 1]
            low_x, high_x, low_y, high_y = min(low_x, x), max(high_x, x), min(low_y, y), max(high_y, y)
            last = max(last, poses[k, m, 3])
    reach += keeps.max() + growth * max(last + age, 0.0) + SLIP_M
    low_x, high_x, low_y, high_y = low_x - reach, high_x + reach, low_y - reach, high_y + reach
    found, count = np.empty((len(returns) + len(remembered), 3)), 0
    c, s = math.cos(view_pose[2]), math.sin(view_pose[2])
    base_c, base_s = math.cos(base[2]), math.sin(base[2])
    for i in range(len(returns) + len(remembered)):
        if i < len(returns):
            u, v = returns[i, 0], returns[i, 1]
            u, v = view_pose[0] + c * u - s * v, view_pose[1] + s * u + c * v
        else:
            u, v = remembered[i - len(returns), 0], remembered[i - len(returns), 1]
        x, y = seen_from(u, v, base, base_c, base_s)
        moved = 0.0 if i < len(returns) else slipped(u, v, remembered[i - len(returns), 2:], slip)
        if not (low_x - moved < x < high_x + moved and low_y - moved < y < high_y + moved):
            continue
        if i >= len(returns) and beyond(u, v, eye, free_m) > -np.inf:  # the newest scan looks there
            continue
        found[count, 0], found[count, 1], found[count, 2] = x, y, 0.0 if i < len(returns) else SLIP_M + moved
        count += 1
    return found[:count]


@compiled
def nearest_disc(
    poses: Floats, count: int, discs: Floats, planes: Floats, keep: float, growth: float, age: float
) -> tuple[float, float]:
    """Of one command: least clearance, and least clearance less what is to be kept. # (M, 4), (N, 3), (P, 3)"""
    least, short = np.inf, np.inf
    for m in range(count):
        grown = keep + growth * max(poses[m, 3] + age, 0.0)
        c, s = math.cos(poses[m, 2]), math.sin(poses[m, 2])
        for n in range(len(discs)):
            x, y = seen_from(discs[n, 0], discs[n, 1], poses[m], c, s)
            clearance = clearance_at(x, y, planes) - discs[n, 2]
            least, short = min(least, clearance), min(short, clearance - grown)
    if len(discs) == 0:
        least = keep + growth * max(poses[count - 1, 3] + age, 0.0)
    return least, short


@compiled
def keep_clear(
    poses: Floats, counts: Indices, keeps: Floats, growth: float, age: float, slowness: Floats, stop: Floats,
    discs: Floats, planes: Floats, radius: float,
) -> Mask:  # fmt: skip
    """Which commands come to no disc nearer than they may. # -> (K,)

    That is ``keeps`` and ``growth`` with time; or as near as the stop comes # (Q, 4), where as much of the distance is
    left as the command's speed asks for (``slowness``, 0 for the slowest). # (K,) Where nothing is left, no nearer than
    now; and where it lies inside the outline already, only away from it: along it a base that is pushed or slides
    aside would touch.
    """
    stop_c, stop_s = np.cos(stop[:, 2]), np.sin(stop[:, 2])
    floors = np.full(len(discs), np.nan)  # how near the stop comes, found when it is needed
    clear = np.ones(len(counts), np.bool_)
    for k in range(len(counts)):
        for m in range(counts[k]):
            moved = growth * max(poses[k, m, 3] + age, 0.0)
            keep = keeps[k] + moved
            c, s = math.cos(poses[k, m, 2]), math.sin(poses[k, m, 2])
            for n in range(len(discs)):
                dx, dy, reach = discs[n, 0] - poses[k, m, 0], discs[n, 1] - poses[k, m, 1], radius + discs[n, 2] + keep
                if dx * dx + dy * dy > reach * reach:
                    continue
                x, y = seen_from(discs[n, 0], discs[n, 1], poses[k, m], c, s)
                clearance = clearance_at(x, y, planes) - discs[n, 2]
                if clearance >= keep:
                    continue
                if np.isnan(floors[n]):
                    floors[n] = np.inf
                    for i in range(len(stop)):
                        x, y = seen_from(discs[n, 0], discs[n, 1], stop[i], stop_c[i], stop_s[i])
                        floors[n] = min(floors[n], clearance_at(x, y, planes) - discs[n, 2] - TIE_M)
                # What moves may have come so far: at rest before it is there.
                floor = max(floors[n], moved) if growth > 0.0 else floors[n]
                if clearance < moved:  # nothing is left: no nearer than now, even if the stop still comes nearer
                    now = clearance_at(discs[n, 0], discs[n, 1], planes)
                    way = math.hypot(poses[k, m, 0], poses[k, m, 1]) if now < -INSIDE_M else 0.0
                    floor = max(floor, now - discs[n, 2] - TIE_M + AWAY * way)
                if clearance < floor or (slowness[k] > 0.0 and clearance - moved < slowness[k] * keeps[k]):
                    clear[k] = False
                    break
            if not clear[k]:
                break
    return clear
