"""Episodes from samples: the same numbers as computed directly, and every way in which an episode ends."""

from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.history import History
from dsac_robot.core.navigate import NavigateParams, Step, cost, reward
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Contact, Goal, Odom, Sample, Scan, ns
from dsac_robot.data.bag_reader import Logged
from dsac_robot.data.cutting import Cutter
from dsac_robot.data.decode import GuardState
from dsac_robot.data.episodes import Episode, EpisodeError, EpisodeParams, recordings, scan_ticks

LAYOUT, TASK = ObservationLayout(), NavigateParams()
PERIOD_NS = ns(LAYOUT.control_period_s)
Rows = list[tuple[str, Sample | GuardState | Verdict, int]]


@pytest.fixture(scope="module")
def robot() -> Robot:
    jackal = load_robot("jackal")
    return replace(jackal, lidar=replace(jackal.lidar, beams=72, angle_increment_rad=0.0655))


def drive(seconds: float, *, start_s: float = 0.0, speed: float = 1.0, goal: Goal | None = None, seed: int = 0) -> Rows:
    """Scans at 40 Hz, odometry and commands at 50 Hz, straight ahead with random turns of the command, in log order."""
    rng = np.random.default_rng(seed)
    rows: Rows = [("goal_pose", goal or Goal(ns(start_s), 1000.0, 0.0), ns(start_s))]
    for k in range(int(seconds * 200)):
        stamp = ns(start_s) + k * 5_000_000
        if k % 4 == 0:
            x = speed * k * 0.005
            rows.append(("odom", Odom.from_yaw(stamp, x, 0.1 * x, 0.01 * k, speed, float(rng.normal())), stamp + 1000))
            sent = Command(stamp + 3, float(rng.uniform(0.5, 1.5)), float(rng.normal()))
            rows.append(("cmd_vel", sent, stamp + 1500))
        if k % 5 == 0:
            ranges = rng.uniform(0.3, 12.0, 72).astype(np.float32)
            ranges[rng.integers(72, size=5)] = [np.inf, np.nan, -np.inf, 0.0, 0.01]
            rows.append(("scan", Scan(stamp, ranges), stamp + 2000))
    return rows


def cut(rows: Rows, robot: Robot, params: EpisodeParams = EpisodeParams()) -> tuple[list[Episode], Cutter]:
    cutter = Cutter(robot, LAYOUT, TASK, params)
    logged = [Logged(*row[:1], row[2], row[1]) for row in sorted(rows, key=lambda row: row[2])]
    return [episode for part in recordings(logged) for episode in cutter.episodes(part)], cutter


def cut_one(rows: Rows, robot: Robot) -> Episode:
    (episode,), _ = cut(rows, robot)
    return episode


def with_policy(rows: Rows, every: int = 4, first: int = 8) -> Rows:
    """The rows and a policy that acts on every fourth scan."""
    scans = [value for _, value, _ in rows if isinstance(value, Scan)][first::every]
    return [
        *rows,
        *(("policy/cmd_vel", Command(s.stamp_ns, 0.5, 0.1 * i), s.stamp_ns + 1) for i, s in enumerate(scans)),
    ]


def ticks_of(episode: Episode) -> list[float]:
    return [round(stamp / NS, 6) for stamp in episode.raw.stamps_ns]


def test_observations_actions_rewards_and_costs_are_those_computed_directly(robot: Robot) -> None:
    rows = with_policy(drive(8.0))
    episode = cut_one(rows, robot)
    history = History(100.0)
    for topic, value, _ in rows:
        if topic in ("scan", "odom", "cmd_vel", "goal_pose"):
            history.add(value)
    builder = ObservationBuilder(robot, LAYOUT)
    ticks = [value.stamp_ns for topic, value, _ in rows if topic == "policy/cmd_vel"]
    assert ticks == list(episode.raw.stamps_ns[: len(ticks)]) and len(episode) >= len(ticks) - 1 > 60
    for i, (now, after) in enumerate(zip(ticks, episode.raw.stamps_ns[1:].tolist(), strict=False)):
        for name, term in builder.build(history, now).items():
            np.testing.assert_allclose(episode.observations[name][i], term, atol=1e-6, rtol=0.0)
        sent = history.newest(Command, after)
        assert tuple(episode.actions[i]) == (sent.speed_mps, sent.yaw_rate_radps)
        step = Step(
            history.newest(Odom, now),
            history.newest(Odom, after),
            history.newest(Goal, now),
            history.newest(Command, now),
            sent,
            history.newest(Scan, after),
            False,
        )
        assert episode.rewards[i] == reward(step, robot, TASK) and episode.costs[i] == cost(step, robot, TASK)
        np.testing.assert_array_equal(episode.asked[i], [0.5, 0.1 * i])


