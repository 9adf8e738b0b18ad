"""Episodes as a Minari data set, with everything needed to compute rewards and costs again.

``infos`` have T + 1 entries, as Minari wants: entry t + 1 of ``cost`` and ``asked`` belongs to step t (entry 0 is 0 and
NaN); entry t of ``raw`` is what was known at tick t. Rewards and costs are those of the task (``core.navigate`` or
``core.track``) at the version recorded in the metadata, which also has the plans that were followed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dsac_robot import __version__
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.params import as_dict
from dsac_robot.core.params import build as build_params
from dsac_robot.core.robot import Robot, check_robot
from dsac_robot.core.track import TrackParams
from dsac_robot.core.values import Floats, Plan
from dsac_robot.data.bag_reader import BagReader
from dsac_robot.data.cutting import Cutter
from dsac_robot.data.delay import response_delay_s
from dsac_robot.data.episodes import Episode, EpisodeParams, EpisodeReport, Raw, recordings
from dsac_robot.data.judging import TaskParams, judge_of

MINARI_VERSION = "0.5.4"  # the format written
DATA_FOLDER = "data"
NO_PLAN = -1  # of an episode, in place of its plan's number
KEY = "dsac_robot"  # our entry in the data set's metadata
TASKS: dict[str, type[TaskParams]] = {"navigate": NavigateParams, "track": TrackParams}
Progress = Callable[[str], None]


class DatasetError(RuntimeError):
    """A data set cannot be made or read. The message names the path and what to do."""


@dataclass(frozen=True)
class BagSource:
    """One bag that a data set was made of."""

    name: str
    sha256: str
    episodes: int
    steps: int
    response_delay_s: float | None = None  # from cmd_vel to odometry, measured; None where it cannot be


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    id: str
    robot: Robot
    layout: ObservationLayout
    task: TaskParams
    reward_version: int
    bags: tuple[BagSource, ...]
    episodes: tuple[Episode, ...]
    bag_of_episode: tuple[str, ...]  # sha256 of the bag that each episode comes from

    @property
    def task_name(self) -> str:
        """The key of ``TASKS``."""
        return next(name for name, kind in TASKS.items() if isinstance(self.task, kind))

    @property
    def steps(self) -> int:
        """Steps in all episodes."""
        return sum(len(episode) for episode in self.episodes)


@dataclass
class BuildReport:
    """What became of the bags."""

    out: Path
    bags: list[BagSource] = field(default_factory=list)
    episodes: EpisodeReport = field(default_factory=EpisodeReport)
    skipped_topics: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    cost_rate: float = 0.0
    mean_return: float = 0.0

    def __str__(self) -> str:
        made = self.episodes
        lines = [
            f"{self.out}: {made.episodes} episodes, {made.steps} steps from {len(self.bags)} bag(s), "
            f"{made.ticks} ticks ({'of the policy' if made.policy_ticks else 'by the scan rule'})",
            f"mean return {self.mean_return:.3f}, cost rate {self.cost_rate:.4f}",
        ]
        lines += [
            f"  {bag.name}: odometry follows cmd_vel after {bag.response_delay_s:.2f} s"
            for bag in self.bags
            if bag.response_delay_s is not None
        ]
        lines += [f"  ended by {why}: {count}" for why, count in sorted(made.endings.items())]
        lines += [f"  ticks not used, {why}: {count}" for why, count in sorted(made.unusable.items())]
        lines += [f"  messages refused, {why}: {count}" for why, count in sorted(self.refused.items())]
        lines += [f"  topic left out: {topic}: {why}" for topic, why in sorted(self.skipped_topics.items())]
        return "\n".join(lines)


def bag_digest(path: Path) -> str:
    """SHA-256 over the storage files of a bag in order of name (metadata.yaml left out: it may be rebuilt)."""
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix in (".mcap", ".db3"))
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def build_dataset(
    bags: Sequence[Path],
    robot: Robot,
    out: Path,
    *,
    layout: ObservationLayout = ObservationLayout(),
    task: TaskParams = NavigateParams(),
    params: EpisodeParams = EpisodeParams(),
    namespace: str | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Make the data set ``out`` from bags. Bags with the same content count once.

    Raises DatasetError where ``out`` exists or no bag gave an episode, BagError for a bag that cannot be read,
    EpisodeError where a bag is of another robot.
    """
    if out.exists():
        raise DatasetError(f"{out} exists already: give another name")
    report = BuildReport(out)
    cutter = Cutter(robot, layout, task, params, report.episodes)
    made: list[tuple[str, Episode]] = []
    seen: set[str] = set()
    for bag in bags:
        tell = _Teller(bag.name, progress)
        with BagReader(
            bag, namespace, params.plan_speed_mps
        ) as reader:  # first: it says best what is wrong with a path
            digest = bag_digest(bag)
            if digest in seen:
                report.refused[f"bag {bag.name} is given twice"] = 1
                continue
            seen.add(digest)
            found: list[Episode] = []
            delay_s = None
            for part in recordings(reader.values()):
                found += cutter.episodes(part, tell.ticks)
                if delay_s is None:
                    delay_s = response_delay_s(part.sent, part.odoms)
            report.skipped_topics.update(reader.report.skipped_topics)
            for why, count in reader.report.refused.items():
                report.refused[why] = report.refused.get(why, 0) + count
        made += [(digest, episode) for episode in found]
        report.bags.append(BagSource(bag.name, digest, len(found), sum(len(e) for e in found), delay_s))
    if not made:
        reasons = "; ".join(f"{why}: {count}" for why, count in report.episodes.unusable.items())
        asked = "a plan" if isinstance(task, TrackParams) else "a goal (goal_pose or plan)"
        hint = f"a bag needs scan, odom, cmd_vel and {asked}"
        raise DatasetError(f"no episode in {', '.join(b.name for b in bags)} ({reasons or 'no ticks'}): {hint}")
    report.mean_return = float(np.mean([episode.rewards.sum() for _, episode in made]))
    report.cost_rate = float(np.mean(np.concatenate([episode.costs for _, episode in made])))
    dataset = Dataset(
        dataset_id(out.name),
        robot,
        layout,
        task,
        judge_of(task, robot, params.plan_end_m).version,
        tuple(report.bags),
        tuple(episode for _, episode in made),
        tuple(digest for digest, _ in made),
    )
    write_dataset(dataset, out)
    return report


