"""A bundle that is not what was signed, or not for this robot: no node of it configures, and the message says why."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rclpy.context import Context

from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.robot import Robot
from dsac_robot.nodes.compose import BringUpError, Factory, compose
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from sim.ros_bridge import SimBridge
from tests.loop.conftest import Signer

Spoil = Callable[[Path, Robot, Signer], object]


def flip(name: str) -> Spoil:
    """One byte in the middle of a file."""

    def spoil(folder: Path, robot: Robot, signer: Signer) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 0x40
        (folder / name).write_bytes(content)

    return spoil


def remove(name: str) -> Spoil:
    return lambda folder, robot, signer: (folder / name).unlink()


def period(folder: Path, robot: Robot, signer: Signer) -> None:
    """Trained for ticks that this lidar cannot give."""
    signer.write(folder, robot, ObservationLayout(control_period_s=0.09))


def beams(folder: Path, robot: Robot, signer: Signer) -> None:
    """Trained with another lidar."""
    signer.write(folder, replace(robot, lidar=replace(robot.lidar, beams=360)))


CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a flipped byte in the policy": (flip("policy.onnx"), ("policy.onnx: altered",)),
    "a flipped byte in the monitor": (flip("monitor.onnx"), ("monitor.onnx: altered",)),
    "a flipped byte in the card": (flip("card.json"), ("card.json: altered",)),
    "a flipped byte in the manifest": (flip("MANIFEST"), ("MANIFEST", "altered")),
    "no policy": (remove("policy.onnx"), ("policy.onnx: missing",)),
    "no monitor": (remove("monitor.onnx"), ("monitor.onnx: missing",)),
    "no signature": (remove("MANIFEST.sig"), ("unsigned", "MANIFEST.sig")),
    "another control period": (period, ("layout.control_period_s", "0.09", "40.0 Hz")),
    "another number of beams": (beams, ("lidar.beams", "360", "720")),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("factory", [PolicyNode, MonitorNode], ids=["policy", "monitor"])
def test_a_node_refuses_a_bundle_that_is_wrong_and_says_what(
    context: Context, robot: Robot, signer: Signer, tmp_path: Path, factory: Factory, case: str
) -> None:
    spoil, told = CASES[case]
    folder = signer.write(tmp_path / "bundle", robot)
    spoil(folder, robot, signer)
    composition = compose([factory], parameters={"**": signer.parameters(folder)}, context=context)
    try:
        with pytest.raises(BringUpError) as refusal:
            composition.bring_up(needs_sensors=())
    finally:
        composition.close()
    for words in told:
        assert words in str(refusal.value)


def test_the_bundle_that_these_are_made_of_is_accepted(context: Context, straight_on: Path, signer: Signer) -> None:
    composition = compose([PolicyNode, MonitorNode], parameters={"**": signer.parameters(straight_on)}, context=context)
    composition.bring_up(needs_sensors=())
    assert all(node.active for node in composition.nodes.values())
    composition.close()


def test_a_refusal_names_its_node_once(context: Context) -> None:
    composition = compose([SimBridge], parameters={"sim_bridge": {"world": "nope"}}, context=context)
    try:
        with pytest.raises(BringUpError, match="unknown world 'nope'") as refused:
            composition.bring_up(needs_sensors=())
        assert str(refused.value).count("/sim_bridge") == 1
    finally:
        composition.close()
