"""A Ray cluster: an existing one, or one that lasts as long as the command."""

import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from selbench._engine.ray_address import check_answer
from selbench._kit.errors import SelbenchError, in_short

Item = TypeVar("Item")
SECONDS = 5  # seconds to wait for an address
THREADS = 4  # threads for a large network: fewer processes need less memory
AHEAD = 2  # submitted tasks for each that can run
RETRIES = 3  # if a task's worker or node died
REFUSALS = (ConnectionError, RuntimeError, ValueError, OSError, SystemExit)
TOKEN = "RAY_AUTH_TOKEN"  # the variable that holds the token


@dataclass(frozen=True)
class Share:
    """The part of a node's resources that one task gets."""

    cpus: int
    gpus: float

    @property
    def options(self) -> dict[str, Any]:
        """The share as options of Ray.

        A process with a GPU does only one task: it keeps its GPU and the memory, and may have
        broken it.
        """
        once = {"max_calls": 1} if self.gpus else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": RETRIES, **once}

    def task(self, function: Callable[..., Any]) -> Any:
        """Return a function as a Ray task; Ray ignores a `max_calls` that is set later."""
        return import_ray().remote(**self.options)(function)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one on this machine; disconnect at the end.

    `address` is HOST:PORT, or "auto" for the cluster of this machine; None uses the environment
    variable RAY_ADDRESS, as Ray does. An existing connection is used and kept.

    Raises:
        SelbenchError: if Ray is not installed, or nothing answers at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    _connect(ray, address or os.environ.get("RAY_ADDRESS"))
    try:
        yield
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Return the module `ray`, with usage reports off; if missing, raise `SelbenchError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as problem:
        raise SelbenchError(
            "--engine ray needs Ray, which is not installed; pip install 'selbench[ray]'"
        ) from problem
    return ray


def _connect(ray: Any, address: str | None) -> None:
    quietly = {"log_to_driver": False, "logging_level": "ERROR"}
    private = address in (None, "local")
    if address is not None and address not in ("local", "auto"):
        check_answer(address)
        _check_tokens(ray, address)
    try:
        if private:
            with _private_cluster(ray):
                ray.init("local", include_dashboard=False, **quietly)
        else:
            os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(SECONDS))  # default: 20
            ray.init(address, **quietly)
    except (ray.exceptions.RayError, *REFUSALS) as problem:
        reason = in_short(problem) if str(problem) else "no answer"
        if private:
            raise SelbenchError(
                f"Ray does not start on this machine ({reason}); use --engine local"
            ) from problem
        raise SelbenchError(
            f"cannot join the Ray cluster at --address {address} ({reason}); run `ray start` on "
            "this machine too, set RAY_AUTH_MODE=token where the cluster asks for its token, or "
            "leave out --address to use this machine alone"
        ) from problem


@contextmanager
def _private_cluster(ray: Any) -> Iterator[None]:
    """Start a cluster that only this machine can reach, and only this user can use.

    Ray has no option for the former, but without clusters of several nodes, as on Windows, it
    listens on the loopback interface only.
    """
    constants = getattr(getattr(ray, "_private", None), "ray_constants", None)
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and not os.environ.get(TOKEN):
        _own_token(Path(os.environ.get(f"{TOKEN}_PATH") or Path.home() / ".ray" / "auth_token"))
    if before is not None:
        constants.ENABLE_RAY_CLUSTER = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        if before is not None:
            constants.ENABLE_RAY_CLUSTER = before  # type: ignore[union-attr]


def _own_token(path: Path) -> None:
    """Create a token that nobody else can read; Ray's own file is readable by all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        elif path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError:  # another command was faster, or the file is another user's: Ray reports it
        return


def _check_tokens(ray: Any, address: str) -> None:
    """Refuse versions of Ray without tokens, whose clusters run anybody's code."""
    if find_spec("ray._private.authentication") is None:
        raise SelbenchError(
            f"Ray {ray.__version__} has no tokens, so whoever reaches {address} runs code there; "
            "pip install 'ray>=2.52' on all nodes"
        )


def share(small: bool, gpus: float) -> Share:
    """Return a task's share of a node; `small` networks compute with one thread each.

    Raises:
        SelbenchError: if no node has that much of a GPU.
    """
    nodes = _nodes()
    if gpus and max(node.get("GPU", 0) for node in nodes) < gpus:
        raise SelbenchError(
            f"no node of the Ray cluster has {gpus:g} GPU; leave out --gpus-per-task, or join a "
            "node that has"
        )
    threads = THREADS if not small and not gpus else 1
    most = max(int(node.get("CPU", 0)) for node in nodes)
    return Share(max(1, min(threads, most)), gpus)


def places_of(share: Share) -> int:
    """Return how many tasks can run at the same time."""
    places = 0.0
    for node in _nodes():
        fitting = node.get("CPU", 0) // share.cpus
        places += min(fitting, node.get("GPU", 0) // share.gpus) if share.gpus else fitting
    return max(1, int(places))


def room_for(share: Share) -> int:
    """Return how many tasks to submit at once: enough for all places without filling memory."""
    return AHEAD * places_of(share)


def _nodes() -> list[dict[str, float]]:
    """Return the resources of the living nodes."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]


def describe(gpus: float) -> str:
    """Name the cluster, for manifests; `gpus` is the share of a GPU for each task."""
    nodes = _nodes()
    kind = f"cuda, {gpus:g} GPU a task" if gpus else "cpu"
    return f"{kind}, by Ray on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}"


def as_completed(
    items: Iterable[Item], submit: Callable[[Item], Any], room: int
) -> Generator[tuple[Item, Any], None, None]:
    """Submit tasks, and yield items with references to their results as they complete.

    The next item is read when there is room. If the caller stops, running tasks are ended with
    their processes.

    Args:
        items: the work.
        submit: starts an item's task and returns its reference; None skips the item.
        room: the most tasks submitted at once.
    """
    ray, waiting = import_ray(), iter(items)
    under_way: dict[Any, Item] = {}
    try:
        while True:
            while len(under_way) < room and (item := next(waiting, None)) is not None:
                reference = submit(item)
                if reference is not None:
                    under_way[reference] = item
            if not under_way:
                return
            (reference, *_), _ = ray.wait(list(under_way), num_returns=1)
            yield under_way.pop(reference), reference
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def received(reference: Any) -> Any:
    """Return a task's result, or raise the exception that it raised."""
    ray = import_ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, Exception):
            raise problem.cause from None
        raise
