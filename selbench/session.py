"""A session: the work of one command, from a study to its leaderboard."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError

from selbench._engine import Engine, Local, plan
from selbench._engine.dry_run import DryRun, dry_run, following
from selbench._engine.ran import RunResult
from selbench._engine.record import manifest_of
from selbench._engine.stopping import Stop, Stopped, slow, stopped
from selbench._kit.device import choose_device, versions
from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint
from selbench._kit.frozen import first_problem
from selbench._kit.progress import Progress
from selbench.attacks.given import GivenAdversarials, read_adversarials
from selbench.datasets import Dataset, limited, load_dataset
from selbench.datasets.frame import frame_of
from selbench.networks.adhoc import sized
from selbench.networks.described import NetworkSpec
from selbench.networks.framing import framed
from selbench.networks.loading import bring
from selbench.networks.network import Network
from selbench.networks.probe import probed
from selbench.request import ANYTHING, Request
from selbench.sets.shifted import named_set
from selbench.store import FINISH, FORMAT, Cell, StudyStore, check_format
from selbench.store.findings import Finding, from_records
from selbench.study import (
    SOURCES,
    CorruptionSpec,
    Study,
    load_study,
    parse_alphas,
    parse_seeds,
)
from selbench.suites import Setting, Work, collect
from selbench.suites.calibration import held_out
from selbench.suites.corrupted import BAR
from selbench.suites.probability import SUITE as PROBABILITY
from selbench.tables import Leaderboard, leaderboard
from selbench.training import find


@dataclass(frozen=True)
class Session:
    """A study with its data in memory, on a device; `engine` does the work.

    `findings` are those of networks that were probed, by the hash of their weights. `rest` is the
    number of further seeds that the same command trains and evaluates later.
    """

    study: Study
    dataset: Dataset
    device: torch.device
    progress: Progress
    engine: Engine = field(default_factory=Local)
    findings: dict[str, Sequence[Finding]] = field(default_factory=dict, repr=False)
    rest: int = 0

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
        engine: Engine | None = None,
        framing: Mapping[str, Any] = MappingProxyType({}),
        networks: Sequence[NetworkSpec] = (),
    ) -> "Session":
        """Read a study and load its data; arguments replace values of the study.

        `study` is a study, the name of a shipped one, or the path of a file; without an `engine`,
        this machine does the work. `framing` has the size to which images are scaled and cropped,
        or says that the users' `networks` declare it.

        Raises:
            SelbenchError: for an unknown study, a bad list of alphas or seeds, a missing device, a
                scale without constants, or data that cannot be used.
        """
        study = load_study(study) if isinstance(study, str) else study
        chosen_alphas = study.alphas if alphas is None else parse_alphas(alphas)
        chosen_seeds = study.seeds if seeds is None else parse_seeds(seeds)
        root = study.dataset.root if data is None else data.expanduser().absolute()
        spec = framed(study.dataset.model_copy(update={"root": root}), framing, networks)
        study = study.model_copy(
            update={
                "alphas": chosen_alphas,
                "seeds": chosen_seeds,
                "dataset": spec,
                "corruptions": _corruptions(study.corruptions, source, scale),
            }
        )
        chosen_device = choose_device(device)
        dataset = load_dataset(spec, progress)
        sizes = f"{len(dataset.train):,} to train on, {len(dataset.test):,} to test"
        progress.detail(f"images of {dataset.name}: {sizes}; {len(dataset.classes)} classes")
        return cls(sized(study, dataset), dataset, chosen_device, progress, engine or Local())

    def sourced(self, source: str | None, scale: int | None) -> "Session":
        """Return the session with other corrupted images; arguments as `open`."""
        chosen = _corruptions(self.study.corruptions, source, scale)
        return replace(self, study=self.study.model_copy(update={"corruptions": chosen}))

    def first_seed(self, request: Request) -> "Session | None":
        """Return the session with the first seed alone, for a table long before that of all.

        None if there is one seed, its networks are trained, or a result depends on other seeds.
        """
        (first, *rest), pieces = self.study.seeds, self.pieces(request)
        study = self.study.model_copy(update={"seeds": (first,)})
        apart = all(
            piece.suite != PROBABILITY and (piece.comparable or not piece.is_attack)
            for piece in pieces
        )
        known = [find(study, self.dataset, alpha, first) for alpha in study.alphas]
        if not rest or not apart or request.retry or all(known):
            return None
        return replace(self, study=study, rest=len(rest))

    def train(self) -> list[Network]:
        """Train the study's networks that are not cached, and return all."""
        study = self.study
        pairs = [(alpha, seed) for seed in study.seeds for alpha in study.alphas]
        return self.engine.train(study, self.dataset, pairs, self.device, self.progress)

    @contextmanager
    def _followed(self, later: float) -> Iterator[None]:
        """Include what follows, `later` times as long as the block, in the remaining time."""
        self.progress.expect(later)
        try:
            yield
        finally:
            self.progress.expect(0.0)

    def run(
        self, root: Path, request: Request, brought: Sequence[Network], command: Sequence[str]
    ) -> RunResult:
        """Train or load the networks, and evaluate the cells that the store lacks.

        Args:
            root: the store.
            request: the request of the run.
            brought: users' networks from `bring` to evaluate; () to train the study's.
            command: the words of the command line, for the manifest.
        """
        request = self.fitted(request)
        pieces, made = self.pieces(request), self._provenance(command)
        store = StudyStore(root, self.study.name, made)
        store.prepare()
        began = time.perf_counter()
        found, after = list(brought), 0.0
        if not found:
            share = following(self.study, self.dataset, pieces, request)
            others = self.rest * (1 + share)  # in times of training these networks
            after = others / share if share else 0.0
            with self._followed(share + others):
                found = self.train()
        self.progress.detail(f"networks: {len(found)}, on {made['device']}")
        networks = self.probed(found, store, request.time_limit)
        before = set() if request.retry else store.failed()
        asked = request.model_copy(update={"save": 0})
        left, evaluated = self._left(store, networks, pieces, request), 0
        images = request.limit or len(self.dataset.test)
        self.progress.detail(f"cells to do: {len(left):,}, of {images:,} images each")

        def finish() -> None:
            facts = made | {"seconds": round(time.perf_counter() - began, 3)}
            # If two runs end at the same time, the later one sees all.
            with store.locks.holding(FINISH):
                store.finish(state() | facts | {"evaluated": evaluated}, complete=not left)

        def state() -> dict[str, Any]:
            return manifest_of(self.study, self.dataset, networks, pieces, store, request)

        if not before.issuperset(left):
            with store.begin(state() | made):
                with self._followed(after):
                    evaluated = self.engine.evaluate(
                        networks, pieces, self.dataset, store, self.device, request, self.progress
                    )
                left = self._left(store, networks, pieces, asked)
                finish()
        elif _outdated(store, state):
            finish()
        # Read again, since another process may have removed results.
        fresh = StudyStore(root, self.study.name)
        left = self._left(fresh, networks, pieces, asked)
        failures = store.failures(left)
        earlier = sum(each.cell.key in before for each in failures)
        known = fresh.keys() | store.failed()
        lost = [cell for key, cell in left.items() if key not in known]
        if lost:
            store.lacks()
        return RunResult(
            len(networks), evaluated, time.perf_counter() - began, failures, earlier, lost
        )

    def stopped(
        self,
        root: Path,
        request: Request,
        brought: Sequence[Network],
        command: Sequence[str],
        stop: Stop,
    ) -> Stopped:
        """Attack networks until a decision; `run` then reuses the outcomes.

        Arguments as for `run`, whose limit must be the number of images that were needed.
        """
        began, request = time.monotonic(), self.fitted(request)
        pieces, made = self.pieces(request), self._provenance(command)
        slow(pieces)
        store = StudyStore(root, self.study.name, made)
        store.prepare()
        networks = self.probed(list(brought) or self.train(), store, request.time_limit)
        state = manifest_of(self.study, self.dataset, networks, pieces, store, request)
        with store.begin(state | made):
            return stopped(
                networks,
                pieces,
                self.dataset,
                store,
                self.device,
                request,
                stop,
                self.progress,
                began,
            )

    def _provenance(self, command: Sequence[str]) -> dict[str, Any]:
        return {
            "command": list(command),
            "device": self.engine.describe(self.device),
            "versions": versions(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def probed(
        self,
        networks: Sequence[Network],
        store: StudyStore,
        time_limit: float | None = None,
    ) -> list[Network]:
        """Return networks with findings of the probe, which runs once for a store and a session."""
        kept = store.manifest().get("findings", {}) if store.finished else {}
        known = {weights: from_records(records) for weights, records in kept.items()}
        found = probed(networks, self.dataset, known | self.findings, self.progress, time_limit)
        for each in found:
            if all(finding.code != "fails" for finding in each.findings):  # it may yet answer
                self.findings[each.weights] = each.findings
        return found

    def _left(
        self,
        store: StudyStore,
        networks: Sequence[Network],
        pieces: Sequence[Work],
        request: Request,
    ) -> dict[str, Cell]:
        """Return the requested cells that are missing, by key.

        They include all cells that are made together with a missing one.
        """
        split = limited(self.dataset.test, request.limit)
        bundles = plan(networks, pieces, split, store, request)
        return {cell.key: cell for bundle in bundles for task in bundle for cell in task.cells}

    def board(self, store: StudyStore, request: Request, ran: RunResult) -> Leaderboard | None:
        """Return the leaderboard of a run; None if cells failed and there is nothing to show."""
        failed = bool(ran.failures or ran.lost)
        if failed and store.measurements().empty:
            return None
        try:
            return leaderboard(store, *self.shown(request))
        except SelbenchError:
            if not failed:
                raise
            return None

    def shown(self, request: Request) -> tuple[int | None, bool, list[str]]:
        """Return the arguments `limit`, `extra` and `only` of a run's leaderboard."""
        request = self.fitted(request)
        pieces = self.pieces(request)
        extra = any(piece.suite == "corruptions-extra" for piece in pieces)
        shown = {piece.name for piece in pieces if piece.comparable and piece.suite != BAR}
        return request.limit, extra, [name for name in request.corruptions if name in shown]

    def named(self, root: Path, brought: Sequence[Network]) -> list[Network]:
        """Return networks, with longer names if a store has different networks of the same names.

        A network with other code or normalisation is different, and both are kept. A network that
        was only trained further replaces the old one.
        """
        store = StudyStore(root, self.study.name)
        known = store.manifest()["subjects"] if store.finished else {}
        return [_apart(each, known.get(each.name, {})) for each in brought]

    def dry_run(self, root: Path, request: Request, brought: Sequence[Network]) -> DryRun:
        """Return what `run` would do with these arguments, and an estimate of its time."""
        check_format(root, FORMAT)
        request = self.fitted(request)
        pieces, store = self.pieces(request), StudyStore(root, self.study.name)
        study, dataset, engine, device = self.study, self.dataset, self.engine, self.device
        return dry_run(study, dataset, brought, pieces, store, engine, device, request)

    def fitted(self, request: Request) -> Request:
        """Return the request without its limit, if that includes all images."""
        if request.limit is None or request.limit < len(self.dataset.test):
            return request
        return request.model_copy(update={"limit": None})

    def pieces(self, request: Request) -> list[Work]:
        """Return the work of a request; raise `SelbenchError` for unknown names."""
        return collect(request.suites or self.study.suites, self.setting(request))

    def setting(self, request: Request = ANYTHING) -> Setting:
        """Return the settings that suites are built from."""
        height, width = self.dataset.test.images.shape[-2:]
        source, scale = self.study.corruptions.source, self.study.corruptions.scale
        made = Setting(
            height,
            width,
            scale,
            request.corruptions,
            request.attacks,
            full=request.full,
            in_files=request.pixels is not None,
            draws=request.eot,
            given=self._given_adversarials(request),
            mechanism=self.study.mechanism,
            smoothing=self.study.smoothing,
            probability=self.study.probability,
            seeds=len(self.study.seeds),
            validation=held_out(self.study, self.dataset),
        )
        if source == "generated":
            return made
        if self.study.dataset.classes is not None:
            raise SelbenchError(
                f"corrupted images of {source} are of all classes; leave out dataset.classes, or "
                "--source"
            )
        stored = named_set(source, self.dataset, frame_of(self.study.dataset))
        return replace(made, scale=None, stored=stored)

    def _given_adversarials(self, request: Request) -> tuple[GivenAdversarials, str] | None:
        """Return adversarials from files, and a checksum of them and of the images."""
        if not request.adversarials:
            return None
        test, paths = self.dataset.test, [Path(each).expanduser() for each in request.adversarials]
        examples = limited(test, request.limit).examples.cpu()
        found = read_adversarials(paths, test.labels.cpu(), examples, test.images.shape[-2:])
        return found, fingerprint([test.checksum, found.checksum])

    def bring(self, each: NetworkSpec) -> Network:
        """Load a user's network; raise `SelbenchError` if it does not fit."""
        return bring(each, self.study.model, self.dataset)


def _apart(network: Network, known: Mapping[str, Any]) -> Network:
    """Return a network, with a longer name if the network `known` of the same name is different."""
    before = known.get("about", "")
    if not before or known["weights"] == network.weights or before == network.about:
        return network
    images, now = (about.partition(";")[0] for about in (before, network.about))
    what = now.removeprefix("images in [0, 1], ") if now != images else fingerprint(network.about)
    return replace(network, name=f"{network.name} [{what[:80]}]")


def _outdated(store: StudyStore, state: Callable[[], dict[str, Any]]) -> bool:
    """Return whether the manifest is out of date, apart from its request."""
    if not store.finished or store.cut_off:
        return True
    kept = store.manifest()
    now = kept | state() | {"request": kept["request"]} | store.state
    if not any(now["findings"].values()):  # an earlier version had no probe
        now["findings"] = kept.get("findings", now["findings"])
    return kept != now


def _corruptions(spec: CorruptionSpec, source: str | None, scale: int | None) -> CorruptionSpec:
    """Return the study's source of corrupted images, with the options of the command line."""
    if source not in (None, "", *SOURCES):
        source = str(Path(str(source)).expanduser().absolute())
    # A scale is for generated images, so an option for one of the two replaces both.
    given: dict[str, Any] = {}
    if source is not None or scale is not None:
        given = {"source": "generated" if source is None else source, "scale": scale}
    try:
        return CorruptionSpec.model_validate(spec.model_dump() | given)
    except ValidationError as problem:
        option = "--source" if source == "" else f"--scale {scale}"
        raise SelbenchError(f"{option}: {first_problem(problem)['msg']}") from problem
