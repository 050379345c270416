"""A real Ray cluster on this machine, each node bound to a loopback address of its own.

Not to 127.0.0.1: Ray takes that for the machine's outer address.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Nodes that died are noticed in seconds: here they are processes, and no network can be slow.
os.environ.setdefault("RAY_health_check_period_ms", "500")
os.environ.setdefault("RAY_health_check_timeout_ms", "2000")
os.environ.setdefault("RAY_health_check_failure_threshold", "3")

_ADDRESSES = (f"127.0.0.{n}" for n in count(2))
NODE = {"num_cpus": 1, "memory": 2_000_000_000, "object_store_memory": 100_000_000}


@contextmanager
def ray_cluster(n_nodes: int) -> Generator[Any]:
    """A cluster of so many nodes, each with room for one worker of a tiny study; the head is one of them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={**NODE, "node_ip_address": next(_ADDRESSES), "include_dashboard": False},
    )
    try:
        for _ in range(n_nodes - 1):
            add_node(cluster)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any) -> Any:
    """One node more."""
    return cluster.add_node(**NODE, node_ip_address=next(_ADDRESSES))
