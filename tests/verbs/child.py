"""The command in a process of its own that is forked warm, so that it can be killed often.

A fork server imports everything once; each child is a real process that runs the real command.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

# What a child needs, imported by the fork server. Nothing is computed there: no thread is started.
import preceptor.cli
import preceptor.data.loading
import preceptor.evaluate.plots
import preceptor.verbs.distill

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def started(arguments: list[str], log: Path, limit: int = 0) -> BaseProcess:
    """`preceptor` with these arguments; with `limit`, no file may grow beyond so many bytes."""
    child = _CONTEXT.Process(target=_command, args=(arguments, log, os.getcwd(), limit))
    child.start()
    return child


def finished(arguments: list[str], log: Path, limit: int = 0) -> tuple[int | None, str]:
    """The exit code and all that was said."""
    child = started(arguments, log, limit)
    child.join(120)
    return child.exitcode, log.read_text()


def killed(
    arguments: list[str], log: Path, moment: Callable[[], bool], delay: random.Random
) -> bool:
    """SIGKILL a command a little after a moment has come; whether it was still running."""
    child = started(arguments, log)
    while child.is_alive() and not moment():
        time.sleep(0.002)
    time.sleep(delay.uniform(0, 0.02))
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def _command(arguments: list[str], log: Path, here: str, limit: int) -> None:
    os.chdir(here)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["preceptor", *arguments]
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    preceptor.cli.main()
