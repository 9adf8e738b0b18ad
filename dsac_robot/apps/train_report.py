"""``report.html`` of a training run: one file, with curves, evaluation, configuration, versions and machine."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsac_robot.apps.report_page import STYLE, image
from dsac_robot.apps.report_style import INK, MUTED, pyplot, save
from dsac_robot.apps.run_curves import Curves, TrainRun, read_run

TRAIN, EVALUATED = "#73b3e8", "#2364aa"
OUTCOMES = {"success": "#1b9e5a", "collisions": "#d7263d", "timeouts": "#f5a700"}
# Columns of progress.csv in the second picture: heading and unit
LEARNER = {
    "q": "mean of the value distribution Q",
    "sigma": "its standard deviation σ",
    "alpha": "temperature α",
    "entropy": "entropy of the policy, nat",
    "actor_loss": "loss of the actor",
    "updates_per_s": "updates a second",
}
METRIC_WORDS = {
    "return": "return",
    "length": "length, steps",
    "cost": "safety cost",
    "success": "success",
    "collisions": "collisions",
    "timeouts": "timeouts",
}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and its pictures into a run folder, finished or not; the path.

    Raises ParameterError where it is no run folder, ModuleNotFoundError where matplotlib is not installed.
    """
    run = read_run(folder)
    pictures = [(_draw_returns(run, folder / "curves.png"), "Return and outcomes over updates")]
    if len(run.progress) > 1:
        pictures.append((_draw_learner(run.progress, folder / "learner.png"), "The learner over updates"))
    path = folder / "report.html"
    path.write_text(_page(run, pictures), encoding="utf-8")
    return path


def _draw_returns(run: TrainRun, path: Path) -> Path:
    outcomes = any(run.evaluation.has(n) and run.evaluation.columns[n].any() for n in OUTCOMES) or any(
        run.progress.has(n) and run.progress.columns[n].any() for n in OUTCOMES
    )
    plt = pyplot()
    figure, axes = plt.subplots(
        1, 2 if outcomes else 1, figsize=(11.0, 3.6), layout="constrained", squeeze=False, sharex=True
    )
    left = axes[0, 0]
    if run.progress.has("return"):
        left.plot(
            *run.progress.xy("updates", "return"), color=TRAIN, lw=1.0, label="while training (last 200 episodes)"
        )
    if run.evaluation.has("return"):
        x, y = run.evaluation.xy("updates", "return")
        low, high = (run.evaluation.xy("updates", f"return_{end}")[1] for end in ("min", "max"))
        left.fill_between(x, low, high, color=EVALUATED, alpha=0.12, lw=0, label="worst to best episode")
        left.plot(x, y, color=EVALUATED, lw=1.8, marker="o", ms=3, label="evaluation, mode of the policy")
    left.set(title="return", xlabel="updates")
    if left.has_data():
        left.legend(loc="best", fontsize=8)
    if outcomes:
        right = axes[0, 1]
        for name, hue in OUTCOMES.items():
            if run.progress.has(name):
                right.plot(*run.progress.xy("updates", name), color=hue, lw=0.9, alpha=0.5)
            if run.evaluation.has(name):
                right.plot(*run.evaluation.xy("updates", name), color=hue, lw=1.8, marker="o", ms=3, label=name)
        right.set(title="share of episodes; thin: while training", xlabel="updates", ylim=(-0.02, 1.02))
        if run.evaluation.has("success"):
            right.legend(loc="best", fontsize=8)
    _plain(axes.ravel())
    return save(figure, path)


