"""The report as one HTML file: pictures embedded, no link to anything outside."""

from __future__ import annotations

import ast
import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsac_robot.apps.report_data import Recording, Run
from dsac_robot.apps.report_facts import Facts, Latency, Shown
from dsac_robot.apps.report_notes import Expect
from dsac_robot.apps.report_style import COMMAND

UNTOLD = ("RATE_LIMIT", "NOT_ENABLED")  # ramps, and what comes before and after a drive: no interventions
STYLE = """
:root { --ink: #1f2933; --muted: #616e7c; --line: #e4e7eb; --soft: #f7f9fb; --good: #1b7f4b; --bad: #b4182d; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 34px 24px 70px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 46px 0 4px; padding-top: 20px; border-top: 1px solid var(--line); }
p { margin: 4px 0 12px; } .lead { color: var(--muted); margin-bottom: 20px; }
img { display: block; width: 100%; height: auto; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin: 10px 0; }
th { text-align: left; font-weight: 600; color: var(--muted); border-bottom: 2px solid var(--line);
  padding: 6px 10px 6px 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: 7px 10px 7px 0; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.run { min-width: 150px; } td a { color: inherit; text-decoration: none; border-bottom: 1px dotted var(--muted); }
.good, .bad { font-weight: 600; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); }
.say { font-size: 15px; } .facts { color: var(--muted); font-size: 13px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 14px; }
.keys { font-size: 13px; color: var(--muted); } .keys .key:first-child { margin-left: 0; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
footer { margin-top: 46px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--muted); font-size: 13px; }
@media print { h2 { break-before: page; border: 0; } }
"""


@dataclass(frozen=True)
class Section:
    """One run of the report, with its pictures."""

    run: Run
    facts: Facts
    shown: Shown
    top_view: Path
    time_lines: Path


