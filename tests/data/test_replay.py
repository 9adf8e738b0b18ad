"""The order of a replay, and what the bag and dataset commands answer to bad input. No ROS."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from dsac_robot.apps import bag_cmd, dataset_cmd
from dsac_robot.core.values import NS, Command, Odom
from dsac_robot.data.bag_reader import BagError
from dsac_robot.data.replay import CLOCK_PERIOD_NS, ClockTick, RawMessage, raw_messages, schedule

Written = Callable[..., Path]
ROWS = [
    ("odom", Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.0, 0.0), NS),
    ("cmd_vel", Command(NS, 0.0, 0.0), NS + 1),
    ("odom", Odom.from_yaw(NS + 35_000_000, 0.0, 0.0, 0.0, 0.0, 0.0), NS + 35_000_000),
]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers(required=True)
    bag_cmd.register(subparsers)
    dataset_cmd.register(subparsers)
    args = parser.parse_args(words)
    return int(args.run(args))


def test_the_clock_is_told_before_each_message_and_every_ten_milliseconds() -> None:
    messages = [RawMessage("odom", "t", NS + after, b"") for after in (0, 25_000_000, 25_000_000, 31_000_000)]
    told = -1
    published = []
    for item in schedule(messages):
        if isinstance(item, ClockTick):
            assert told < item.log_time_ns <= max(told + CLOCK_PERIOD_NS, NS)
            told = item.log_time_ns
        else:
            assert item.log_time_ns == told
            published.append(item)
    assert published == messages


def test_only_the_topics_asked_for_are_read(bag_of: Written) -> None:
    bag = bag_of(ROWS, namespace="/r1")
    found = list(raw_messages(bag, ["odom", "scan"], "r1"))
    assert [(m.topic, m.type, m.log_time_ns) for m in found] == [
        ("odom", "nav_msgs/msg/Odometry", NS),
        ("odom", "nav_msgs/msg/Odometry", NS + 35_000_000),
    ]
    with pytest.raises(BagError, match=r"none of /scan"):
        list(raw_messages(bag, ["scan"]))


def test_info_lists_topics_and_recover_makes_a_readable_bag(
    bag_of: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = bag_of(ROWS)
    assert run("bag", "info", str(bag)) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert ["/odom", "2", "nav_msgs/msg/Odometry"] in listed
    (bag / "metadata.yaml").unlink()
    assert run("bag", "info", str(bag)) == 2
    assert "dsac-robot bag recover" in capsys.readouterr().err
    assert run("bag", "recover", str(bag)) == 0
    assert "3 messages" in capsys.readouterr().out
    assert run("bag", "info", str(tmp_path / "bag_recovered")) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bag", "info", "nothing_here"], "does not exist"),
        (["bag", "recover", "nothing_here"], "no .mcap file"),
        (["dataset", "build", "nothing_here", "--robot", "jackal", "--out", "new"], "does not exist"),
        (["dataset", "build", "nothing_here", "--robot", "no_robot", "--out", "new"], "unknown robot 'no_robot'"),
        (["dataset", "show", "nothing_here"], "no data set"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_reason(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1", "1.5", "nan"])
def test_a_replay_faster_than_real_time_is_refused(
    bag_of: Written, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bag", "replay", str(bag_of(ROWS)), "--rate", rate) == 2
    assert "outside (0, 1]" in capsys.readouterr().err
