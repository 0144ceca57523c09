"""A Ray cluster: one that runs somewhere, or one that lasts as long as the command."""

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
SECONDS = 5  # to wait for an address
THREADS = 4  # that share a large network: fewer processes need less memory
AHEAD = 2  # tasks under way or waiting, for each that can run
RETRIES = 3  # of a task whose worker or node died
REFUSALS = (ConnectionError, RuntimeError, ValueError, OSError, SystemExit)
TOKEN = "RAY_AUTH_TOKEN"  # the variable that holds it


@dataclass(frozen=True)
class Share:
    """What of a node's resources one task gets."""

    cpus: int
    gpus: float

    @property
    def options(self) -> dict[str, Any]:
        """Say it in Ray's words.

        A process that has used a GPU does one task: it keeps to that GPU, and to its memory, and
        may have broken it.
        """
        once = {"max_calls": 1} if self.gpus else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": RETRIES, **once}

    def task(self, function: Callable[..., Any]) -> Any:
        """Return a function as Ray's; Ray ignores a `max_calls` that is set later."""
        return import_ray().remote(**self.options)(function)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one on this machine; leave it at the end.

    `address` is HOST:PORT, or "auto" for the cluster that this machine belongs to; without one the
    environment variable RAY_ADDRESS counts, as everywhere in Ray. A connection that is there
    already is used, and kept.

    Raises:
        SelbenchError: where Ray is not installed, or nothing answers at the address.
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
    """Return the module, told not to report its use; one that is not there is a `SelbenchError`."""
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
    own = address in (None, "local")
    if address is not None and address not in ("local", "auto"):
        check_answer(address)
        _check_tokens(ray, address)
    try:
        if own:
            with _private_cluster(ray):
                ray.init("local", include_dashboard=False, **quietly)
        else:
            os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(SECONDS))  # instead of 20
            ray.init(address, **quietly)
    except (ray.exceptions.RayError, *REFUSALS) as problem:
        reason = in_short(problem) if str(problem) else "no answer"
        if own:
            raise SelbenchError(
                f"Ray does not start on this machine ({reason}); take --engine local"
            ) from problem
        raise SelbenchError(
            f"cannot join the Ray cluster at --address {address} ({reason}); run `ray start` on "
            "this machine too, set RAY_AUTH_MODE=token where the cluster asks for its token, or "
            "leave out --address to use this machine alone"
        ) from problem


@contextmanager
def _private_cluster(ray: Any) -> Iterator[None]:
    """Start a cluster that this machine alone reaches, and this user alone may use.

    Ray has no option for the former: where it has no clusters of several nodes, as on Windows, it
    listens on the loopback.
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
    """Have a token that nobody else can read: Ray writes one for all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        elif path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError:  # another command was faster, or it is not ours: Ray says what is wrong
        return


def _check_tokens(ray: Any, address: str) -> None:
    """Refuse a version of Ray without tokens, whose clusters run anybody's code."""
    if find_spec("ray._private.authentication") is None:
        raise SelbenchError(
            f"Ray {ray.__version__} has no tokens, so whoever reaches {address} runs code there; "
            "pip install 'ray>=2.52' on all nodes"
        )


def share(small: bool, gpus: float) -> Share:
    """Return what a task gets; `small` networks compute with one thread each.

    Raises:
        SelbenchError: where no node has that much of a GPU.
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
        own = node.get("CPU", 0) // share.cpus
        places += min(own, node.get("GPU", 0) // share.gpus) if share.gpus else own
    return max(1, int(places))


def room_for(share: Share) -> int:
    """Return how many tasks may be under way, so that none idles and memory is not filled."""
    return AHEAD * places_of(share)


def _nodes() -> list[dict[str, float]]:
    """Return the resources of the nodes that are alive."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]


def describe(gpus: float) -> str:
    """Name the cluster, for manifests; `gpus` is how much of a GPU a task gets."""
    nodes = _nodes()
    kind = f"cuda, {gpus:g} GPU a task" if gpus else "cpu"
    return f"{kind}, by Ray on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}"


def as_completed(
    items: Iterable[Item], submit: Callable[[Item], Any], room: int
) -> Generator[tuple[Item, Any], None, None]:
    """Submit tasks, and yield items with the references to their results, as they come.

    Items are asked for one by one, when there is room. Tasks that are still under way when the
    caller stops are ended, with their processes.

    Args:
        items: what to do.
        submit: starts an item's task and returns the reference; None passes the item over.
        room: how many tasks are under way at most.
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
    """Return what a task returned; what it raised is raised here as it was there."""
    ray = import_ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, Exception):
            raise problem.cause from None
        raise
