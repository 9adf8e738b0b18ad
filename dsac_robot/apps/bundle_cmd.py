"""``dsac-robot bundle verify | show | diff | sign | build-engine | schema`` and ``dsac-robot keys new``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsac_robot.bundle.deployed import Bundle

Run = Callable[[argparse.Namespace], int]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands ``bundle`` and ``keys``; each sets ``run``, which returns the exit status."""
    bundle = subparsers.add_parser("bundle")
    actions = bundle.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check signature, hashes, card and models; with --robot the contract")
    show = actions.add_parser("show", help="print what is in a bundle")
    engine = actions.add_parser("build-engine", help="build TensorRT engines of the models on this machine's GPU")
    diff = actions.add_parser("diff", help="what differs between two bundles, contract first")
    for parser, run in ((verify, _verify), (show, _show), (engine, _build_engine)):
        parser.add_argument("dir", type=Path, metavar="BUNDLE", help="its directory, or the name of a shipped one")
        parser.set_defaults(run=_guarded(run))
    diff.add_argument("dirs", type=Path, nargs=2, metavar="BUNDLE", help="directory, or the name of a shipped one")
    diff.set_defaults(run=_guarded(_diff))
    for parser in (verify, show, engine, diff):
        parser.add_argument("--trusted", type=Path, metavar="DIR", help="trusted keys (default: config/trusted_keys)")
    for parser in (verify, engine):
        parser.add_argument("--allow-unsigned", action="store_true", help="accept it without a trusted signature")
    engine.add_argument("--out", type=Path, metavar="DIR", help="engine cache (default: ~/.cache/dsac_robot/engines)")
    actions.add_parser("schema", help="print the JSON Schema of card.json").set_defaults(run=_guarded(_schema))
    verify.add_argument("--robot", help="a robot's name or .yaml file that the bundle must fit")
    sign = actions.add_parser("sign", help="sign a bundle whose files fit its MANIFEST")
    sign.add_argument("dir", type=Path, metavar="DIR", help="the bundle's directory")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE.key", help="private key from `keys new`")
    sign.set_defaults(run=_guarded(_sign))

    keys = subparsers.add_parser("keys")
    new = keys.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser("new", help="make a key pair")
    new.add_argument("--out", type=Path, required=True, metavar="FILE.key", help="private key; FILE.pub goes beside it")
    new.add_argument("--comment", default="", help="whose key it is, written into FILE.pub")
    new.set_defaults(run=_guarded(_new_key))


def _guarded(run: Run) -> Run:
    """``run`` with bad input answered on stderr and by exit status 2."""

    def guarded(args: argparse.Namespace) -> int:
        from dsac_robot.bundle.errors import BundleError
        from dsac_robot.core.params import ParameterError

        try:
            return run(args)
        except (BundleError, ParameterError) as error:
            print(f"dsac-robot: {error}", file=sys.stderr)
            return 2

    return guarded


def _load(directory: Path, trusted: Path | None, allow_unsigned: bool) -> Bundle:
    from dsac_robot.bundle.deployed import load_bundle

    bundle = load_bundle(directory, trusted, allow_unsigned)
    if bundle.warning:
        print(f"WARNING: {directory} is NOT TRUSTED: {bundle.warning}", file=sys.stderr)
    return bundle


def _look_at(args: argparse.Namespace, directory: Path) -> Bundle:
    """The bundle to be read by a person, whoever made it; one that was altered is refused all the same."""
    return _load(directory, args.trusted, allow_unsigned=True)


def _verify(args: argparse.Namespace) -> int:
    from dsac_robot.bundle.deployed import check_contents, check_robot

    bundle = _load(args.dir, args.trusted, args.allow_unsigned)
    for report in check_contents(bundle):
        print(report)
    if args.robot:
        from dsac_robot.core.robot import load_robot

        check_robot(bundle.card, load_robot(args.robot))
        print(f"fits robot {args.robot}")
    print(f"{args.dir}: ok, {_signer(bundle)}, digest {bundle.digest}")
    return 0


def _show(args: argparse.Namespace) -> int:
    bundle = _look_at(args, args.dir)
    print("\n".join(describe(bundle)))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from dsac_robot.apps.bundle_diff import differences

    lines = differences(*(_look_at(args, directory) for directory in args.dirs))
    print("\n".join(lines) if lines else "no difference")
    return 0


def _schema(args: argparse.Namespace) -> int:
    from dsac_robot.bundle.schema import card_schema

    print(json.dumps(card_schema(), indent=1))
    return 0


def _build_engine(args: argparse.Namespace) -> int:
    from dsac_robot.bundle.deployed import model_inputs
    from dsac_robot.bundle.engine_build import build_engine, plan_engine

    bundle = _load(args.dir, args.trusted, args.allow_unsigned)
    for name, (model, inputs) in model_inputs(bundle).items():
        plan = plan_engine(model, inputs, name)
        print(f"{name}: {plan.model_sha256[:16]}, weights {', '.join(plan.weight_types)}")
        print(f"{name}: engine in {build_engine(model, plan, args.out)}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    from dsac_robot.bundle.keys import load_private_key
    from dsac_robot.bundle.manifest import sign_bundle

    public = sign_bundle(args.dir, load_private_key(args.key))
    print(f"{args.dir}: signed with key {public.fingerprint}; it is believed where its .pub file is trusted")
    return 0


def _new_key(args: argparse.Namespace) -> int:
    from dsac_robot.bundle.keys import generate_key, write_key

    public = write_key(generate_key(), args.out, args.comment)
    print(f"{args.out}: private key, keep it secret and out of git")
    print(
        f"{args.out.with_suffix('.pub')}: public key {public.fingerprint}, copy it to config/trusted_keys/ to trust it"
    )
    return 0


def describe(bundle: Bundle) -> list[str]:
    """The bundle as lines for a reader: the contract, the monitor, the record, the files."""
    card = bundle.card
    lines = [
        f"{card.name}: task {card.task}, trained for robot {card.robot}",
        f"  digest    {bundle.digest}",
        f"  signature {_signer(bundle)}",
        f"  flags     {', '.join(card.recorded.flags) or 'none'}",
        f"  size      policy.onnx {len(bundle.policy)} bytes"
        + (f", monitor.onnx {len(bundle.monitor)} bytes" if bundle.monitor is not None else ""),
        "",
        "contract (must match the robot)",
        f"  control_period_s = {card.control_period_s!r}",
    ]
    for term in card.terms:
        lines.append(f"  term {term.name}: float32 {list(term.shape)} in {term.unit}")
    for section in ("layout", "lidar", "action", "geometry"):
        values = vars(getattr(card, section))
        lines += [f"  {section}.{name} = {value!r}" for name, value in values.items() if name != "terms"]
    lines += ["", "monitor" if card.monitor else "monitor: none"]
    if card.monitor:
        for score in card.monitor.scores:
            lines.append(f"  {score.name}: caution > {score.caution_threshold!r}, alarm > {score.alarm_threshold!r}")
        lines += [f"  {name} = {value!r}" for name, value in vars(card.monitor).items() if name != "scores"]
    lines += ["", "recorded"]
    for name, value in vars(card.recorded).items():
        lines += _record(name, value)
    return lines


def _record(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"  {name}:"] + [f"    {key} = {item!r}" for key, item in value.items()] if value else []
    return [f"  {name} = {value!r}"]


def _signer(bundle: Bundle) -> str:
    key = bundle.signed_by
    return f"signed by {key.fingerprint} ({key.comment})" if key else f"NOT TRUSTED: {bundle.warning}"