def page(recording: Recording, sections: Sequence[Section], latency: Latency, latency_picture: Path) -> str:
    """The whole page."""
    staged = any(section.run.expect != Expect.NOTHING for section in sections)
    title = "A robot, its guard and its monitor" if staged else "Recorded drives"
    body = [
        f"<h1>{title}</h1>",
        f'<p class="lead">{_lead(recording)}</p>',
        _summary(sections),
        _keys(),
        *(_section(number, section) for number, section in enumerate(sections, 1)),
        '<h2 id="latency">From sensor to command</h2>',
        f"<p>{_latency_words(recording, latency)}</p>",
        image(latency_picture, "Histograms of latency"),
        f"<footer>{_footer(recording)}</footer>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    content = "\n".join(body)
    begin = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>'
    return f"{begin}\n{content}\n</main></body></html>\n"


def _lead(recording: Recording) -> str:
    bundle = recording.context.get("bundle", {})
    parts = [f"Robot <b>{html.escape(recording.robot.name)}</b>"]
    if bundle:
        parts.append(f"policy <b>{html.escape(bundle['message'])}</b> <code>{bundle.get('digest', '')[:12]}</code>")
    guard = next((v for k, v in recording.diagnostics.items() if "safety_guard" in k), {})
    if "profile" in guard:
        parts.append(f"guard profile <b>{html.escape(guard['profile'])}</b>")
    parts.append(f"{recording.duration_s:.0f} s and {recording.messages:,} messages recorded".replace(",", " "))
    return ", ".join(parts) + ". Everything here is made from the recording."


def _summary(sections: Sequence[Section]) -> str:
    names = (
        "run",
        "",
        "outcome",
        "time",
        "way",
        "top speed",
        "least clearance",
        "stop after event",
        "interventions",
    )
    classes = ("run", "", "", "n", "n", "n", "n", "n", "")
    head = "".join(f'<th class="{c}">{name}</th>' for name, c in zip(names, classes, strict=True))
    rows = []
    for number, section in enumerate(sections, 1):
        facts = section.facts
        mark = ""
        if section.run.expect != Expect.NOTHING:
            mark = '<span class="good">✓ shown</span>' if section.shown.ok else '<span class="bad">✗ not shown</span>'
        told = [(name, seconds) for name, seconds in facts.reasons.items() if not name.endswith(UNTOLD)]
        reasons = [
            f"{name.lower().replace('_', ' ')} {seconds:.1f}\u00a0s" for name, seconds in told if seconds >= 0.05
        ]
        cells = (
            f'<a href="#run{number}">{html.escape(section.run.title)}</a>',
            mark,
            html.escape(facts.outcome),
            f"{facts.drive_s:.1f} s",
            f"{facts.path_m:.1f} m",
            f"{facts.speed_max_mps:.1f} m/s",
            "" if math.isnan(facts.clearance_min_m) else f"{facts.clearance_min_m:.2f} m",
            _stop_words(facts),
            html.escape("; ".join(reasons[:3])) or "no",
        )
        row = "".join(f'<td class="{c}">{x}</td>' for x, c in zip(cells, classes, strict=True))
        rows.append(f"<tr>{row}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _stop_words(facts: Facts) -> str:
    stop = facts.stop
    if stop is None:
        return "–"
    if stop.time_s is None or stop.distance_m is None:
        return "no stop"
    return f"{stop.time_s:.2f} s, {stop.distance_m:.2f} m"


def _keys() -> str:
    keys = "".join(f'<span class="key" style="background:{hue}"></span>{label}' for label, hue in COMMAND.values())
    return f'<p class="keys">{keys}</p>'


def _section(number: int, section: Section) -> str:
    run, facts = section.run, section.facts
    mark = ""
    if run.expect != Expect.NOTHING:
        mark = '<span class="good">✓</span> ' if section.shown.ok else '<span class="bad">✗</span> '
    said = section.shown.text[:1].upper() + section.shown.text[1:]
    shares = [f"{COMMAND_WORDS[level.name]} {share:.0%}" for level, share in facts.in_command.items() if share >= 0.005]
    if facts.stop is not None:
        at = f"; {facts.stop.speed_mps:.2f} m/s at the event"
    else:
        at = ""
    return "\n".join(
        [
            f'<h2 id="run{number}">{html.escape(run.title)}</h2>',
            f'<p class="say">{mark}{html.escape(said)}.</p>',
            f'<p class="facts">While driving: {", ".join(shares) or "no word from the guard"}{at}.</p>',
            image(section.top_view, f"{run.title}, from above"),
            image(section.time_lines, f"{run.title}, over time"),
        ]
    )


COMMAND_WORDS = {
    "DRIVE": "full drive",
    "LIMITED": "limited",
    "FALLBACK": "fallback",
    "STOP": "controlled stop",
    "EMERGENCY": "latched stop",
}


def _latency_words(recording: Recording, latency: Latency) -> str:
    def middle(seconds: np.ndarray) -> str:
        if not len(seconds):
            return "not known"
        return f"median {1e3 * np.median(seconds):.0f} ms, p99 {1e3 * np.percentile(seconds, 99):.0f} ms"

    words = [
        f"From a scan to the policy's command: {middle(latency.received_s)}. To the first command that the guard "
        f"sends of it, after the monitor's verdict and at the guard's next period: {middle(latency.sent_s)}."
    ]
    if _simulated(recording):
        words.append("Times of reception are in simulated time, which moves in steps of 10 ms.")
    policy = next((v for k, v in recording.diagnostics.items() if k.endswith(": policy")), {})
    if "scan_to_command_p50_s" in policy:
        p50, p99 = (1e3 * float(policy[f"scan_to_command_p{p}_s"]) for p in (50, 99))
        words.append(
            f"The policy node's own steady clock, with the wait for the odometry that follows the scan: "
            f"median {p50:.1f} ms, p99 {p99:.1f} ms."
        )
    return " ".join(words)


def _simulated(recording: Recording) -> bool:
    guard = next((v for k, v in recording.context.items() if k.endswith("/safety_guard")), {})
    return bool(ast.literal_eval(guard.get("use_sim_time", "False")))


def image(path: Path, words: str) -> str:
    """A picture inside the page; ``words`` say what it shows."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(words, quote=True)}" src="data:image/png;base64,{data}">'


def _footer(recording: Recording) -> str:
    return (
        f"Made from <code>{html.escape(recording.path.name)}</code>. Clearance is from the footprint to the nearest "
        "obstacle: true in simulation, else as the lidar sees it. Times are header stamps."
    )
