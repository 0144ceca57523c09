"""How often the check fails for equal models, and finds a drop: small runs of the simulation."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selbench.regression import simulation
from selbench.regression.baseline import write_baseline
from selbench.regression.simulation import World, drawn_failures, failures

SMALL = World(spread=0.006, networks=(3, 3), examples=2000, conditions=10)


def test_the_simulated_drop_and_spread_are_what_they_are_called():
    rng = np.random.default_rng(0)
    difficulty = simulation._difficulty(SMALL, rng)

    def means(drop):
        made = simulation._model(SMALL, 150, difficulty, drop, rng)
        return np.mean([bits.mean(1) for name, bits in made.items() if "made" in name], axis=0)

    equal, worse = means(0.0), means(0.03)
    assert equal.mean() - worse.mean() == pytest.approx(0.03, abs=0.002)
    assert equal.std(ddof=1) == pytest.approx(0.0063, rel=0.15)


@pytest.mark.parametrize(
    ("shared", "specific", "same", "others"),
    [(0.0, 0.0, 1.0, 1.0), (1.2, 0.5, 2.44 / 2.69, 1 / 2.69), (0.0, 1.0, 0.5, 0.5)],
)
def test_conditions_move_together_as_the_world_says(shared, specific, same, others):
    world = replace(SMALL, shared=shared, specific=specific)
    rng = np.random.default_rng(0)
    moved = np.array([simulation._moved(world, rng)[1:, 0] for _ in range(4000)])
    found = np.corrcoef(moved.T)
    blocks = np.kron(np.eye(2), np.ones((5, 5))) - np.eye(10)  # severities of one corruption
    assert found[blocks == 1] == pytest.approx(same, abs=0.06)
    assert found[:5, 5:] == pytest.approx(others, abs=0.06)


# At a rate of 5 %, more than 4 of 25, or 7 of 60, would be seen in 1 % of cases.
@pytest.mark.parametrize(
    ("runs", "most"), [(25, 4), pytest.param(60, 7, marks=pytest.mark.soak)], ids=["few", "many"]
)
@pytest.mark.parametrize(
    ("networks", "spread"), [((3, 3), 0.006), ((3, 1), 0.03), ((3, 3), 0.03), ((5, 3), 0.03)]
)
@pytest.mark.sample("runs")
def test_equal_models_with_other_seeds_fail_in_at_most_5_percent(networks, spread, runs, most):
    world = replace(SMALL, networks=networks, spread=spread)
    assert failures(world, runs) <= most / runs


@pytest.mark.parametrize("runs", [15, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.parametrize("own", [*simulation.TOGETHER.values(), (3.0, 0.0)])
@pytest.mark.sample
def test_equal_models_fail_as_seldom_however_conditions_move_together(own, runs):
    world = replace(SMALL, spread=0.01, shared=own[0], specific=own[1], conditions=25)
    assert failures(world, runs) <= max(0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5, 3 / runs)


@pytest.mark.soak
@pytest.mark.parametrize(("networks", "off"), [((1, 3), -8.0), ((3, 1), 8.0), ((1, 5), -8.0)])
def test_outliers_among_seeds_fail_in_at_most_5_percent(networks, off):
    world = World(0.015, networks, examples=500, conditions=2, specific=0, outliers=0.1, off=off)
    assert failures(world, 1000) <= 0.05


@pytest.mark.parametrize("runs", [15, pytest.param(40, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("networks", "spread"), [((3, 3), 0.006), ((5, 5), 0.01)])
@pytest.mark.sample
def test_a_drop_of_three_points_is_found_in_90_percent(networks, spread, runs):
    world = World(spread, networks, drop=0.03, conditions=10)
    assert failures(world, runs) >= 0.9


def test_recorded_networks_are_drawn_from():
    rng = np.random.default_rng(0)
    accuracy = 0.8 + 0.005 * rng.normal(size=(12, 1))
    recorded = {f"corruptions/c/{n}": rng.random((12, 1000)) < accuracy for n in range(6)}
    assert drawn_failures(recorded, (3, 3), 0.0, 20) <= 0.15
    assert drawn_failures(recorded, (3, 3), 0.05, 10) >= 0.9


@pytest.mark.soak
def test_the_command_prints_a_table(monkeypatch, capsys, made):
    monkeypatch.setattr(simulation, "RUNS", 2)
    monkeypatch.setattr(simulation, "NETWORKS", ((2, 2),))
    monkeypatch.setattr(simulation, "SPREADS", (0.01,))
    write_baseline(made({"corruptions/fog/1": np.eye(5, 20) == 0}), Path("seeds.json"))
    simulation.main()
    simulation.main("seeds.json")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[2].startswith("| 2, 2 | 1.0 | ")
    assert lines[5].startswith("| all | 1.0 | ")
    assert lines[10].startswith("| 2, 2 | 0.0 | 0.0 % | ")


def test_rows_of_more_networks_than_there_are_are_left_out(monkeypatch, capsys, made):
    monkeypatch.setattr(simulation, "RUNS", 2)
    write_baseline(made({"clean/clean": np.eye(7, 20) == 0}), Path("seven.json"))
    simulation.main("seven.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1, 1", "| 1, 3", "| 3, 1", "| 3, 3"]


@pytest.mark.parametrize("name", ["one.json", "none.json"])
@pytest.mark.sample
def test_a_bad_file_is_one_sentence_and_exit_code_2(made, name):
    write_baseline(made({"corruptions/fog/1": np.eye(1, 20) == 0}), Path("one.json"))
    command = [sys.executable, "-m", "selbench.regression.simulation", name]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("selbench: ")
    assert ended.stderr.count("\n") == 1