@dataclass
class _Teller:
    name: str
    progress: Progress | None
    percent: int = -10

    def ticks(self, done: int, total: int) -> None:
        percent = 100 * done // total
        if self.progress is not None and percent >= self.percent + 10:
            self.percent = percent
            self.progress(f"{self.name}: {percent} % of {total} ticks")


def dataset_id(name: str) -> str:
    """A Minari id (name-v0) from a folder's name. ``MINARI_DATASETS_PATH=<parent> minari.load_dataset(<id>)`` works
    where the folder's name is an id already."""
    clean = re.sub(r"[^-_\w]", "_", name)
    return clean if re.search(r"-v\d+$", clean) else f"{clean}-v0"


def write_dataset(dataset: Dataset, out: Path) -> None:
    """Store ``dataset`` below ``out`` (HDF5 in Minari's layout). Raises DatasetError where ``out`` exists."""
    try:
        (out / DATA_FOLDER).mkdir(parents=True)
    except FileExistsError as error:
        raise DatasetError(f"{out} exists already: give another name") from error
    limits = dataset.robot.limits
    specs = ObservationBuilder(dataset.robot, dataset.layout).specs
    terms = {spec.name: gymnasium.spaces.Box(-np.inf, np.inf, spec.shape, np.float32) for spec in specs}
    # What was sent may exceed the limits (teleoperation of another version): the space does not promise more.
    storage = MinariStorage.new(
        (out / DATA_FOLDER).resolve(),  # minari 0.5.4 joins a relative path to itself
        observation_space=gymnasium.spaces.Dict(terms),
        action_space=gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
    )
    storage.update_episodes(_buffer(episode) for episode in dataset.episodes)
    plans = list({id(episode.plan): episode.plan for episode in dataset.episodes if episode.plan is not None}.values())
    storage.update_episode_metadata(
        {
            "outcome": episode.outcome,
            "bag_sha256": digest,
            "plan": next((k for k, plan in enumerate(plans) if plan is episode.plan), NO_PLAN),
        }
        for episode, digest in zip(dataset.episodes, dataset.bag_of_episode, strict=True)
    )
    ours = {
        "task": dataset.task_name,
        "reward_version": dataset.reward_version,
        "task_params": as_dict(dataset.task),
        "robot": as_dict(dataset.robot),
        "layout": {**asdict(dataset.layout), "terms": list(dataset.layout.terms)},
        "observation": [asdict(spec) for spec in specs],
        "action": {
            "meaning": "twist sent: speed m/s, yaw rate rad/s",
            "low": [limits.speed_mps_min, -limits.yaw_rate_radps_max],
            "high": [limits.speed_mps_max, limits.yaw_rate_radps_max],
        },
        "infos": "entry t + 1 of cost and asked belongs to step t; entry t of raw is known at tick t",
        "plans": [
            {"stamp_ns": plan.stamp_ns, "speed_mps": plan.speed_mps, "points_m": plan.points_m.tolist()}
            for plan in plans
        ],
        "bags": [asdict(bag) for bag in dataset.bags],
        "version": __version__,
    }
    storage.update_metadata(
        {
            "dataset_id": dataset.id,
            "minari_version": MINARI_VERSION,
            "description": "Drives of a wheeled robot, from rosbags; safety cost in infos['cost']",
            KEY: ours,
        }
    )


