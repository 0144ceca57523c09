"""A Ray cluster of two nodes on this machine, which all tests share."""

import importlib.util
import sys

import pytest

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
NOTICED = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # dead nodes


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'selbench[ray]'")
    home = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("SELBENCH_HOME", str(home))  # the nodes' own, not the command's
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": NOTICED})
        cluster.add_node(**NODE)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield home, cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def cluster(_cluster, request, monkeypatch):
    """Connect to two nodes of one CPU each, and send them what a test module defines.

    Returns SELBENCH_HOME of the nodes.
    """
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[request.module.__name__])
    monkeypatch.setattr("selbench.engine.ray_cluster.RETRIES", 0)  # workers take long to start
    home, _ = _cluster
    return home


@pytest.fixture
def node_to_lose(cluster, _cluster, monkeypatch):
    """Return the second node, which is replaced after the test; what it was at is tried again."""
    monkeypatch.setattr("selbench.engine.ray_cluster.RETRIES", 1)
    _, nodes = _cluster
    (node,) = nodes.worker_nodes
    yield node
    nodes.remove_node(node, allow_graceful=False)
    nodes.add_node(**NODE)
