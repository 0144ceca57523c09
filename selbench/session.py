"""One command's work from a study to its leaderboard."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError

from selbench.bring import NetworkSpec, bring, sized
from selbench.corrupted.reading import CorruptedSet, official_folder
from selbench.datasets import Dataset, limited, load_dataset
from selbench.device import choose_device, versions
from selbench.dry_run import DryRun, dry_run
from selbench.engine import Engine, Local, data_of, helper_of, plan
from selbench.errors import SelbenchError
from selbench.leaderboard import Leaderboard, leaderboard
from selbench.progress import Progress
from selbench.store import Failure, StudyStore, check_format, condition_id
from selbench.study import (
    MAX_SEED,
    SOURCES,
    CorruptionSpec,
    MechanismSpec,
    Study,
    check_alphas,
    load_study,
)
from selbench.subjects import Network
from selbench.suites import ALL, Attack, Condition, Only, Setting, Work, collect, levels_of
from selbench.suites.calibration import held_out
from selbench.training import training_key

OF_CORRUPTIONS = ("corruptions", "representation", "recalibration")  # how their suites begin


@dataclass(frozen=True)
class Ran:
    """What a run came to.

    Attributes:
        board: the leaderboard; None where all that was asked for failed.
        failures: of the cells that were asked for, those that failed.
        earlier: how many of these failed in an earlier run, and were not tried again.
    """

    board: Leaderboard | None
    failures: Sequence[Failure] = ()
    earlier: int = 0


@dataclass(frozen=True)
class Session:
    """A study with its data in memory, on a device; `engine` says which machines do the work."""

    study: Study
    dataset: Dataset
    device: torch.device
    progress: Progress
    engine: Engine = field(default_factory=Local)

    @classmethod
    def open(
        cls,
        study: Study | str,
        alphas: Sequence[str] | None,
        seeds: Sequence[str] | None,
        device: str,
        data: Path | None,
        progress: Progress,
        source: str | None = None,
        scale: int | None = None,
        mechanism: Mapping[str, str | None] = MappingProxyType({}),
        engine: Engine | None = None,
    ) -> "Session":
        """Read a study and load its data; what is given takes the place of what the study says.

        `study` is one, or the name of a shipped one, or the path of a file; without an `engine`
        this machine does the work.

        Raises:
            SelbenchError: for an unknown study, a bad list of alphas or seeds, an absent device, a
                scale that has no constants, or data that cannot be used.
        """
        study = load_study(study) if isinstance(study, str) else study
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
        dataset = load_dataset(spec, progress)
        return cls(sized(study, dataset), dataset, chosen_device, progress, engine or Local())

    def train(self) -> list[Network]:
        """Train the study's networks, or find them trained."""
        study = self.study
        pairs = [(alpha, seed) for seed in study.seeds for alpha in study.alphas]
        return self.engine.train(study, self.dataset, pairs, self.device, self.progress)

    def run(
        self,
        root: Path,
        suites: tuple[str, ...],
        limit: int | None,
        brought: Sequence[Network],
        command: Sequence[str],
        only: Only = ALL,
        save: int = 0,
        retry_failed: bool = False,
    ) -> Ran:
        """Train or take the networks, evaluate what the store lacks, and derive the leaderboard.

        Args:
            root: the store.
            suites: names; none for the study's.
            limit: number of test images; None for all.
            brought: networks to evaluate instead of training, as `bring` returns them; none to
                train.
            command: the words of the command line, for the manifest.
            only: the corruptions and attacks to take of those in the suites.
            save: keep the adversarials of so many images.
            retry_failed: try again what failed before.
        """
        test, limit = self.dataset.test, self._limit(limit)
        pieces = collect(suites or self.study.suites, self.setting(only))
        made = {
            "command": list(command),
            "device": self.engine.describe(self.device),
            "versions": versions(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        store = StudyStore(root, self.study.name, made)
        store.prepare()
        began = time.perf_counter()
        subjects = list(brought) or self.train()
        before = set() if retry_failed else store.failed()
        evaluated = self.engine.evaluate(
            subjects,
            pieces,
            self.dataset,
            store,
            self.device,
            limit=limit,
            save=save,
            retry_failed=retry_failed,
            progress=self.progress,
        )
        seconds = round(time.perf_counter() - began, 3)
        facts = made | {"seconds": seconds, "evaluated": evaluated}
        if evaluated or self._outdated(subjects, pieces, store):
            with store.locks.holding("finish"):  # of two runs that end at once, the later sees all
                store.finish(self._state(subjects, pieces, store) | facts)
        left = plan(subjects, pieces, limited(test, limit), limit, store) if store.failed() else []
        keys = [cell.key for group in left for task in group for cell in task.cells]
        failures = store.failures(keys)
        extra = any(piece.suite == "corruptions-extra" for piece in pieces)
        shown = {piece.name for piece in pieces if isinstance(piece, Condition)}
        earlier = sum(each.cell.key in before for each in failures)
        columns = [name for name in only.corruptions if name in shown]
        nothing = Ran(None, failures, earlier)
        if failures and store.measurements().empty:
            return nothing
        try:
            return Ran(leaderboard(store, limit, extra, columns), failures, earlier)
        except SelbenchError:
            if not failures:
                raise
            return nothing

    def dry_run(
        self,
        root: Path,
        suites: tuple[str, ...],
        limit: int | None,
        brought: Sequence[Network],
        only: Only = ALL,
        save: int = 0,
    ) -> DryRun:
        """Return what `run` would do with these arguments, and about how long that takes."""
        check_format(root)
        pieces = collect(suites or self.study.suites, self.setting(only))
        store, limit = StudyStore(root, self.study.name), self._limit(limit)
        study, dataset, engine, device = self.study, self.dataset, self.engine, self.device
        return dry_run(study, dataset, brought, pieces, store, engine, device, limit, save)

    def _limit(self, limit: int | None) -> int | None:
        """Return None where a limit leaves nothing out."""
        return None if limit is None or limit >= len(self.dataset.test) else limit

    def setting(self, only: Only = ALL) -> Setting:
        """Return what suites are made for, and what is to be taken of them."""
        height, width = self.dataset.test.images.shape[-2:]
        mechanism, validation = self.study.mechanism, held_out(self.study, self.dataset)
        source, scale = self.study.corruptions.source, self.study.corruptions.scale
        if source == "generated":
            return Setting(height, width, scale, only, None, mechanism, validation)
        if self.study.dataset.classes is not None:
            raise SelbenchError(
                f"corrupted images of {source} are of all classes; leave out dataset.classes, or "
                "--source"
            )
        official = source == "official"
        folder = official_folder(self.dataset.name) if official else Path(source)
        stored = CorruptedSet(folder, self.dataset.classes, self.dataset.test, strict=official)
        return Setting(height, width, None, only, stored, mechanism, validation)

    def _outdated(
        self, subjects: Sequence[Network], pieces: Sequence[Work], store: StudyStore
    ) -> bool:
        """Say whether the manifest lacks what there is."""
        if not store.finished:
            return True
        kept = store.manifest()
        return kept != kept | self._state(subjects, pieces, store) | store.state

    def _state(
        self, subjects: Sequence[Network], pieces: Sequence[Work], store: StudyStore
    ) -> dict[str, Any]:
        """Return what tables read of the manifest: this run's, and what still holds of before."""
        training = training_key(self.study, self.dataset)
        before = store.manifest() if store.finished else {"subjects": {}, "conditions": {}}
        kept = {n: f for n, f in before["subjects"].items() if f.get("training") in (training, "")}
        made = {
            condition_id(p.suite, p.name, level): [p.source, p.version, data_of(p)]
            for p in pieces
            for level in levels_of(p)
        }
        transfers = any(isinstance(piece, Attack) and piece.transfer for piece in pieces)
        networks = {
            each.name: {
                "weights": each.weights,
                "training": each.training,
                "diverged": each.diverged,
                "helper": (
                    getattr(helper_of(each, subjects), "weights", "")
                    if transfers
                    else _earlier_helper(before["subjects"].get(each.name, {}), each)
                ),
                **({"about": each.about} if each.about else {}),
                **({"curves": list(each.curves)} if each.curves else {}),
            }
            for each in subjects
        }
        study = self.study.model_dump(mode="json")
        if before.get("study") and not any(p.suite.startswith(OF_CORRUPTIONS) for p in pieces):
            study["corruptions"] = before["study"]["corruptions"]
        return {
            "study": study,
            "data": self.dataset.test.checksum,
            "training": training,
            "conditions": self._comparable(before, pieces) | made,
            "subjects": kept | networks,
        }

    def _comparable(self, before: dict[str, Any], pieces: Sequence[Work]) -> dict[str, Any]:
        """Return the earlier run's conditions that can stand beside those of `pieces`.

        Neither an attack's other levels, which its curve has no longer, nor corrupted images that
        came from elsewhere.
        """
        again = tuple(
            condition_id(p.suite, p.name, None) + "/" for p in pieces if isinstance(p, Attack)
        )
        conditions = {
            n: facts for n, facts in before["conditions"].items() if not n.startswith(again)
        }
        study = before.get("study")
        others = not study or study["corruptions"] != self.study.corruptions.model_dump(mode="json")
        if others and any(piece.suite.startswith(OF_CORRUPTIONS) for piece in pieces):
            return {n: facts for n, facts in conditions.items() if not n.startswith(OF_CORRUPTIONS)}
        return conditions

    def bring(self, each: NetworkSpec) -> Network:
        """Take a user's network; `SelbenchError` where it does not fit."""
        return bring(each, self.study.model, self.dataset)


def _earlier_helper(known: Mapping[str, Any], subject: Network) -> str:
    """Return the weights that transferred adversarials of these weights came from, if any did."""
    return str(known.get("helper", "")) if known.get("weights") == subject.weights else ""


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
