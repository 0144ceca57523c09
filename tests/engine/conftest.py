"""A Ray cluster of two nodes on this machine, which all tests share."""

import importlib.util
import sys

import pytest


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

        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield home
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
    return _cluster