def _buffer(episode: Episode) -> EpisodeBuffer:
    steps = len(episode)
    ends = np.zeros(steps, np.bool_)
    ends[-1] = True
    none = np.zeros(steps, np.bool_)
    return EpisodeBuffer(
        observations=dict(episode.observations),
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=ends if episode.terminated else none,
        truncations=none if episode.terminated else ends,
        infos={
            "cost": np.concatenate([[0.0], episode.costs]),
            "asked": np.concatenate([[[np.nan, np.nan]], episode.asked]),
            "raw": {entry.name: getattr(episode.raw, entry.name) for entry in fields(Raw)},
        },
    )


def load_dataset(path: Path) -> Dataset:
    """The data set that ``write_dataset`` stored below ``path``. Raises DatasetError naming what is wrong with it."""
    try:
        stored = MinariDataset(path / DATA_FOLDER)
        ours = cast(dict[str, Any], stored.storage.metadata[KEY])
        robot = check_robot(build_params(Robot, ours["robot"], f"{path}: robot"), str(path))
        layout = ObservationLayout(**{**ours["layout"], "terms": tuple(ours["layout"]["terms"])})
        task = build_params(TASKS[ours["task"]], ours["task_params"], f"{path}: task_params")
        plans = [
            Plan(int(plan["stamp_ns"]), np.array(plan["points_m"], np.float64), float(plan["speed_mps"]))
            for plan in ours.get("plans", [])
        ]
        meta = list(stored.storage.get_episode_metadata(range(stored.total_episodes)))
        episodes = [
            _episode(data, str(entry["outcome"]), layout.terms, _plan_of(entry, plans))
            for data, entry in zip(stored.iterate_episodes(), meta, strict=True)
        ]
        return Dataset(
            str(stored.spec.dataset_id),
            robot,
            layout,
            task,
            int(ours["reward_version"]),
            tuple(BagSource(**bag) for bag in ours["bags"]),
            tuple(episodes),
            tuple(str(entry["bag_sha256"]) for entry in meta),
        )
    except (OSError, ValueError, KeyError, TypeError, AssertionError, json.JSONDecodeError) as error:
        raise DatasetError(
            f"{path} is no data set of this program ({error}): make one with `dsac-robot dataset build`"
        ) from error


def _plan_of(entry: Any, plans: Sequence[Plan]) -> Plan | None:
    number = int(entry.get("plan", NO_PLAN))
    return None if number == NO_PLAN else plans[number]


def _episode(data: Any, outcome: str, terms: Sequence[str], plan: Plan | None) -> Episode:
    """The terms are put back into the layout's order: HDF5 gives them by name."""
    return Episode(
        observations={name: np.asarray(data.observations[name], np.float32) for name in terms},
        actions=np.asarray(data.actions, np.float64),
        asked=np.asarray(data.infos["asked"][1:], np.float64),
        rewards=np.asarray(data.rewards, np.float64),
        costs=np.asarray(data.infos["cost"][1:], np.float64),
        terminated=bool(data.terminations[-1]),
        outcome=outcome,
        raw=Raw(**{entry.name: np.asarray(data.infos["raw"][entry.name]) for entry in fields(Raw)}),
        plan=plan,
    )


def relabel(episode: Episode, robot: Robot, task: TaskParams) -> tuple[Floats, Floats]:
    """Rewards and costs of an episode computed again from its raw signals; EpisodeError for task track where it has no
    plan. # (T,), (T,)"""
    return judge_of(task, robot, EpisodeParams().plan_end_m).label(episode.raw, episode.plan)


def split_by_bag(dataset: Dataset, fraction: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Episode numbers for training and for holding out: whole bags are held out, about ``fraction`` of the episodes.

    Raises DatasetError with fewer than two bags: steps of one bag are too alike to judge by.
    """
    bags = sorted(set(dataset.bag_of_episode))
    if len(bags) < 2:
        raise DatasetError(f"{dataset.id} has {len(bags)} bag with episodes; a split by bag needs at least 2")
    if not 0.0 < fraction < 1.0:
        raise DatasetError(f"fraction = {fraction} is outside (0, 1)")
    order = np.random.default_rng(seed).permutation(len(bags))
    wanted, held = fraction * len(dataset.episodes), set[str]()
    for index in order[:-1]:  # at least one bag stays for training
        if held and _episodes_of(dataset, held) >= wanted:
            break
        held.add(bags[index])
    numbered = list(enumerate(dataset.bag_of_episode))
    return tuple(i for i, bag in numbered if bag not in held), tuple(i for i, bag in numbered if bag in held)


def _episodes_of(dataset: Dataset, bags: Iterable[str]) -> int:
    wanted = set(bags)
    return sum(bag in wanted for bag in dataset.bag_of_episode)
