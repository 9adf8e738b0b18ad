"""Bags that were never closed, cut and damaged."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from dsac_robot.core.values import Command
from dsac_robot.data.mcap_writer import BagTopic, BagWriteError, BagWriter, OfferedQos
from dsac_robot.data.recover import mcap_files, recover

TWIST = "geometry_msgs/msg/TwistStamped"

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from dsac_robot.data.mcap_writer import BagTopic, BagWriter
writer = BagWriter(Path(sys.argv[1]), split_bytes=200_000)
writer.add_topic(BagTopic("/text", "std_msgs/msg/String"))
size, number = 4000, 0
while True:
    text = str(number).ljust(size)
    writer.write("/text", b"\\0\\1\\0\\0" + (size + 1).to_bytes(4, "little") + text.encode() + b"\\0", number)
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def bag(tmp_path: Path, serialize: Callable[..., tuple[str, bytes]]) -> Path:
    """A closed bag of 2000 commands with one speed each."""
    with BagWriter(tmp_path / "bag", context={"bundle": {"digest": "abc"}}) as writer:
        writer.add_topic(BagTopic("/cmd_vel", TWIST, (OfferedQos(depth=7),)))
        for i in range(2000):
            writer.write("/cmd_vel", serialize(Command(i, float(i), 0.0))[1], i)
    return tmp_path / "bag"


def log_times(path: Path) -> list[int]:
    with AnyReader([path]) as reader:
        return [time for _, time, _ in reader.messages()]


def test_a_recording_killed_at_once_loses_at_most_64_kib(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "bag")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        written = -1
        while written < 150:
            written = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        written = max([written, *(int(line) for line in child.stdout.read().split(b"\n")[:-1])])
    assert not (tmp_path / "bag" / "metadata.yaml").exists()
    report = recover(tmp_path / "bag", tmp_path / "whole")
    times = log_times(tmp_path / "whole")
    assert times == list(range(len(times))) and report.messages == len(times) and report.files >= 3
    assert (written + 1 - len(times)) * 4000 <= 64 * 1024


def test_a_whole_bag_comes_back_with_its_qos_and_context(bag: Path, tmp_path: Path) -> None:
    (bag / "metadata.yaml").unlink()
    report = recover(bag, tmp_path / "whole")
    assert (report.messages, report.bytes_lost, report.damage) == (2000, 0, ())
    with AnyReader([tmp_path / "whole"]) as reader:
        (connection,) = reader.connections
        assert connection.ext.offered_qos_profiles[0].depth == 7
    assert b"digest" in mcap_files(tmp_path / "whole")[0].read_bytes()


def test_a_damaged_chunk_is_stepped_over_and_reported(bag: Path, tmp_path: Path) -> None:
    (file,) = mcap_files(bag)
    content = bytearray(file.read_bytes())
    content[1000] ^= 4  # in the first chunk, which also holds the channel
    file.write_bytes(content)
    report = recover(bag, tmp_path / "whole")
    assert len(report.damage) == 1 and "crc" in report.damage[0] and 0 < report.bytes_lost <= 64 * 1024
    times = log_times(tmp_path / "whole")
    assert times == list(range(2000 - len(times), 2000)) and len(times) > 1000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fraction=st.floats(0.0, 1.0))
def test_a_file_cut_anywhere_gives_a_prefix_that_opens(
    bag: Path, tmp_path_factory: pytest.TempPathFactory, fraction: float
) -> None:
    (file,) = mcap_files(bag)
    folder = tmp_path_factory.mktemp("cut")
    cut = folder / "cut_0.mcap"
    content = file.read_bytes()
    cut.write_bytes(content[: int(fraction * len(content))])
    report = recover(cut, folder / "whole")
    with AnyReader([folder / "whole"]) as reader:
        times = [time for _, time, _ in reader.messages()] if report.messages else []
    assert times == list(range(report.messages))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 255)), max_size=8))
def test_changed_bytes_never_break_the_recovery(
    bag: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    (file,) = mcap_files(bag)
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(file.read_bytes())
    for where, byte in changes:
        content[int(where * len(content))] = byte
    (folder / "x.mcap").write_bytes(content)
    report = recover(folder / "x.mcap", folder / "whole")
    assert 0 <= report.messages <= 2000


def test_recovery_refuses_what_is_no_bag(tmp_path: Path, bag: Path) -> None:
    with pytest.raises(BagWriteError, match=r"no \.mcap"):
        recover(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(BagWriteError, match="exists already"):
        recover(bag, bag)
