"""Pooling a scan to sectors: the quick way gives what the rule says, bit for bit, whatever the lidar sends."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core import lidar as lidar_module
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.lidar import free_distance, nearest_m, nearest_returns, returns_of
from dsac_robot.core.observation import ObservationLayout, ScanSectors
from dsac_robot.core.robot import Lidar, load_robot
from dsac_robot.core.values import NS, Floats32, Scan

LIDAR = replace(load_robot("jackal").lidar, beams=40)
ROBOT = replace(load_robot("jackal"), lidar=LIDAR)
SECTORS = 7
LAYOUT = ObservationLayout(("scan_sectors",), sectors=SECTORS)
PERIOD_NS = round(LAYOUT.control_period_s * NS)
SPECIAL = [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf, LIDAR.range_min_m, LIDAR.range_max_m, 1e-6, 1e9]


def by_the_rule(ranges: Floats32, lidar: Lidar) -> Floats32:
    """Least free distance of the valid beams of each sector, 0 where there is none."""
    free, valid = free_distance(ranges, lidar)
    starts = np.linspace(0, lidar.beams, SECTORS, endpoint=False).astype(int)
    parts = zip(np.split(free, starts[1:]), np.split(valid, starts[1:]), strict=True)
    return np.array([part[ok].min() if ok.any() else 0.0 for part, ok in parts], np.float32)


def sectors_of(scan: Scan, lidar: Lidar) -> Floats32:
    history, out = History(), np.full((1, SECTORS), np.nan, np.float32)
    history.add(scan)
    ScanSectors(replace(ROBOT, lidar=lidar), replace(LAYOUT, frames=1))(history, scan.stamp_ns, out)
    return out[0]


def read(range_m: np.float32, lidar: Lidar) -> tuple[float, bool]:
    """REP-117 of one beam: how far it shows free space, and whether it says anything."""
    if range_m == 0.0:
        return (lidar.range_max_m, True) if lidar.zero_means == "no_return" else (0.0, False)
    if np.isnan(range_m) or -np.inf < range_m < 0.0:
        return 0.0, False
    if range_m < np.float32(lidar.range_min_m):  # -inf too: something is too near to be measured
        return 0.0, True
    return min(range_m, np.float32(lidar.range_max_m)), True


@settings(max_examples=300, deadline=None)
@given(
    ranges=st.lists(st.floats(-1.0, 12.0, width=32) | st.sampled_from(SPECIAL), min_size=40, max_size=40),
    zero_means=st.sampled_from(["invalid", "no_return"]),
    least=st.sampled_from([0.0, LIDAR.range_min_m]),
)
def test_a_beam_says_what_rep_117_says(ranges: list[float], zero_means: str, least: float) -> None:
    lidar = replace(LIDAR, zero_means=zero_means, range_min_m=least)
    values = np.array(ranges, np.float32)
    kept = values.copy()
    free, valid = free_distance(values, lidar)
    assert (free.dtype, valid.dtype) == (np.float32, np.bool_)
    assert list(zip(free, valid, strict=True)) == [read(value, lidar) for value in values]
    assert values.tobytes() == kept.tobytes() and values.flags.writeable


@settings(max_examples=300, deadline=None)
@given(
    ranges=st.lists(st.floats(0.0625, 12.0, width=32) | st.sampled_from(SPECIAL), min_size=40, max_size=40),
    zero_means=st.sampled_from(["invalid", "no_return"]),
    least=st.sampled_from([0.0, LIDAR.range_min_m]),
)
def test_sectors_are_the_least_free_distances_of_valid_beams(
    ranges: list[float], zero_means: str, least: float
) -> None:
    lidar = replace(LIDAR, zero_means=zero_means, range_min_m=least)
    values = np.array(ranges, np.float32)
    kept = values.copy()
    assert sectors_of(Scan(0, values), lidar).tobytes() == by_the_rule(values, lidar).tobytes()
    assert values.tobytes() == kept.tobytes()  # the scan is not written to


@pytest.mark.parametrize("special", SPECIAL)
def test_one_odd_beam_among_good_ones_is_judged_by_the_rule(special: float) -> None:
    values = np.linspace(1.0, 12.0, 40).astype(np.float32)
    values[13] = special
    assert sectors_of(Scan(0, values), LIDAR).tobytes() == by_the_rule(values, LIDAR).tobytes()


@pytest.mark.parametrize("beams", [0, 1, 39, 41, 720])
def test_a_scan_of_another_number_of_beams_is_refused(beams: int) -> None:
    values = np.ones(beams, np.float32)
    for refuse in (lambda: sectors_of(Scan(0, values), LIDAR), lambda: free_distance(values, LIDAR)):
        with pytest.raises(ValueError, match="beams"):
            refuse()


def test_no_loop_is_compiled_in_a_tick() -> None:
    fill = ScanSectors(ROBOT, replace(LAYOUT, frames=1))
    loops = [lidar_module.fill_sectors, lidar_module._read]
    before = [len(loop.signatures) for loop in loops]
    for number, special in enumerate((1.0, np.nan)):
        for writeable in (True, False):
            history, values = History(), np.full(40, special, np.float32)
            values.flags.writeable = writeable
            history.add(Scan(number, values))
            fill(history, number, np.empty((1, SECTORS), np.float32))
    assert [len(loop.signatures) for loop in loops] == before


@settings(max_examples=200, deadline=None)
@given(there=st.sets(st.integers(0, 19), min_size=1), ticks=st.lists(st.integers(0, 19), min_size=1, max_size=30))
def test_what_is_kept_of_a_scan_is_never_that_of_another_one(there: set[int], ticks: list[int]) -> None:
    rng = np.random.default_rng(0)
    history = History(horizon_s=10.0)
    for number in sorted(there):  # with gaps: one scan may be the newest of several ages, and some ages have none
        history.add(Scan(number * PERIOD_NS, rng.uniform(0.0, 14.0, 40).astype(np.float32)))
    fill, out = ScanSectors(ROBOT, LAYOUT), np.empty((3, SECTORS), np.float32)
    for tick in ticks:
        stamps = [(tick - age) * PERIOD_NS for age in range(3)]
        if tick - 2 < min(there):
            with pytest.raises(MissingSampleError):
                fill(history, stamps[0], out)
        else:
            fill(history, stamps[0], out)
            wanted = [by_the_rule(history.newest(Scan, stamp).ranges_m, LIDAR).tobytes() for stamp in stamps]
            assert [row.tobytes() for row in out] == wanted


@settings(max_examples=300, deadline=None)
@given(
    ranges=st.lists(st.floats(0.0625, 12.0, width=32) | st.sampled_from(SPECIAL), min_size=40, max_size=40),
    spread_m=st.sampled_from([0.3, 2.0, 20.0]),
    least_m=st.sampled_from([LIDAR.range_min_m, 0.0]),
    zero_means=st.sampled_from(["invalid", "no_return"]),
)
def test_the_nearest_returns_and_their_range_are_what_the_rule_gives(
    ranges: list[float], spread_m: float, least_m: float, zero_means: str
) -> None:
    lidar = replace(LIDAR, range_min_m=least_m, zero_means=zero_means)
    scan = Scan(1, np.array(ranges, np.float32))
    free, valid = free_distance(scan.ranges_m, lidar)
    assert nearest_m(scan, lidar) == free[valid].min(initial=np.inf)
    found = nearest_returns(scan, lidar, spread_m)
    np.testing.assert_allclose(found, returns_of(free, valid, lidar, spread_m), rtol=0.0, atol=1e-6)
