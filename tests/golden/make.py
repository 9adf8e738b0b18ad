"""Make the golden bundle of a new card version, in a folder of its own: ``python -m tests.golden.make DIR``.

The old ones stay for ever: each later release must load them and give the recorded numbers.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from dsac_robot.apps import bundling
from dsac_robot.bundle.card import Recorded
from dsac_robot.bundle.deployed import load_bundle
from dsac_robot.bundle.keys import generate_key, public_of
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.robot import load_robot
from dsac_robot.learn.export import runtime_of, split_terms
from dsac_robot.learn.networks import Actor, Features

ROWS = 16


def main(folder: Path) -> None:
    """Write bundle/, release.pub and io.json with inputs and outputs."""
    torch.manual_seed(6)
    rng = np.random.default_rng(6)
    robot, layout = load_robot("jackal"), ObservationLayout()
    specs, actions = ObservationBuilder(robot, layout).specs, ActionMap.of(robot.limits)
    values = np.concatenate(
        [rng.uniform(0, 10, (400, 108)), rng.uniform(-8, 8, (400, 2)), rng.uniform(-2, 2, (400, 4))], axis=1
    ).astype(np.float32)
    commands = actions.to_command(rng.uniform(-1, 1, (400, 2))).astype(np.float32)
    actor = Actor(Features(specs, actions), 2, (16, 16))
    trained = bundling.Trained("golden", actor, robot, layout, Recorded(flags=("untuned",), seeds=(6,)))
    models = bundling.fitted_models(trained, values, commands)
    trained = bundling.with_record(trained, parity=models.parity)
    key = generate_key()
    written = write_bundle(folder / "bundle", trained.card(bundling.OPEN), models.policy, models.monitor, key)
    (folder / "release.pub").write_text(public_of(key, "golden").to_line(), encoding="utf-8")
    terms = split_terms(specs, values[:ROWS])
    policy = runtime_of(models.policy, specs, "command", (2,), with_command=False)
    monitor = runtime_of(models.monitor, specs, "scores", (2,), with_command=True)
    rows = [{name: term[i] for name, term in terms.items()} for i in range(ROWS)]
    found = [policy.run(row) for row in rows]
    scores = [monitor.run({**row, "command": command}) for row, command in zip(rows, found, strict=True)]
    content = {
        "digest": load_bundle(written, (public_of(key),)).digest,
        "inputs": [{name: value.tolist() for name, value in row.items()} for row in rows],
        "commands": [command.tolist() for command in found],
        "scores": [score.tolist() for score in scores],
    }
    (folder / "io.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
