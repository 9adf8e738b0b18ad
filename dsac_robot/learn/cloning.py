"""Behaviour cloning: the actor's mode regressed onto what was sent, on all episodes or on the safe ones alone.

Cloning is Pomerleau's (ALVINN, 1989); the safe-only variant is the baseline BC-Safe of Liu et al. 2023
(arXiv:2306.09303). The loss is Huber's (1964) on normalised actions, not the log-likelihood of the tanh Gaussian: what
is sent often lies on a limit (full speed), where that density has no bound, and only the mode is deployed. Beyond
``huber_delta`` the error counts by its size, so that where the drives pass an obstacle on either side the actor is
drawn to one of them rather than to the mean of both.

A cloned policy sees its own last command and may learn to repeat it (de Haan et al. 2019, arXiv:1905.11979), and it
meets states that the data lack; ``repeat_error`` is the figure to hold its error against.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats, Floats32
from dsac_robot.data.minari_store import Dataset, DatasetError, split_by_bag
from dsac_robot.learn.networks import Actor, Features

METHODS = ("bc", "bc_safe")


@dataclass(frozen=True)
class CloningConfig:
    """Settings of one run."""

    hidden: tuple[int, ...] = param((256, 256, 256), unit="", low=1, high=8192, help="widths of the hidden layers")
    learning_rate: float = param(3e-4, unit="", low=1e-7, high=1.0, help="of Adam")
    batch: int = param(256, unit="", low=1, high=65536, help="steps of one update; with fewer to learn from it refuses")
    updates: int = param(20_000, unit="updates", low=1, high=10**8, help="at most so many")
    validate_every: int = param(250, unit="updates", low=1, high=10**6, help="between looks at the held-out episodes")
    patience: int = param(10, unit="", low=1, high=10**6, help="stop after so many looks without a better one")
    huber_delta: float = param(0.1, unit="", low=1e-6, high=2.0, help="normalised error where the loss turns linear")
    validation: float = param(0.2, unit="", low=0.01, high=0.9, help="share of the episodes held out to know when")
    calibration: float = param(0.3, unit="", low=0.01, high=0.9, help="share of the rest for the monitor's thresholds")
    seed: int = param(0, unit="", low=0, high=2**31 - 1, help="of the split, the network and the batches")


@dataclass(frozen=True)
class Split:
    """Episode numbers. No bag is in two parts where there are bags enough."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    calibration: tuple[int, ...]  # empty where it would be too small


@dataclass(frozen=True)
class Examples:
    """Steps to learn from."""

    observations: Floats32  # (N, D) flat, in the order of the layout
    actions: Floats32  # (N, 2) in [-1, 1]


@dataclass(frozen=True)
class Look:
    """One row of the loss curve."""

    update: int
    train_loss: float  # mean since the last look; NaN before the first update
    validation_loss: float
    best: bool


Tell = Callable[[Look], None]


def safe_episodes(dataset: Dataset, cost_limit: float) -> tuple[int, ...]:
    """Numbers of the episodes whose total safety cost, undiscounted, is at most ``cost_limit``.

    Raises DatasetError where there is none, with the least total cost that would do.
    """
    totals = [float(episode.costs.sum()) for episode in dataset.episodes]
    safe = tuple(i for i, total in enumerate(totals) if total <= cost_limit)
    if not safe:
        raise DatasetError(
            f"{dataset.id}: none of {len(totals)} episodes has a total cost of at most {cost_limit:g}; the least is "
            f"{min(totals):g}: raise --cost-limit, or record safer drives"
        )
    return safe


def split(dataset: Dataset, chosen: Sequence[int], config: CloningConfig, calibration_min: int) -> Split:
    """Split the chosen episodes by bag, or by episode where they are of one bag.

    A part for calibration is taken only if it holds ``calibration_min`` episodes. Raises DatasetError with fewer than
    two episodes.
    """
    if len(chosen) < 2:
        raise DatasetError(
            f"{dataset.id}: {len(chosen)} episode to learn from, at least 2 are needed, one of them to validate on: "
            "record another drive, or another goal"
        )
    rest, validation = _held_out(dataset, chosen, config.validation, config.seed)
    if len(rest) * config.calibration >= calibration_min:
        train, calibration = _held_out(dataset, rest, config.calibration, config.seed + 1)
        if len(calibration) >= calibration_min:
            return Split(train, validation, calibration)
    return Split(rest, validation, ())


