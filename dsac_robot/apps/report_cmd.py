"""``dsac-robot report BAG``: a recorded bag, or a training run, as a page with pictures."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.figures import Figure, report, write_json
from dsac_robot.apps.run_record import FILE as RUN_FILE

if TYPE_CHECKING:
    from dsac_robot.apps.report_data import Recording
    from dsac_robot.apps.report_facts import Latency, Shown
    from dsac_robot.apps.report_page import Section

BAD_INPUT = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``report``."""
    parser = subparsers.add_parser("report")
    parser.add_argument("bag", type=Path, metavar="BAG", help="bag folder, one .mcap file, or run folder of train")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/report"),
        metavar="DIR",
        help="default: out/report; a run's is in its folder",
    )
    parser.add_argument("--namespace", metavar="NS", help="the robot's namespace in the bag (default: the only one)")
    parser.add_argument("--image", type=Path, metavar="FILE.png", help="also write the overview picture there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.set_defaults(run=_run)


def make_report(bag: Path, out: Path, namespace: str | None = None) -> tuple[Recording, list[Shown]]:
    """Write report.html and its pictures below ``out``; the recording, and of each run whether it shows what it must.

    Raises BagError where the bag cannot be read.
    """
    recording, sections, _ = _write(bag, out, namespace)
    return recording, [section.shown for section in sections]


def _write(bag: Path, out: Path, namespace: str | None) -> tuple[Recording, list[Section], Latency]:
    from dsac_robot.apps.report_data import read_recording
    from dsac_robot.apps.report_facts import facts_of, latency_of, shown
    from dsac_robot.apps.report_figures import write_latency, write_overview, write_time_lines
    from dsac_robot.apps.report_page import Section, page
    from dsac_robot.apps.report_top_view import write_top_view

    recording = read_recording(bag, namespace)
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for number, run in enumerate(recording.runs, 1):
        facts = facts_of(run, recording.robot)
        stem = f"{number}_{_slug(run.title)}"
        top_view = write_top_view(run, recording.robot, out / f"{stem}_top.png")
        time_lines = write_time_lines(run, facts, out / f"{stem}_time.png")
        sections.append(Section(run, facts, shown(run, facts), top_view, time_lines))
    latency = latency_of(recording)
    picture = write_latency(latency, out / "latency.png")
    write_overview(recording, out / "overview.png")
    (out / "report.html").write_text(page(recording, sections, latency, picture), encoding="utf-8")
    return recording, sections, latency


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40]


def _run(args: argparse.Namespace) -> int:
    if (args.bag / RUN_FILE).exists():
        return _run_of_training(args)
    from dsac_robot.data.bag_reader import BagError

    try:
        recording, sections, latency = _write(args.bag, args.out, args.namespace)
    except BagError as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT
    except ImportError as error:
        print(f"dsac-robot: {error}: pip install 'dsac_robot[data,report]'", file=sys.stderr)
        return BAD_INPUT
    if args.image is not None:
        from dsac_robot.apps.report_figures import write_overview

        write_overview(recording, args.image)
    for section in sections:
        print(f"{section.run.title}: {section.shown.text}")
    write_json(args.json, report(_figures(sections, latency), runs=[_plain(section) for section in sections]))
    print(f"report  {args.out / 'report.html'}")
    return 0


def _run_of_training(args: argparse.Namespace) -> int:
    from dsac_robot.apps.run_curves import read_run
    from dsac_robot.apps.train_report import write_report

    try:
        path = write_report(args.bag)
    except ModuleNotFoundError as error:
        print(f"dsac-robot: {error}: pip install 'dsac_robot[report]'", file=sys.stderr)
        return BAD_INPUT
    run = read_run(args.bag)
    last = {name: float(values[-1]) for name, values in run.evaluation.columns.items()}
    figures = [Figure(f"eval_{name}", value) for name, value in last.items()]
    write_json(args.json, report(figures, run=dict(run.record)))
    print(f"report  {path}")
    return 0


def _figures(sections: list[Section], latency: Latency) -> list[Figure]:
    import numpy as np

    figures = [
        Figure("runs", len(sections)),
        Figure("contacts", sum(section.facts.touched for section in sections), target=0.0, at_least=False),
        Figure("clearance_min", min((s.facts.clearance_min_m for s in sections), default=float("nan")), "m"),
    ]
    for name, seconds in (("scan_to_policy", latency.received_s), ("scan_to_sent", latency.sent_s)):
        if len(seconds):
            figures += [Figure(f"{name}_p{p}", float(np.percentile(seconds, p)), "s") for p in (50, 99)]
    return figures


def _plain(section: Section) -> dict[str, Any]:
    facts, stop = section.facts, section.facts.stop
    return {
        "title": section.run.title,
        "shown": section.shown.ok,
        "text": section.shown.text,
        "outcome": facts.outcome,
        "drive_s": facts.drive_s,
        "path_m": facts.path_m,
        "clearance_min_m": facts.clearance_min_m,
        "stop_s": stop.time_s if stop else None,
        "stop_m": stop.distance_m if stop else None,
        "reasons_s": dict(facts.reasons),
    }