def test_without_the_policys_ticks_the_rule_gives_one_every_period(robot: Robot) -> None:
    episode = cut_one(drive(3.0), robot)
    assert np.all(np.diff(episode.raw.stamps_ns) == PERIOD_NS)
    assert np.all(np.isnan(episode.asked))
    assert (episode.outcome, episode.terminated) == ("end of bag", False)


def test_the_rule_forgives_half_a_lidar_period_of_jitter(robot: Robot) -> None:
    half_ns = ns(0.5 / robot.lidar.rate_hz)
    assert scan_ticks([0, PERIOD_NS - half_ns, PERIOD_NS], LAYOUT, robot) == [0, PERIOD_NS - half_ns]
    assert scan_ticks([0, PERIOD_NS - half_ns - 1, PERIOD_NS], LAYOUT, robot) == [0, PERIOD_NS]


def test_the_policys_last_step_gets_its_outcome(robot: Robot) -> None:
    rows = with_policy(drive(3.0))
    rows = [row for row in rows if row[0] != "policy/cmd_vel" or row[1].stamp_ns <= ns(2.0)]
    assert ticks_of(cut_one(rows, robot))[-2:] == [2.0, 2.1]


def test_a_pause_of_the_policy_splits(robot: Robot) -> None:
    rows = with_policy(drive(4.0))
    rows = [row for row in rows if row[0] != "policy/cmd_vel" or not ns(1.05) < row[1].stamp_ns < ns(1.95)]
    first, second = cut(rows, robot)[0]
    assert first.outcome == "gap between ticks"
    assert (ticks_of(first)[-1], ticks_of(second)[0]) == (1.1, 2.0)


@pytest.mark.parametrize(
    ("topic", "why"), [("scan", "gap between ticks"), ("odom", "odometry silent"), ("cmd_vel", "cmd_vel silent")]
)
def test_silence_of_a_topic_splits(robot: Robot, topic: str, why: str) -> None:
    rows = [row for row in drive(4.0) if row[0] != topic or not ns(1.5) < row[2] < ns(2.3)]
    first, second = cut(rows, robot)[0]
    assert first.outcome == why and not first.terminated
    assert first.raw.stamps_ns[-1] < ns(2.0) < ns(2.3) <= second.raw.stamps_ns[0]


def test_an_odometry_jump_splits(robot: Robot) -> None:
    rows = [
        (topic, replace(value, x_m=value.x_m + 3.0) if topic == "odom" and log_time > ns(2.0) else value, log_time)
        for topic, value, log_time in drive(4.0)
    ]
    first, second = cut(rows, robot)[0]
    assert first.outcome == "odometry jump"
    assert (ticks_of(first)[-1], ticks_of(second)[0]) == (
        1.9 if ticks_of(first)[-1] < 2.0 else 2.0,
        ticks_of(second)[0],
    )
    assert first.raw.odom[-1, 0] < 3.0 < second.raw.odom[0, 0]