def _draw_learner(progress: Curves, path: Path) -> Path:
    names = [name for name in LEARNER if progress.has(name)]
    plt = pyplot()
    rows = -(-len(names) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(11.0, 2.4 * rows), layout="constrained", squeeze=False)
    for axis, name in zip(axes.ravel(), names, strict=False):
        axis.plot(*progress.xy("updates", name), color=INK, lw=1.1)
        axis.set(title=LEARNER[name])
        if name == "alpha":
            axis.set_yscale("log")
    for axis in axes.ravel()[len(names) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("updates")
    _plain(axes.ravel())
    return save(figure, path)


def _plain(axes: Sequence[Any]) -> None:
    for axis in axes:
        axis.grid(True, lw=0.6)
        axis.title.set(fontsize=9, color=MUTED, horizontalalignment="left", position=(0.0, 1.0))
        axis.ticklabel_format(axis="x", style="plain")


def _page(run: TrainRun, pictures: Sequence[tuple[Path, str]]) -> str:
    record = run.record
    sessions = record["sessions"]
    last = sessions[-1]
    title = f"{run.task}, seed {run.seed}"
    parts = [
        f"<b>{html.escape(str(record['status']))}</b>",
        f"{record.get('updates', 0):,} updates, {record.get('steps', 0):,} environment steps",
        f"{_duration(sum(session.get('wall_s', 0.0) for session in sessions))} of wall time",
        f"revision <code>{html.escape(last['revision'] or 'not known')}</code>",
    ]
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{", ".join(parts)}.</p>',
        f'<p class="bad">{html.escape(last["error"])}</p>' if last.get("error") else "",
        *(image(path, words) for path, words in pictures),
        _evaluations(run.evaluation),
        "<h2>Configuration</h2>",
        f'<p class="facts">Digest of the method <code>{record["recipe_digest"][:16]}</code>: equal for the seeds of '
        "one recipe.</p>",
        *(_table(name, values) for name, values in record["recipe"].items()),
        "<h2>Versions and machine</h2>",
        _table("versions", last["versions"]),
        _table("machine", last["machine"]),
        "<h2>Sessions</h2>",
        _sessions(sessions),
        f"<footer>Made from <code>run.json</code>, <code>progress.csv</code> and <code>eval.csv</code>. "
        f"To train it again: <code>{html.escape(_command(sessions[0]))}</code></footer>",
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    content = "\n".join(filter(None, body))
    begin = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>'
    return f"{begin}\n{content}\n</main></body></html>\n"


def _evaluations(evaluation: Curves) -> str:
    if not len(evaluation):
        return "<h2>Evaluation</h2><p>None was made.</p>"
    shown = {
        name: words
        for name, words in METRIC_WORDS.items()
        if name in ("return", "length") or (evaluation.has(name) and evaluation.columns[name].any())
    }
    head = "".join(f'<th class="n">{words}</th>' for words in ("updates", "steps", *shown.values()))
    rows = []
    best = int(evaluation.columns["return"].argmax())
    chosen = sorted({*range(max(len(evaluation) - 10, 0), len(evaluation)), 0, best})
    for i in chosen:
        cells = [f"{evaluation.columns[axis][i]:,.0f}" for axis in ("updates", "steps")]
        for name in shown:
            value = evaluation.columns[name][i]
            spread = f" ± {evaluation.columns['return_std'][i]:.3g}" if name == "return" else ""
            share = name in OUTCOMES
            cells.append(f"{value:.0%}" if share else f"{value:.5g}{spread}")
        cells[2] = f"<b>{cells[2]}</b>" if i == best else cells[2]
        rows.append("<tr>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>")
    return (
        '<h2>Evaluation</h2><p class="facts">Whole episodes with the mode of the policy, always from the same starts, '
        "on seeds that training does not see. The first, the last ten, and the best (bold); ± is the spread of the "
        f"episodes.</p><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _table(name: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(key)}</code></td><td>{html.escape(str(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table><thead><tr><th>{html.escape(name)}</th><th></th></tr></thead><tbody>{rows}</tbody></table>"


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{word}</th>" for word in ("started", "status", "updates", "wall time", "revision", "command"))
    rows = []
    for session in sessions:
        cells = (
            session["started"],
            session["status"],
            str(session.get("updates", "")),
            _duration(session.get("wall_s", 0.0)),
            session["revision"],
            _command(session),
        )
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _command(session: Mapping[str, Any]) -> str:
    return "dsac-robot " + " ".join(session["command"])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
