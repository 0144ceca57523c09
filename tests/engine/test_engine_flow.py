"""Tasks under way, and clusters that cannot be joined; all of it without one."""

import contextlib
import socket
import sys
import time
from threading import Thread
from types import SimpleNamespace

import pytest
import torch

from selbench._engine import ray_address, ray_cluster
from selbench._engine.engines import opened
from selbench._engine.on_ray import apart
from selbench._engine.ray_cluster import Share, as_completed, places_of, room_for, share
from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.networks.network import Network
from selbench.suites import (
    Analysis,
    Attack,
    Comparison,
    Condition,
    HeldOut,
    Setting,
    Validation,
    collect,
)


@pytest.fixture
def under_way(monkeypatch):
    """Replace Ray by one whose tasks end in the order of their names; return what it is told."""
    told = SimpleNamespace(most=0, cancelled=[])

    def wait(references, num_returns):
        told.most = max(told.most, len(references))
        done = min(references)
        return [done], [each for each in references if each != done]

    def cancel(reference, force):
        told.cancelled.append(reference)

    fake = SimpleNamespace(wait=wait, cancel=cancel)
    monkeypatch.setattr(ray_cluster, "import_ray", lambda: fake)
    return told


def test_every_task_is_done_and_never_more_than_there_is_room_for(under_way):
    found = list(as_completed(range(20), lambda item: 100 - item, room=3))
    assert sorted(item for item, _ in found) == list(range(20))
    assert all(reference == 100 - item for item, reference in found)
    assert under_way.most == 3
    assert under_way.cancelled == []


def test_items_are_asked_for_when_there_is_room(under_way):
    asked = []

    def items():
        for item in range(9):
            asked.append(item)
            yield item

    flow = as_completed(items(), lambda item: item, room=2)
    next(flow)
    assert asked == [0, 1]
    next(flow)
    assert asked == [0, 1, 2]


def test_an_item_that_is_passed_over_is_not_waited_for(under_way):
    found = list(as_completed(range(5), lambda item: item if item % 2 else None, room=2))
    assert found == [(1, 1), (3, 3)]


def test_tasks_under_way_are_ended_when_the_caller_stops(under_way):
    with contextlib.closing(as_completed(range(9), lambda item: item, room=4)) as flow:
        for item, _ in flow:
            if item == 2:
                break
    assert under_way.cancelled == [3, 4, 5]


@pytest.fixture
def nodes(monkeypatch):
    """Return a function that says which nodes there are."""

    def has(*resources):
        monkeypatch.setattr(ray_cluster, "_nodes", lambda: list(resources))

    return has


def test_small_networks_get_a_core_and_large_ones_four(nodes):
    nodes({"CPU": 16.0}, {"CPU": 6.0})
    assert share(True, 0) == Share(1, 0)
    assert share(False, 0) == Share(4, 0)
    assert places_of(Share(4, 0)) == 4 + 1
    assert room_for(Share(1, 0)) == 2 * 22


def test_no_task_asks_for_more_than_a_node_has(nodes):
    nodes({"CPU": 2.0}, {"CPU": 1.0})
    assert share(False, 0) == Share(2, 0)
    assert places_of(Share(2, 0)) == 1


