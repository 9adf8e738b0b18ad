"""``dsac-robot compare`` on run folders that short real trainings made, and its statistics on numbers done by hand."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.compare_data import read_groups, tabulate
from dsac_robot.apps.compare_stats import curve_band, iqm, probability_of_improvement, statistics
from dsac_robot.apps.run_curves import read_curves, read_run
from dsac_robot.core.params import ParameterError

TINY = [
    *("--updates", "30", "--set", "trainer.environments=2", "--set", "trainer.warmup_steps=20"),
    *("--set", "trainer.eval_updates=10", "--set", "trainer.eval_episodes=2", "--set", "learner.hidden=[8]"),
    *("--set", "trainer.batch=8"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups ``low`` and ``high`` by gamma: seeds 0 and 1 of one task, seed 0 of another."""
    folder = tmp_path_factory.mktemp("runs")
    for group, gamma in (("low", "0.5"), ("high", "0.9")):
        for task, seed in (("Reach", 0), ("Reach", 1), ("ReachTen", 0)):
            out = folder / group / f"{task}_{seed}"
            name = f"gym:tests.tiny_env:{task}-v0"
            assert (
                main(["train", name, "--out", str(out), "--seed", str(seed), *TINY, "--set", f"learner.gamma={gamma}"])
                == 0
            )
    return folder


def one_task(runs: Path, group: str) -> list[str]:
    return [f"{group}{seed}={runs / group / f'Reach_{seed}'}" for seed in (0, 1)]


def figures(path: Path) -> dict[str, dict[str, float]]:
    return {row["name"]: row for row in json.loads(path.read_text())["figures"]}


