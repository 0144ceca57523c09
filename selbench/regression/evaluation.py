"""Who is right on which example: networks under conditions and attacks, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from selbench.crew import crew, is_small
from selbench.datasets import Split, limited
from selbench.engine import data_of, prepare, run_attack, run_condition
from selbench.errors import NotFiniteError, SelbenchError
from selbench.outcomes import Columns
from selbench.progress import SILENT, Progress
from selbench.regression.baseline import repeated
from selbench.regression.comparison import Correct
from selbench.store import condition_id
from selbench.suites import Attack, Condition, Setting, Work, collect, levels_of
from selbench.suites.work import once

Facts = tuple[str, int, str]  # source, version and data of a condition


@dataclass(frozen=True)
class Model:
    """The model under test, on a whole test split.

    Attributes:
        subject: its name, such as "alpha=0".
        networks: it, trained with one seed or several.
        names, weights: of each network, and the hash of its weights.
        training: fingerprint of how it was trained, or "".
        architecture: name and options.
        study, dataset: names.
    """

    subject: str
    networks: Sequence[nn.Module]
    names: Sequence[str]
    weights: Sequence[str]
    training: str
    architecture: dict[str, Any]
    study: str
    dataset: str

    def __post_init__(self) -> None:
        """Refuse a network that is there twice: it would hide the spread between seeds."""
        twice = repeated(self.names, self.weights)
        if twice:
            raise SelbenchError(f"{twice}; name each network once")


def comparable(suites: Sequence[str], setting: Setting) -> list[Condition | Attack]:
    """Return what has an outcome per example that depends on one network alone, each piece once.

    Raises:
        SelbenchError: for a suite that has no such piece, and where no suite is named.
    """
    if not suites:
        raise SelbenchError("there is no suite to compare; name one, such as corruptions")
    pieces = [piece for name in suites for piece in _comparable(name, setting)]
    return [piece for piece in once(pieces) if isinstance(piece, Condition | Attack)]


def _comparable(suite: str, setting: Setting) -> list[Condition | Attack]:
    kept = [
        piece
        for piece in collect((suite,), setting)
        if isinstance(piece, Condition) or (isinstance(piece, Attack) and not piece.transfer)
    ]
    if not kept:
        raise SelbenchError(
            f"the suite {suite} tells of no example whether it is recognised; compare "
            "--suite corruptions, attacks or clean"
        )
    return kept


def facts_of(pieces: Sequence[Work]) -> dict[str, Facts]:
    """Return how every condition is made, by its id."""
    return {
        condition_id(piece.suite, piece.name, level): (piece.source, piece.version, data_of(piece))
        for piece in pieces
        for level in levels_of(piece)
    }


def correctness(
    model: Model,
    pieces: Sequence[Condition | Attack],
    test: Split,
    limit: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> dict[str, Correct]:
    """Return networks x examples for every condition, in the order of `pieces`.

    Args:
        model: its networks take images in [0, 1] and return logits.
        pieces: as `comparable` returns them.
        test: the whole test split.
        limit: take so many of its examples.
        device: where networks and images are put.
        progress: told of every batch.

    Raises:
        NotFiniteError: for a network whose outputs on clean images are not finite.
    """
    split = limited(test, limit).to(device)
    ready = [prepare(network, device) for network in model.networks]
    small = all(is_small(network, split.images[0, 0].numel()) for network in ready)
    found: dict[str, Correct] = {}
    with (
        progress.track("compare", len(pieces) * len(split)) as step,
        crew(small, device, step) as (run_all, safe_step),
    ):
        for piece in pieces:
            if isinstance(piece, Attack):
                columns = [run_attack(piece, [network], split)[0] for network in ready]
                safe_step(len(split), piece.name)
            else:
                own = split if piece.stored is None else limited(piece.stored.load(), limit)
                outcomes = run_condition(piece, ready, own.to(device), safe_step, run_all)
                if piece.suite == "clean":
                    _check_finite(model, outcomes)
                columns = [[each] for each in outcomes]
            found |= _named(piece, columns, len(split))
    return found


def _check_finite(model: Model, outcomes: Sequence[Columns]) -> None:
    for name, columns in zip(model.names, outcomes, strict=True):
        finite = columns["confidence"].isfinite()
        if not finite.all():
            raise NotFiniteError(
                f"{name} returns logits that are not finite for {int((~finite).sum())} of "
                f"{len(finite)} clean images; look at its weights and normalisation"
            )


def _right(columns: Columns) -> np.ndarray:
    """Return where the label is predicted; logits that are not finite predict nothing."""
    right = columns["prediction"] == columns["label"]
    return (right & columns["confidence"].isfinite()).numpy()


def _named(
    piece: Condition | Attack, columns: Sequence[Sequence[Columns]], examples: int
) -> dict[str, Correct]:
    """Return the bits of a piece's levels, by condition id; `columns` is networks x levels."""
    named = {}
    for place, level in enumerate(levels_of(piece)):
        name = condition_id(piece.suite, piece.name, level)
        rows = [_right(each[place]) for each in columns]
        if len(rows[0]) != examples:
            raise SelbenchError(
                f"{name} has {len(rows[0])} images on disk, not {examples} as the data set; take "
                "--limit, or a whole set"
            )
        named[name] = np.stack(rows)
    return named
