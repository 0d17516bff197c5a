"""Joining a Ray cluster, or starting one on this machine for as long as a run takes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from archer.extras import need

REACH_S = 10.0
"""How long a cluster's address may take to answer."""


@dataclass(frozen=True)
class Cluster:
    """Where a run's games are played."""

    address: str = "local"
    """``HOST:PORT`` of a Ray cluster that this machine is part of, ``auto`` for the one that runs here, or ``local``:
    one is started here and ended with the run."""
    workers: int | None = None
    """Players; None for as many as the cluster has room for, at any time."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers: at least 1 player is needed, got {self.workers}")
        if "://" in self.address:
            raise ValueError(
                f"--cluster {self.address}: the learner must run on a machine of the cluster, where its ledger can "
                "write to the run's folder; log in there and give HOST:PORT or auto"
            )


@contextmanager
def joined(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected while the block runs. Raises ValueError where there is no such cluster or no Ray."""
    ray = need("ray", "cluster")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    if ":" in cluster.address:
        _reach(cluster.address)
    ours: dict[str, Any] = {}
    if cluster.address == "local":
        # What waits for its environments needs no core of its own, so the number is what was asked for.
        cores = (os.cpu_count() or 1) if cluster.workers is None else cluster.workers + 1
        ours = {"num_cpus": max(2, cores), "include_dashboard": False}
    # Ray's own answer to a polite request to stop is a dump of the stack.
    asked_to_stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", namespace="archer", **ours)
    except Exception as error:  # of any class, bare ones included
        raise ValueError(f"--cluster {cluster.address}: cannot join a Ray cluster there: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, asked_to_stop)
    try:
        with redirect_stdout(sys.stderr):  # Ray tells there what has died; output is for results
            yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself would try for a long time and then end the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--cluster {address}: nobody answers there ({error}); is it the address that `ray start --head` printed?"
        ) from None