def test_a_new_goal_begins_a_new_segment_and_the_same_goal_again_does_not(robot: Robot) -> None:
    rows = [*drive(4.0), ("goal_pose", Goal(ns(1.0), 1000.0, 0.0), ns(1.0))]
    assert cut_one(rows, robot).outcome == "end of bag"
    first, second = cut([*rows, ("goal_pose", Goal(ns(2.03), 500.0, 7.0), ns(2.03))], robot)[0]
    assert first.outcome == "goal changed" and not first.terminated
    assert ticks_of(first)[-1] == ticks_of(second)[0] == 2.1
    assert first.raw.goal_m[-1].tolist() == [1000.0, 0.0] and second.raw.goal_m[0].tolist() == [500.0, 7.0]
    assert first.observations["goal_in_base"][-1].tolist() != second.observations["goal_in_base"][0].tolist()


def test_reaching_the_goal_terminates_and_standing_there_starts_nothing(robot: Robot) -> None:
    episode = cut_one(drive(4.0, goal=Goal(0, 3.5, 0.35)), robot)
    assert (episode.outcome, episode.terminated) == ("success", True)
    assert episode.rewards[-1] > TASK.end_reward / 2
    _, cutter = cut(drive(4.0, speed=0.0, goal=Goal(0, 0.1, 0.0)), robot)
    assert cutter.report.episodes == 0 and cutter.report.unusable["at the goal"] > 10


def test_a_contact_terminates_and_the_next_episode_waits_until_it_is_over(robot: Robot) -> None:
    touch = [("contact", Contact(ns(at), on), ns(at)) for at, on in ((1.23, True), (2.55, False))]
    first, second = cut([*drive(4.0), *touch], robot)[0]
    assert (first.outcome, first.terminated, first.costs[-1], first.rewards[-1]) == ("contact", True, 1.0, -10.0)
    assert first.raw.contact.tolist() == [False] * len(first) + [True]
    assert ticks_of(first)[-1] == 1.3 and ticks_of(second)[0] >= 2.6


def test_an_emergency_stop_terminates(robot: Robot) -> None:
    levels = [(0.5, Level.DRIVE), (1.51, Level.EMERGENCY), (2.51, Level.DRIVE)]
    states: Rows = [
        ("safety/state", GuardState(ns(at), 0, level, Reason.OPERATOR_STOP, 0.0, 0.0), ns(at)) for at, level in levels
    ]
    verdict = ("ood/state", Verdict(ns(0.5), 0, OodLevel.CAUTION), ns(0.5))
    first, second = cut([*drive(4.0), *states, verdict], robot)[0]
    assert (first.outcome, first.terminated) == ("emergency", True)
    assert ticks_of(first)[-1] == 1.6 and ticks_of(second)[0] == 2.6
    assert first.raw.guard_level[0] == -1 and first.raw.guard_level[-1] == Level.EMERGENCY
    assert first.raw.ood_level[-1] == OodLevel.CAUTION and first.raw.ood_level[0] == -1


def test_a_clock_that_goes_back_splits(robot: Robot) -> None:
    later = [(topic, value, log_time + ns(10.0)) for topic, value, log_time in drive(2.0, seed=1)]
    first, second = cut([*drive(3.0), *later], robot)[0]
    assert ticks_of(first)[-1] == pytest.approx(2.9, abs=0.1) and ticks_of(second)[0] == pytest.approx(0.2)


def test_late_and_doubled_messages_change_nothing(robot: Robot) -> None:
    rows = drive(3.0)
    shuffled = [(topic, value, log_time + (40_000_000 if topic == "odom" else 0)) for topic, value, log_time in rows]
    one, other = cut_one(rows, robot), cut_one(shuffled + rows[10:40], robot)
    np.testing.assert_array_equal(one.rewards, other.rewards)
    np.testing.assert_array_equal(one.observations["twist"], other.observations["twist"])


def test_a_bag_without_a_goal_gives_no_episode_and_says_so(robot: Robot) -> None:
    episodes, cutter = cut([row for row in drive(2.0) if row[0] != "goal_pose"], robot)
    assert episodes == [] and cutter.report.unusable["no goal"] > 10


def test_another_robots_scans_are_refused_by_the_count_of_beams(robot: Robot) -> None:
    with pytest.raises(EpisodeError, match=r"72 beams, but lidar\.beams of robot 'jackal' is 720"):
        cut(drive(1.0), load_robot("jackal"))
