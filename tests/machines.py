"""A Ray cluster of several machines on this one, and ways to harm it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIB = 1 << 20


class Machines:
    """A head and others that join and leave; all of them are processes here."""

    def __init__(self, processors: int) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": processors, "object_store_memory": 80 * MIB}
        )
        self.address: str = self._cluster.address

    def join(self, processors: int) -> Any:
        """Another machine."""
        return self._cluster.add_node(num_cpus=processors, object_store_memory=80 * MIB)

    def leave(self, node: Any) -> None:
        """It is gone at once, with all that ran on it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def end(self) -> None:
        """All of it is gone at once."""
        self._cluster.shutdown()

    def processes(self, kind: str) -> list[int]:
        """Those of the actors of a class, oldest first."""
        raylets = {
            process.process.pid
            for node in self._cluster.list_all_nodes()
            for process in node.all_processes.get("raylet", [])
        }
        return [pid for pid, parent, name in _everything() if parent in raylets and name.startswith(f"ray::{kind}")]

    def kill(self, kind: str) -> int:
        """End one process of an actor class, without a word; its number."""
        pid = self.processes(kind)[0]
        os.kill(pid, signal.SIGKILL)
        return pid


def _everything() -> Iterator[tuple[int, int, str]]:
    """Every process: its number, its parent's, what it calls itself."""
    for folder in sorted((path for path in Path("/proc").iterdir() if path.name.isdigit()), key=lambda p: int(p.name)):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            yield int(folder.name), parent, (folder / "cmdline").read_text().replace("\0", " ").strip()
        except (OSError, ValueError):  # it has just ended
            continue


@contextmanager
def machines(processors: int) -> Iterator[Machines]:
    """A cluster while the block runs."""
    cluster = Machines(processors)
    try:
        yield cluster
    finally:
        cluster.end()
