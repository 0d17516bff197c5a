"""Two processes that a launcher would have started."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def run_pair(work: Callable[..., None], *arguments: Any, out: Path, seconds: float = 120) -> list[tuple[int, str]]:
    """``work`` with ``arguments`` in both; how each ended and what it wrote, in ``out`` meanwhile.

    Whoever is not done in time is killed.
    """
    # A server that has imported everything once, and forks: fresh interpreters take longer than most of what they do.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_devices"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir(exist_ok=True)
    processes = [context.Process(target=_launched, args=(rank, port, out, work, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
    return [(process.exitcode or 0, (out / f"{rank}.txt").read_text()) for rank, process in enumerate(processes)]


def _launched(rank: int, port: int, out: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with (out / f"{rank}.txt").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    try:
        work(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
