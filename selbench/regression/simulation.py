"""Simulate how often the check fails for equal models, and how often it finds a drop.

`python -m selbench.regression.simulation` prints the table of docs/regression.md; with the path of
a baseline of many networks it draws from these networks instead.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from selbench._kit.errors import SelbenchError
from selbench.regression.baseline import read_baseline
from selbench.regression.comparison import CLEAN, Correct, compare

NETWORKS = ((1, 1), (1, 3), (3, 1), (3, 3), (5, 3), (5, 5))
SPREADS = (0.003, 0.006, 0.01)
RUNS = 300
LUCK = 0.5  # standard deviation of an example's difficulty between networks
SEVERITIES = 5  # conditions of one corruption
TOGETHER = {"all": (0.0, 0.0), "by corruption": (1.2, 0.5), "each alone": (0.0, 3.0)}
Difficulty = Float64[np.ndarray, "_conditions _examples"]


@dataclass(frozen=True)
class World:
    """The setting of a simulation.

    Attributes:
        spread: standard deviation between seeds of what the accuracies under all conditions have in
            common, which is nearly that of their mean.
        networks: the number of networks in the baseline, and in the check.
        drop: true loss of mean accuracy over conditions.
        examples, conditions: their numbers.
        shared: additional standard deviation of each corruption, whose severities have it in
            common, in units of `spread`.
        specific: additional standard deviation of each condition, in units of `spread`.
        outliers: the share of seeds that are outliers, in all conditions.
        off: how many spreads outliers are lower (if negative, higher).
    """

    spread: float
    networks: tuple[int, int]
    drop: float = 0.0
    examples: int = 2000
    conditions: int = 75
    shared: float = 0.0
    specific: float = 1.0
    outliers: float = 0.0
    off: float = 8.0


def failures(world: World, runs: int, seed: int = 0) -> float:
    """Return the share of `runs` in which the check fails."""
    generator = np.random.default_rng(seed)
    return sum(_fails(world, generator) for _ in range(runs)) / runs


def _fails(world: World, generator: np.random.Generator) -> bool:
    difficulty = _difficulty(world, generator)
    before = _model(world, world.networks[0], difficulty, 0.0, generator)
    after = _model(world, world.networks[1], difficulty, world.drop, generator)
    return bool(compare(before, after).worse)


def _difficulty(world: World, generator: np.random.Generator) -> Difficulty:
    """Return the difficulty of examples, in standard deviations, similar in all conditions."""
    example = generator.normal(size=(1, world.examples))
    interaction = generator.normal(size=(world.conditions + 1, world.examples))
    level = np.linspace(-1.2, 0.4, world.conditions + 1)[:, None]  # accuracy 88 to 34 %
    difficulty: Difficulty = level + 0.8 * example + 0.6 * interaction
    return difficulty


def _model(
    world: World,
    networks: int,
    difficulty: Difficulty,
    drop: float,
    generator: np.random.Generator,
) -> dict[str, Correct]:
    """Draw networks that are wrong on hard examples, with independent luck."""
    rows = [_network(world, difficulty, drop, generator) for _ in range(networks)]
    table = np.stack(rows, axis=1)
    names = [CLEAN, *(f"corruptions/made/{number}" for number in range(world.conditions))]
    return dict(zip(names, table, strict=True))


def _network(
    world: World, difficulty: Difficulty, drop: float, generator: np.random.Generator
) -> Bool[np.ndarray, "_conditions _examples"]:
    density = np.exp(-((difficulty / LUCK) ** 2) / 2) / (LUCK * np.sqrt(2 * np.pi))
    loss = (_moved(world, generator) * world.spread + drop) / density.mean()
    luck = generator.normal(size=difficulty.shape, scale=LUCK)
    right: Bool[np.ndarray, "_conditions _examples"] = difficulty + loss + luck < 0
    return right


def _moved(world: World, generator: np.random.Generator) -> Float64[np.ndarray, "_conditions 1"]:
    """Return a network's loss on clean images and under each condition, in units of `spread`."""
    own = generator.normal(size=(1 + world.conditions, 1)) * world.specific
    common = generator.normal()
    if world.outliers:
        common += world.off * (generator.random() < world.outliers)
    if world.shared:  # the first is that of clean images
        shared = generator.normal(scale=world.shared, size=1 + -(-world.conditions // SEVERITIES))
        own[:, 0] += shared[[0, *(1 + np.arange(world.conditions) // SEVERITIES)]]
    moved: Float64[np.ndarray, "_conditions 1"] = common + own
    return moved


def drawn_failures(
    recorded: Mapping[str, Correct],
    networks: tuple[int, int],
    drop: float,
    runs: int,
    seed: int = 0,
) -> float:
    """Return the share of `runs` in which the check fails for networks drawn from recorded ones.

    Two models of equal networks are drawn without replacement. Right answers of the second are made
    wrong at random, so that accuracy falls by `drop`, if it is that high.
    """
    generator = np.random.default_rng(seed)
    count = len(next(iter(recorded.values())))
    failed = 0
    for _ in range(runs):
        order = generator.permutation(count)
        first, then = np.split(order[: sum(networks)], [networks[0]])
        before = {name: table[first] for name, table in recorded.items()}
        after = {name: _worse(table[then], drop, generator) for name, table in recorded.items()}
        failed += bool(compare(before, after).worse)
    return failed / runs


def _worse(table: Correct, drop: float, generator: np.random.Generator) -> Correct:
    lost = generator.random(table.shape) < drop / max(float(table.mean()), drop, 1e-9)
    worse: Correct = table & ~lost
    return worse


def main(path: str | None = None) -> None:
    """Print how often the check fails, as Markdown: in simulation, or for a baseline's networks.

    Args:
        path: a baseline with many networks to draw from; rows that need more are left out.

    Raises:
        SelbenchError: for a file that is no baseline, or one of a single network.
    """
    recorded = None if path is None else _recorded(Path(path))
    _print("networks then, now | spread | equal models | drop of 3 points")
    _print("--- | ---: | ---: | ---:")
    for networks in NETWORKS:
        for row in _simulated(networks) if recorded is None else _drawn(recorded, networks):
            _print(row)
    if recorded is None:
        _print_together()


def _print_together() -> None:
    """Print how much depends on how conditions move together."""
    _print("conditions move together | spread | equal models | drop of 3 points")
    _print("--- | ---: | ---: | ---:")
    for (name, (shared, specific)), spread in product(TOGETHER.items(), SPREADS):
        _print(_measured(name, World(spread, (3, 3), shared=shared, specific=specific)))


def _recorded(path: Path) -> dict[str, Correct]:
    baseline = read_baseline(path)
    least = min(map(sum, NETWORKS))
    if len(baseline.networks) < least:
        raise SelbenchError(
            f"{path} holds one network, and at least {least} are needed; make it with more by "
            "`selbench baseline --seed`"
        )
    return baseline.correct()


def _simulated(networks: tuple[int, int]) -> Iterator[str]:
    for spread in SPREADS:
        yield _measured(_named(networks), World(spread, networks))


def _measured(name: str, world: World) -> str:
    equal, found = failures(world, RUNS), failures(replace(world, drop=0.03), RUNS)
    return _row(name, world.spread, equal, found)


def _drawn(recorded: Mapping[str, Correct], networks: tuple[int, int]) -> Iterator[str]:
    """Yield a row, or nothing if there are too few networks."""
    perturbed = [table.mean(1) for name, table in recorded.items() if name != CLEAN]
    accuracies = np.mean(perturbed or [recorded[CLEAN].mean(1)], axis=0)
    if sum(networks) <= len(accuracies):
        equal, found = (drawn_failures(recorded, networks, drop, RUNS) for drop in (0.0, 0.03))
        yield _row(_named(networks), float(accuracies.std(ddof=1)), equal, found)


def _named(networks: tuple[int, int]) -> str:
    return f"{networks[0]}, {networks[1]}"


def _row(name: str, spread: float, equal: float, found: float) -> str:
    return f"{name} | {100 * spread:.1f} | {100 * equal:.1f} % | {100 * found:.1f} %"


def _print(row: str) -> None:
    sys.stdout.write(f"| {row} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except SelbenchError as problem:
        sys.stderr.write(f"selbench: {problem}\n")
        sys.exit(2)