def _held_out(
    dataset: Dataset, chosen: Sequence[int], fraction: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    owners = tuple(dataset.bag_of_episode[i] for i in chosen)
    if len(set(owners)) > 1:
        part = replace(dataset, episodes=tuple(dataset.episodes[i] for i in chosen), bag_of_episode=owners)
        kept, held = split_by_bag(part, fraction, seed)
    else:
        order = np.random.default_rng(seed).permutation(len(chosen))
        count = min(max(1, round(fraction * len(chosen))), len(chosen) - 1)
        kept, held = tuple(sorted(order[count:])), tuple(sorted(order[:count]))
    return tuple(chosen[i] for i in kept), tuple(chosen[i] for i in held)


def observations_of(dataset: Dataset, number: int) -> Floats32:
    """The observations before each step of an episode, flat, in the order of the layout. # (T, D)

    Raises DatasetError for a term that is missing, of another shape than the layout's, or not finite.
    """
    episode, parts = dataset.episodes[number], []
    steps = len(episode)
    for spec in ObservationBuilder(dataset.robot, dataset.layout).specs:
        term = episode.observations.get(spec.name)
        if term is None or term.shape != (steps + 1, *spec.shape):
            found = "missing" if term is None else f"of shape {term.shape}"
            raise DatasetError(
                f"{dataset.id}: episode {number}: {spec.name} is {found}, not {(steps + 1, *spec.shape)} as its layout "
                "says: build the data set again"
            )
        if not np.isfinite(term[:steps]).all():
            raise DatasetError(f"{dataset.id}: episode {number}: {spec.name} is not finite: build the data set again")
        parts.append(term[:steps].reshape(steps, -1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def examples(dataset: Dataset, numbers: Sequence[int]) -> Examples:
    """All steps of some episodes. Actions are the commands sent; beyond the robot's limits they count as the limit."""
    actions = ActionMap.of(dataset.robot.limits)
    sent = np.concatenate([dataset.episodes[i].actions for i in numbers])
    if not np.isfinite(sent).all():
        raise DatasetError(f"{dataset.id}: an action is not finite: build the data set again")
    observations = np.concatenate([observations_of(dataset, i) for i in numbers])
    return Examples(observations, actions.to_action(sent).astype(np.float32))


def make_actor(robot: Robot, layout: ObservationLayout, config: CloningConfig) -> Actor:
    """A fresh actor, the same network as DSAC-T's. Its weights come from ``config.seed``."""
    specs, actions = ObservationBuilder(robot, layout).specs, ActionMap.of(robot.limits)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Actor(Features(specs, actions), 2, config.hidden)


def clone(actor: Actor, train: Examples, validation: Examples, config: CloningConfig, tell: Tell) -> list[Look]:
    """Train ``actor`` until ``updates``, or until ``patience`` looks brought no better validation loss; it is left
    with the weights of the best look. Returns the loss curve; ``tell`` hears each row of it.

    Raises DatasetError for fewer training steps than one batch, FloatingPointError for a loss that is not finite.
    """
    if len(train.actions) < config.batch:
        raise DatasetError(
            f"{len(train.actions)} steps to learn from are fewer than one batch of {config.batch}: record longer drives"
        )
    loss = nn.HuberLoss(delta=config.huber_delta)
    optimizer = torch.optim.Adam(actor.net.parameters(), config.learning_rate)
    rng = np.random.default_rng(config.seed)
    inputs, wanted = torch.from_numpy(train.observations), torch.from_numpy(train.actions)
    held = (torch.from_numpy(validation.observations), torch.from_numpy(validation.actions))
    curve: list[Look] = []
    best_state, best_loss, waited, recent = copy.deepcopy(actor.state_dict()), math.inf, 0, [math.nan]
    for update in range(config.updates + 1):
        if update:
            rows = torch.from_numpy(rng.integers(len(wanted), size=config.batch))
            error = loss(actor.mode(inputs[rows]), wanted[rows])
            optimizer.zero_grad(set_to_none=True)
            error.backward()
            optimizer.step()
            recent.append(float(error.detach()))
        if update % config.validate_every and update != config.updates:
            continue
        with torch.no_grad():
            found = float(loss(actor.mode(held[0]), held[1]))
        if not math.isfinite(found):
            raise FloatingPointError(f"the validation loss is {found} at update {update}: lower the learning rate")
        better = found < best_loss
        curve.append(Look(update, float(np.mean(recent)), found, better))
        tell(curve[-1])
        recent, waited = [], 0 if better else waited + 1
        if better:
            best_loss, best_state = found, copy.deepcopy(actor.state_dict())
        if waited >= config.patience:
            break
    actor.load_state_dict(best_state)
    return curve


def commands_of(actor: Actor, actions: ActionMap, observations: Floats32) -> Floats32:
    """What the actor's mode commands, SI. # (N, D) -> (N, 2)"""
    with torch.no_grad():
        mode: Floats = actor.mode(torch.from_numpy(observations)).double().numpy()
    return actions.to_command(mode).astype(np.float32)


def errors(commands: Floats32, data: Examples, actions: ActionMap) -> Floats:
    """Mean absolute error of commands against what was sent: speed in m/s, yaw rate in rad/s. # (N, 2) -> (2,)"""
    return np.asarray(np.abs(commands - actions.to_command(data.actions.astype(np.float64))).mean(axis=0))


def repeat_error(data: Examples, robot: Robot, layout: ObservationLayout) -> Floats | None:
    """The same error for the rule "send the last command again"; None where the layout lacks it. # (2,)"""
    start = 0
    for spec in ObservationBuilder(robot, layout).specs:
        size = math.prod(spec.shape)
        if spec.name == "last_command":
            return errors(data.observations[:, start : start + size], data, ActionMap.of(robot.limits))
        start += size
    return None
