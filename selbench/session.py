"""One command's work from a study to its leaderboard."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError

from selbench.corrupted.reading import CorruptedSet, official_folder
from selbench.crew import crew, is_small
from selbench.datasets import Dataset, load_dataset
from selbench.device import choose_device, describe, deterministic, versions
from selbench.engine import data_of, evaluate, helper_of
from selbench.errors import SelbenchError
from selbench.leaderboard import Leaderboard, leaderboard
from selbench.progress import Progress
from selbench.store import StudyStore, condition_id
from selbench.study import (
    MAX_SEED,
    SOURCES,
    Channels,
    CorruptionSpec,
    MechanismSpec,
    ModelSpec,
    Study,
    check_alphas,
    load_study,
)
from selbench.subjects import Subject, brought_subject, trained_subject
from selbench.suites import Condition, Setting, Work, collect, levels_of
from selbench.training import training_key, untrained


@dataclass(frozen=True)
class Brought:
    """A user's checkpoint, and the normalisation it was trained with if not the study's."""

    checkpoint: Path
    mean: Channels | None = None
    std: Channels | None = None


@dataclass(frozen=True)
class Session:
    """A study with its data in memory, on a device."""

    study: Study
    dataset: Dataset
    device: torch.device
    progress: Progress

    @classmethod
    def open(
        cls,
        name: str,
        alphas: Sequence[str] | None,
        seeds: Sequence[str] | None,
        device: str,
        data: Path | None,
        progress: Progress,
        source: str | None = None,
        scale: int | None = None,
        mechanism: Mapping[str, str | None] = MappingProxyType({}),
    ) -> "Session":
        """Read a study and load its data; what is given takes the place of what the study says.

        Raises:
            SelbenchError: for an unknown study, a bad list of alphas or seeds, an absent device, a
                scale that has no constants, or data that cannot be used.
        """
        study = load_study(name)
        chosen_alphas = study.alphas if alphas is None else _alphas(alphas)
        chosen_seeds = study.seeds if seeds is None else _seeds(seeds)
        root = study.dataset.root if data is None else data.expanduser().absolute()
        spec = study.dataset.model_copy(update={"root": root})
        study = study.model_copy(
            update={
                "alphas": chosen_alphas,
                "seeds": chosen_seeds,
                "dataset": spec,
                "corruptions": _corruptions(study.corruptions, source, scale),
                "mechanism": _mechanism(study.mechanism, mechanism),
            }
        )
        chosen_device = choose_device(device)
        return cls(study, load_dataset(spec, progress), chosen_device, progress)

    def train(self) -> list[Subject]:
        """Train the study's networks, or find them trained."""
        study, dataset = self.study, self.dataset
        pairs = [(alpha, seed) for seed in study.seeds for alpha in study.alphas]
        small = is_small(untrained(study, dataset, 0), self._pixels)

        def subject(pair: tuple[float, int]) -> Subject:
            return trained_subject(study, dataset, *pair, self.device, safe_step)

        with (
            deterministic(self.device),
            self.progress.track("train", len(pairs) * study.recipe.epochs) as step,
            crew(small, self.device, step) as (run_all, safe_step),
        ):
            subjects: list[Subject] = run_all(subject, pairs)
        return subjects

    @property
    def _pixels(self) -> int:
        return self.dataset.test.images[0, 0].numel()

    def run(
        self,
        root: Path,
        suites: tuple[str, ...],
        limit: int | None,
        brought: Sequence[Brought],
        command: Sequence[str],
        only: tuple[str, ...] = (),
        save: int = 0,
    ) -> Leaderboard:
        """Train or take the networks, evaluate what the store lacks, and derive the leaderboard.

        Args:
            root: the store.
            suites: names; none for the study's.
            limit: number of test images; None for all.
            brought: checkpoints to evaluate instead of training; none to train.
            command: the words of the command line, for the manifest.
            only: corruptions to take of those in the suites; none for all.
            save: keep the adversarials of so many images.
        """
        test = self.dataset.test
        limit = None if limit is None or limit >= len(test) else limit
        names = suites or self.study.suites
        pieces = collect(names, self.setting(only))
        made = {
            "command": list(command),
            "device": describe(self.device),
            "versions": versions(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        store = StudyStore(root, self.study.name, made)
        store.prepare()
        began = time.perf_counter()
        subjects = [self.bring(each) for each in brought] or self.train()
        evaluated = evaluate(
            subjects,
            pieces,
            self.dataset,
            store,
            self.device,
            limit=limit,
            save=save,
            progress=self.progress,
        )
        state = self._state(subjects, pieces, store)
        if evaluated or not store.finished or store.manifest() != store.manifest() | state:
            seconds = round(time.perf_counter() - began, 3)
            store.finish(state | made | {"seconds": seconds, "evaluated": evaluated})
        extra = any(piece.suite == "corruptions-extra" for piece in pieces)
        shown = {piece.name for piece in pieces if isinstance(piece, Condition)}
        return leaderboard(store, limit, extra, [name for name in only if name in shown])

    def setting(self, only: tuple[str, ...] = ()) -> Setting:
        """Return what suites are made for; `only` names corruptions to take, () for all."""
        height, width = self.dataset.test.images.shape[-2:]
        source, scale = self.study.corruptions.source, self.study.corruptions.scale
        if source == "generated":
            return Setting(height, width, scale, only, mechanism=self.study.mechanism)
        official = source == "official"
        folder = official_folder(self.dataset.name) if official else Path(source)
        stored = CorruptedSet(folder, self.dataset.classes, self.dataset.test, strict=official)
        return Setting(height, width, None, only, stored, self.study.mechanism)

    def _state(
        self, subjects: Sequence[Subject], pieces: Sequence[Work], store: StudyStore
    ) -> dict[str, Any]:
        """Return what tables read of the manifest: this run's, and what still holds of before."""
        training = training_key(self.study, self.dataset)
        before = store.manifest() if store.finished else {"subjects": {}, "conditions": {}}
        kept = {n: f for n, f in before["subjects"].items() if f["training"] in (training, "")}
        made = {
            condition_id(p.suite, p.name, level): [p.source, p.version, data_of(p)]
            for p in pieces
            for level in levels_of(p)
        }
        networks = {
            each.name: {
                "weights": each.weights,
                "training": each.training,
                "diverged": each.diverged,
                "helper": getattr(helper_of(each, subjects), "weights", ""),
            }
            for each in subjects
        }
        return {
            "study": self.study.model_dump(mode="json"),
            "data": self.dataset.test.checksum,
            "training": training,
            "conditions": self._comparable(before) | made,
            "subjects": kept | networks,
        }

    def _comparable(self, before: dict[str, Any]) -> dict[str, Any]:
        """Return the earlier run's conditions, but corrupted images that came from elsewhere."""
        conditions: dict[str, Any] = before["conditions"]
        study = before.get("study")
        if study and study["corruptions"] == self.study.corruptions.model_dump(mode="json"):
            return conditions
        made = ("corruptions", "representation")
        return {n: facts for n, facts in conditions.items() if not n.startswith(made)}

    def bring(self, each: Brought) -> Subject:
        """Take a user's checkpoint; `SelbenchError` where it does not fit."""
        override = {
            "mean": each.mean or self.study.model.mean,
            "std": each.std or self.study.model.std,
        }
        try:
            spec = ModelSpec.model_validate(self.study.model.model_dump() | override)
        except ValidationError as problem:
            message = problem.errors()[0]["msg"].removeprefix("Value error, ")
            raise SelbenchError(f"--mean or --std of {each.checkpoint}: {message}") from problem
        return brought_subject(spec, self.dataset, each.checkpoint)


def _corruptions(spec: CorruptionSpec, source: str | None, scale: int | None) -> CorruptionSpec:
    """Return what a study says of corrupted images, with what the command line says instead."""
    if source not in (None, "", *SOURCES):
        source = str(Path(str(source)).expanduser().absolute())
    # A scale is for generated images: whoever gives one of the two means only that one.
    given: dict[str, Any] = {}
    if source is not None or scale is not None:
        given = {"source": "generated" if source is None else source, "scale": scale}
    try:
        return CorruptionSpec.model_validate(spec.model_dump() | given)
    except ValidationError as problem:
        message = problem.errors()[0]["msg"].removeprefix("Value error, ")
        option = "--source" if source == "" else f"--scale {scale}"
        raise SelbenchError(f"{option}: {message[0].lower()}{message[1:]}") from problem


def _mechanism(spec: MechanismSpec, given: Mapping[str, str | None]) -> MechanismSpec:
    """Return how a study's analyses look at networks, with what the command line says instead."""
    said = {name: value for name, value in given.items() if value is not None}
    try:
        return MechanismSpec.model_validate(spec.model_dump() | said)
    except ValidationError as problem:
        error = problem.errors()[0]
        message = error["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise SelbenchError(f"--{error['loc'][0]} {error['input']!r}: {message}") from problem


def _alphas(words: Sequence[str]) -> tuple[float, ...]:
    try:
        return check_alphas(tuple(float(word) for word in words))
    except ValueError as problem:
        reason = "" if str(problem).startswith("could not convert") else f" ({problem})"
        raise SelbenchError(
            f"--alpha takes finite numbers, each once, such as -1,0,1; got "
            f"{','.join(words)!r}{reason}"
        ) from problem


def _seeds(words: Sequence[str]) -> tuple[int, ...]:
    seeds = tuple(int(word) if word.isdecimal() else -1 for word in words)
    if min(seeds) < 0 or max(seeds) > MAX_SEED or len(set(seeds)) < len(seeds):
        raise SelbenchError(
            f"--seed takes whole numbers from 0 to {MAX_SEED}, each once, such as 0,1,2; got "
            f"{','.join(words)!r}"
        )
    return seeds