def test_gpus_are_shared_as_told(nodes):
    nodes({"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0})
    assert share(False, 0.25) == Share(1, 0.25)
    assert Share(1, 0.25).options["max_calls"] == 1
    assert "max_calls" not in Share(1, 0).options  # a process serves many tasks
    assert places_of(Share(1, 0.25)) == 8
    with pytest.raises(SelbenchError, match="no node of the Ray cluster has 3 GPU; leave out"):
        share(True, 3)


def test_an_address_where_nobody_listens_is_told_at_once(refused):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sentence = refused("run", "--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert sentence == (
        f"there is no Ray cluster at --address 127.0.0.1:{port} (Connection refused); start one "
        "with `ray start --head`, or leave out --address to use this machine alone"
    )


def test_an_address_where_something_else_answers_is_told(refused):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = Thread(target=answer, daemon=True)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        sentence = refused("run", "--engine", "ray", "--address", address)
        thread.join(10)
    assert "(what answers there is not Ray)" in sentence


def test_an_address_that_never_answers_is_given_up(refused, monkeypatch):
    monkeypatch.setattr(ray_address, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        sentence = refused("run", "--engine", "ray", "--address", address)
        assert time.monotonic() - began < 60
    assert "(timed out)" in sentence


def frame(kind, stream, content=b""):
    return len(content).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, stream]) + content


ANSWERS = {  # to the question whether Ray is alive, after the settings
    "another server of gRPC": (frame(1, 1, b"\x88@\x0bgrpc-status\x0212"), False),
    "a web server": (frame(1, 1, b"\x8d"), False),
    "a refusal": (frame(7, 0, bytes(8)), False),
    "Ray, which wants its token": (frame(1, 1, b"\x88@\x0bgrpc-status\x0216"), True),
    "Ray": (frame(8, 0, bytes(4)) + frame(1, 1, b"\x88"), True),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_ray_is_known_by_its_answer(what):
    answer, ray = ANSWERS[what]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                for place in range(0, len(frame(4, 0) + answer), 7):  # in parts
                    connection.sendall((frame(4, 0) + answer)[place : place + 7])
                connection.recv(1000)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if ray:
            ray_address.check_answer(address)
        else:
            with pytest.raises(SelbenchError, match="what answers there is not Ray"):
                ray_address.check_answer(address)
        thread.join(10)


def test_a_token_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "folder" / "token"
    ray_cluster._own_token(path)
    token = path.read_text()
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    ray_cluster._own_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == token


def test_a_ray_without_tokens_joins_no_cluster(monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(SelbenchError, match=r"^Ray 2\.40 has no tokens, .*'ray>=2\.52'"):
        ray_cluster._check_tokens(SimpleNamespace(__version__="2.40"), "host:1")


@pytest.mark.parametrize("address", ["cluster", "host:", "host:port", "host:99999", "ray://h:1"])
def test_an_address_is_a_host_and_a_port(refused, address):
    assert refused("run", "--engine", "ray", "--address", address) == (
        f"--address takes auto or HOST:PORT, such as 10.0.0.1:6379, got {address!r}"
    )


def test_an_address_that_no_host_can_have_is_refused(refused):
    sentence = refused("run", "--engine", "ray", "--address", "10..0.1:6379")
    assert "10..0.1:6379" in sentence
    assert "label" in sentence  # Python's words for what is wrong with the name


def test_without_ray_the_command_that_installs_it_is_told(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused("run", "--engine", "ray") == (
        "--engine ray needs Ray, which is not installed; pip install 'selbench[ray]'"
    )


def test_options_of_ray_need_ray(refused):
    for option, value in (("--address", "auto"), ("--gpus-per-task", "0.5")):
        assert refused("run", option, value) == (
            f"{option} belongs to --engine ray; add that, or leave it out"
        )
    assert refused("run", "--engine", "rya") == "unknown --engine 'rya'; did you mean 'ray'?"


@pytest.mark.parametrize("gpus", [0, -1, 1.5, float("inf"), float("nan")])
def test_a_task_gets_a_part_of_a_gpu_or_whole_ones(gpus):
    engine = opened("ray", None, gpus)
    with pytest.raises(SelbenchError, match="--gpus-per-task takes a part of a GPU, such as "):
        engine.__enter__()


@pytest.fixture
def refusing(monkeypatch):
    """Return a function that replaces Ray by one that starts and joins nothing, for a reason."""

    class RayError(Exception):
        pass

    def refusing(reason):
        def init(address, **options):
            raise RayError(reason)

        fake = SimpleNamespace(
            init=init,
            is_initialized=lambda: False,
            exceptions=SimpleNamespace(RayError=RayError),
        )
        monkeypatch.setattr(ray_cluster, "import_ray", lambda: fake)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token of the user's is touched
        monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "5")

    return refusing


def test_a_cluster_that_wants_its_token_is_one_sentence(refused, refusing):
    refusing("Token authentication is enabled but no token was found.\nRead more at")
    assert refused("run", "--engine", "ray", "--address", "auto") == (
        "cannot join the Ray cluster at --address auto (Token authentication is enabled but no "
        "token was found); run `ray start` on this machine too, set RAY_AUTH_MODE=token where the "
        "cluster asks for its token, or leave out --address to use this machine alone"
    )


def test_a_machine_on_which_ray_does_not_start_is_one_sentence(refused, refusing, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    refusing("no room")
    assert refused("run", "--engine", "ray") == (
        "Ray does not start on this machine (no room); use --engine local"
    )


def test_networks_that_share_nothing_are_apart_and_all_tasks_are_there():
    pieces = [
        *collect(("corruptions", "attacks", "mechanism"), Setting(32, 32, corruptions=("fog",))),
        Validation(held_out=HeldOut("v", 3, lambda seed: None)),
    ]
    subjects = [Network(f"{s}", 0.0, s, "t", "resnet8", f"w{s}", lambda: None) for s in range(3)]
    split = make_split(torch.zeros(6, 3, 32, 32, dtype=torch.uint8), torch.arange(6) % 3)
    bundles = [list(work.tasks(subjects, split, None)) for work in pieces]
    parted = apart(bundles)
    assert [task for each in parted for task in each] == [task for each in bundles for task in each]
    lengths = {type(bundle[0].work): len(bundle) for bundle in parted}
    assert lengths == {Condition: 3, Comparison: 3, Validation: 3, Analysis: 1, Attack: 1}