def test_one_task_gives_scores_from_eval_csv_pictures_and_figures(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "figures.json"
    arguments = [*one_task(runs, "low"), "--last", "0.5", "--out", str(tmp_path), "--json", str(found), "--reps", "200"]
    assert main(["compare", *arguments]) == 0
    for seed in (0, 1):
        with open(runs / f"low/Reach_{seed}/eval.csv", encoding="utf-8") as stream:
            returns = [float(row["return"]) for row in csv.DictReader(stream) if int(row["updates"]) >= 15]
        assert len(returns) == 2
        assert figures(found)[f"iqm_low{seed}"]["value"] == pytest.approx(np.mean(returns))
    for name in ("curves", "aggregates", "profiles", "improvement"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    better = figures(found)["probability_of_improvement_low0_over_low1"]["value"]
    scores = json.loads(found.read_text())["scores"]
    assert better == (1.0 if scores["low0"][0][0] > scores["low1"][0][0] else 0.0)
    printed = capsys.readouterr().out
    assert "gym:tests.tiny_env:Reach-v0, to updates 30" in printed and "low0 has 1 seeds" in printed


def test_several_tasks_are_divided_by_a_reference_and_held_against_a_target(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "figures.json"
    common = [str(runs / "high"), str(runs / "low"), "--reference", "low", "--out", str(tmp_path), "--reps", "200"]
    assert main(["compare", *common, "--json", str(found), "--ratio-min", "1e-6", "--strict"]) == 0
    content = json.loads(found.read_text())
    raw, scaled = (np.array(content[key]["high"]) for key in ("scores", "scores_normalised"))
    np.testing.assert_allclose(scaled, raw / np.mean(content["scores"]["low"], axis=0))
    np.testing.assert_allclose(np.mean(content["scores_normalised"]["low"], axis=0), [1.0, 1.0])
    assert raw.shape == (1, 2) and content["seeds"]["high"] == [[0], [0]]
    assert any("seeds 1 of gym:tests.tiny_env:Reach-v0 are left out" in note for note in content["notes"])
    ratio = figures(found)["iqm_ratio_high_over_low"]["value"]
    assert ratio == pytest.approx(figures(found)["iqm_high"]["value"] / figures(found)["iqm_low"]["value"])
    low = figures(found)["iqm_ratio_high_over_low_low"]
    assert low["target"] == 1e-6 and low["ok"] is True
    assert main(["compare", *common, "--ratio-min", "1e6", "--strict"]) == 1
    assert "left out" in capsys.readouterr().out


def test_the_reference_is_the_denominator_wherever_it_stands(runs: Path, tmp_path: Path) -> None:
    values = []
    for number, order in enumerate((("high", "low"), ("low", "high"))):
        found = tmp_path / f"{number}.json"
        paths = [str(runs / name) for name in order]
        arguments = ["--reference", "low", "--reps", "200", "--out", str(tmp_path), "--json", str(found)]
        assert main(["compare", *paths, *arguments]) == 0
        values.append(figures(found)["iqm_ratio_high_over_low"]["value"])
    assert values[0] == pytest.approx(values[1])


def test_runs_are_grouped_by_what_differs_in_their_recipes(runs: Path) -> None:
    groups = read_groups([str(runs)], by_recipe=True)
    assert sorted(group.name for group in groups) == ["gamma=0.5", "gamma=0.9"]
    assert all([run.seed for run in group.runs["gym:tests.tiny_env:Reach-v0"]] == [0, 1] for group in groups)


def test_curves_pass_through_the_evaluations(runs: Path) -> None:
    groups = read_groups([f"low={runs / 'low/Reach_0'}"], by_recipe=False)
    table = tabulate(groups, "return", "steps", 0.1)
    own = read_run(runs / "low/Reach_0").evaluation
    assert table.x[0, 0] == 0.0 and table.x[0, -1] == own.columns["steps"][-1]
    curve = table.curves["low"][0, 0]
    assert curve[0] == own.columns["return"][0] and curve[-1] == own.columns["return"][-1]
    assert curve.min() >= own.columns["return"].min() and curve.max() <= own.columns["return"].max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["low", "high"], r"2 tasks .* different units: give --reference NAME \(low or high\)"),
        (["low/Reach_0", "--metric", "joy"], r"no values of metric 'joy'; it has: return, .*train/return"),
        (["low/Reach_0", "--reference", "best"], "--reference best: no such group; there are Reach_0"),
        (["low/Reach_0", "high/Reach_0"], "two groups are named Reach_0: give names"),
        (["low/Reach_0", "high/ReachTen_0"], "only runs of the same tasks can be compared"),
        (["none"], "none is no folder"),
        (["low/Reach_0/actors"], "holds no run of"),
        (["low/Reach_0", "--last", "0"], r"--last 0\.0 is outside \(0, 1\]"),
        (["low/Reach_0", "--ratio-min", "0.9"], "give --reference NAME"),
        (["low/Reach_0", "--metric", "cost", "--reference", "Reach_0"], None),
        (["low/Reach_0", "--metric", "collisions", "--reference", "Reach_0"], "mean on .* is 0; .* only above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    runs: Path, tmp_path: Path, arguments: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    paths = [str(runs / text) if "/" in text or text in ("low", "high", "none") else text for text in arguments]
    result = main(["compare", *paths, "--out", str(tmp_path), "--reps", "100"])
    error = capsys.readouterr().err
    assert result == (0 if said is None else 2)
    assert said is None or re.search(said, error), error


def test_one_seed_twice_in_a_group_is_refused_because_it_is_not_independent(runs: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(runs / "low/Reach_0", tmp_path / "group" / name)
    with pytest.raises(ParameterError, match=r"seed 0 of .* is there twice: .*first and .*second"):
        read_groups([str(tmp_path / "group")], by_recipe=False)


def test_updates_done_twice_after_a_crash_count_once_and_time_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    rows = ["updates,elapsed_s,return", "10,1,5", "20,2,6", "30,3,7", "20,1,16", "30,2,", "40,3,18"]
    path.write_text("\n".join(rows) + "\n50,4")  # the last line was cut by a kill
    curves = read_curves(path)
    assert curves.columns["updates"].tolist() == [10, 20, 30, 40]
    assert curves.columns["elapsed_s"].tolist() == [1, 4, 5, 6]
    x, y = curves.xy("updates", "return")
    assert x.tolist() == [10, 20, 40] and y.tolist() == [5, 16, 18]


def test_aggregates_and_probability_of_improvement_are_those_of_a_hand_calculation() -> None:
    from rliable import metrics

    first = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [100.0, 40.0]])
    second = np.array([[0.0, 15.0], [2.0, 25.0]])
    found = statistics({"first": first, "second": second}, lower_is_better=False, reps=300)
    # eight numbers 1 2 3 10 20 30 40 100: the middle four
    assert found.aggregates["first"]["iqm"].value == pytest.approx((3 + 10 + 20 + 30) / 4)
    assert found.aggregates["first"]["median"].value == 15.0
    assert found.aggregates["second"]["mean"].value == pytest.approx(10.5)
    # task 1: 1 beats 0, loses to 2; 2 beats 0, ties; 3 and 100 beat both. Task 2: 10 loses both, 20 beats one, ...
    expected = 0.5 * ((1 + 1.5 + 2 + 2) / 8 + (0 + 1 + 2 + 2) / 8)
    assert found.improvement["first", "second"].value == pytest.approx(expected)
    assert found.aggregates["first"]["iqm"].value == pytest.approx(metrics.aggregate_iqm(first))
    assert iqm(first[:3].ravel()) == pytest.approx(metrics.aggregate_iqm(first[:3]))  # six numbers: one cut at each end
    assert probability_of_improvement(first, second) == pytest.approx(metrics.probability_of_improvement(first, second))
    assert not found.ratio  # a score of 0: no ratio
    shares = found.profiles["second"].value
    assert shares[0] == 1.0 and shares[-1] == 0.0 and (np.diff(shares) <= 0).all()


def test_where_lower_is_better_the_group_with_less_cost_wins() -> None:
    scores = {"cheap": np.array([[1.0], [2.0]]), "dear": np.array([[3.0], [4.0]])}
    assert statistics(scores, lower_is_better=True, reps=100).improvement["cheap", "dear"].value == 1.0
    assert statistics(scores, lower_is_better=False, reps=100).improvement["cheap", "dear"].value == 0.0


def test_intervals_repeat_shrink_with_seeds_and_leave_numpys_generator_alone() -> None:
    draws = np.random.default_rng(0)
    few, many = draws.normal(10.0, 1.0, (4, 2)), draws.normal(10.0, 1.0, (40, 2))
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    one = statistics({"few": few, "many": many}, False, reps=400)
    assert np.random.random() == expected  # noqa: NPY002
    assert one.aggregates == statistics({"few": few, "many": many}, False, reps=400).aggregates
    width = {name: found["iqm"].high - found["iqm"].low for name, found in one.aggregates.items()}
    assert width["many"] < 0.7 * width["few"]
    assert one.aggregates["many"]["iqm"].low < 10.0 < one.aggregates["many"]["iqm"].high


def test_a_curves_band_is_the_iqm_of_the_runs_and_starts_where_every_run_has_a_value() -> None:
    curves = np.array([[[np.nan, 1.0, 1.0]], [[2.0, 2.0, 4.0]], [[3.0, 3.0, 4.0]], [[9.0, 90.0, 5.0]]])  # (S, T, P)
    band = curve_band(curves)
    assert np.isnan(band.value[0])
    assert band.value[1:].tolist() == [2.5, 4.0]
    assert (band.low[1:] <= band.value[1:]).all() and (band.high[1:] >= band.value[1:]).all()
