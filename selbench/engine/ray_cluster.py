"""A Ray cluster: one that runs somewhere, or one that lasts as long as the command."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from selbench.errors import SelbenchError

SECONDS = 5  # to wait for an address
THREADS = 4  # that share a large network: fewer processes need less memory
AHEAD = 2  # tasks under way or waiting, for each that can run
RETRIES = 3  # of a task whose worker or node died
REFUSALS = (ConnectionError, RuntimeError, ValueError, OSError, SystemExit)
SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # an HTTP/2 frame that asks for nothing; 4 is its kind
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS


@dataclass(frozen=True)
class Share:
    """What of a node's resources one task gets."""

    cpus: int
    gpus: float

    @property
    def options(self) -> dict[str, Any]:
        """Say it in Ray's words."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": RETRIES}


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
        _check_answer(address)
    try:
        if own:
            ray.init("local", include_dashboard=False, **quietly)
        else:
            os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(SECONDS))  # instead of 20
            ray.init(address, **quietly)
    except (ray.exceptions.RayError, *REFUSALS) as problem:
        reason = str(problem).splitlines()[0].rstrip(".") if str(problem) else "no answer"
        if own:
            raise SelbenchError(
                f"Ray does not start on this machine ({reason}); take --engine local"
            ) from problem
        raise SelbenchError(
            f"cannot join the Ray cluster at --address {address} ({reason}); run `ray start` on "
            "this machine too, set RAY_AUTH_MODE=token where the cluster asks for its token, or "
            "leave out --address to use this machine alone"
        ) from problem


def _check_answer(address: str) -> None:
    """Look whether something at HOST:PORT speaks as Ray does: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16) or "/" in host:
        raise SelbenchError(
            f"--address takes auto or HOST:PORT, such as 10.0.0.1:6379, got {address!r}"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(GREETING)
            answer = connection.recv(len(SETTINGS))
    except (OSError, UnicodeError) as problem:  # the latter of names that none can have
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise _unreachable(address, str(reason or problem)) from problem
    if answer[3:4] != SETTINGS[3:4]:
        raise _unreachable(address, "what answers there is not Ray")


def _unreachable(address: str, reason: str) -> SelbenchError:
    return SelbenchError(
        f"there is no Ray cluster at --address {address} ({reason}); start one with `ray start "
        "--head`, or leave out --address to use this machine alone"
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
