"""A Ray cluster on this machine, which all tests of a module share: of one node, or of two."""

import importlib.util
import sys

import pytest

from selbench._engine.ray_cluster import connected

NODE = {
    "num_cpus": 1,
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,  # no autoscaler
}
NOTICED = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # dead nodes


@pytest.fixture(scope="module")  # other modules test a command that is not connected
def _cluster(tmp_path_factory):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'selbench[ray]'")
    home = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("SELBENCH_HOME", str(home))  # the nodes' own, not the command's
        patch.setenv("RAY_worker_niceness", "0")  # a busy machine would let them wait
        patch.setenv("RAY_gcs_server_port_wait_time_s", "20")  # connecting would set it for good
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": NOTICED})
        with connected(cluster.address):
            yield home, cluster
        cluster.shutdown()


@pytest.fixture
def cluster(_cluster, request, monkeypatch):
    """Connect to a node of one CPU, and send it what a test module defines.

    Returns SELBENCH_HOME of the nodes.
    """
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[request.module.__name__])
    monkeypatch.setattr("selbench._engine.ray_cluster.RETRIES", 0)  # workers take long to start
    return _cluster[0]


@pytest.fixture
def second_node(cluster, _cluster):
    """Return a second node of the cluster, which stays there."""
    home, nodes = _cluster
    if not nodes.worker_nodes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SELBENCH_HOME", str(home))
            nodes.add_node(**NODE)
    (node,) = nodes.worker_nodes
    return node


@pytest.fixture
def node_to_lose(second_node, _cluster, monkeypatch):
    """Return the second node, which ends with the test; what it was at is tried again."""
    monkeypatch.setattr("selbench._engine.ray_cluster.RETRIES", 1)
    yield second_node
    _cluster[1].remove_node(second_node, allow_graceful=False)
