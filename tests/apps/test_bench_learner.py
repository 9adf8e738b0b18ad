"""`dsac-robot bench learner`: its arithmetic, and a short real run of everything but the peers."""

import json
from pathlib import Path

import pytest

from dsac_robot.apps import bench_learner
from dsac_robot.apps.bench_learner import interquartile_mean, mflop, sigma_figures, speed_figures
from dsac_robot.apps.cli import main


def test_operations_of_an_update_are_those_of_its_matrix_products() -> None:
    # A pass of one network and 256 samples is about 70 MFLOP. Targets 3 passes; critics 2 forward, 4 back without the
    # first layer's input; every second time 6 for the actor: 3 of its own, 2 forward and 1 back through the critics.
    assert mflop(2) == pytest.approx(12.0 * 70.0, rel=0.02)
    assert mflop(1) / mflop(2) == pytest.approx(15.0 / 12.0, rel=0.01)
    assert mflop(1, back=4) / mflop(1) == pytest.approx(18.0 / 15.0, rel=0.01)
    assert mflop(2, back=2) / mflop(2) == pytest.approx(12.5 / 12.0, rel=0.01)


def test_ratios_are_medians_over_rounds_and_are_held_against_their_targets() -> None:
    rates = [
        {"fp32": 100.0, "bf16": 200.0, "plain": 80.0, "fp32_every": 80.0, "sb3": 50.0, "sbx": 80.0},
        {"fp32": 90.0, "bf16": 200.0, "plain": 80.0, "fp32_every": 80.0, "sb3": 30.0, "sbx": 80.0},
        {"fp32": 110.0, "bf16": 150.0, "plain": 80.0, "fp32_every": 80.0, "sb3": 100.0, "sbx": 80.0},
    ]
    more = {"sgemm": 50.0, "bf16gemm": 400.0, "sb3_gelu": 40.0, "sbx_gelu": 50.0}
    rates = [turn | more for turn in rates]
    figures = {figure.name: figure for figure in speed_figures(rates, amx=True)}
    assert figures["fp32_over_sb3"].value == 2.0 and figures["fp32_over_sb3"].ok is True
    assert figures["fp32_over_sbx"].value == 1.25 and figures["fp32_over_sbx"].ok is False
    assert figures["bf16_over_sbx"].value == 2.5 and figures["bf16_over_sbx"].ok is True
    assert figures["fp32_over_sbx_same_activation"].value == 2.0
    assert figures["fp32_over_sbx_per_flop"].value == pytest.approx(1.25 * 12.0 / 12.5, rel=0.01)
    assert figures["sgemm_gflop_per_s"].value == pytest.approx(107.4, abs=0.1)
    assert figures["fp32_of_sgemm_limit"].value == pytest.approx(100.0 * mflop(2) / 1e3 / 107.374, rel=1e-3)
    without = {figure.name: figure for figure in speed_figures(rates, amx=False)}
    assert without["bf16_over_sbx"].ok is None  # promised only where the CPU has AMX


@pytest.mark.slow
def test_a_short_run_measures_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "learner.json"
    assert main(["bench", "learner", "--rounds", "1", "--updates", "2", "--json", str(path)]) == 0
    told = json.loads(path.read_text(encoding="utf-8"))
    figures = {row["name"]: row for row in told["figures"]}
    assert figures["fp32_of_sgemm_limit"]["target"] == 0.6 and 0.0 < figures["fp32_of_sgemm_limit"]["value"] < 2.0
    assert figures["fp32_updates_per_s"]["value"] > 1.0 and "sb3_updates_per_s" not in figures
    assert told["cpu"] and len(told["rounds"]) == 1
    assert "fp32_updates_per_s" in capsys.readouterr().out


def test_the_calibration_of_sigma_is_a_figure_for_each_noise() -> None:
    figures, more = sigma_figures(40)
    assert [f.name for f in figures[:2]] == ["sigma_over_s_0.1", "sigma_error_s_0.1"] and len(figures) == 8
    assert figures[0].ok is None and figures[1].target == 0.02 and figures[1].ok is False  # after 40 updates
    assert more["averaged_over"] == 10


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert interquartile_mean([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, -50.0]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 3) / 2.5)


def test_a_process_that_dies_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    import sys

    with (
        bench_learner.contestants({"gone": [sys.executable, "-c", "raise SystemExit('out of luck')"]}) as running,
        pytest.raises((RuntimeError, BrokenPipeError)),
    ):
        running["gone"].process.wait()
        running["gone"].take_turn(1)
    assert "out of luck" in capfd.readouterr().err


def test_bad_counts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "learner", "--rounds", "0"]) == 2
    assert "--rounds 0 must be at least 1" in capsys.readouterr().err
