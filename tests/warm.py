"""Processes of their own that are forked warm, so that many can be started, and killed.

A fork server imports everything once; each child is a real process that runs the real thing.
"""

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


def started(
    run: Callable[..., None],
    *arguments: Any,
    log: Path,
    environment: dict[str, str] | None = None,
) -> BaseProcess:
    """`run(*arguments)` in a process of its own, here; what it says goes to `log`."""
    with contextlib.chdir(ROOT):  # where the server finds this module
        forkserver.ensure_running()
    whole = {**os.environ, **(environment or {})}
    child = _CONTEXT.Process(target=_run, args=(run, arguments, log, Path.cwd(), whole))
    child.start()
    return child


def together(processes: int, run: Callable[..., None], *arguments: Any, log: Path) -> str:
    """What `run(*arguments)` says in processes that know of each other; they must end well.

    They are told of each other as torchrun tells them, and compute on the CPU.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    said = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if processes > 1:
        said |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        said |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    logs = [log.with_name(f"{log.name}-{rank}") for rank in range(processes)]
    children = []
    for rank, own in enumerate(logs):
        whole = said | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
        children.append(started(_one_of, processes, run, arguments, log=own, environment=whole))
    end = time.monotonic() + 240
    while any(child.is_alive() for child in children):
        if time.monotonic() > end or any(child.exitcode for child in children):
            for child in children:  # the others would wait for it
                child.kill()
        time.sleep(0.005)
    texts = [own.read_text() for own in logs]
    assert not any(child.exitcode for child in children), "\n".join(texts)[-4000:]
    return "".join(texts)


def _one_of(processes: int, run: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    from accelerate import PartialState

    try:
        run(*arguments)
    except SystemExit as ended:  # as a command ends, well or not
        if ended.code:
            raise
    assert PartialState().num_processes == processes


def _run(
    run: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path,
    here: Path,
    environment: dict[str, str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(here)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    run(*arguments)
