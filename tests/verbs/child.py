"""The command in a process of its own, so that it can be killed often."""

import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import preceptor.cli
from tests import warm


def started(arguments: list[str], log: Path, limit: int = 0) -> BaseProcess:
    """`preceptor` with these arguments; with `limit`, no file may grow beyond so many bytes."""
    return warm.started(command, arguments, limit, log=log)


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


def command(arguments: list[str], limit: int = 0) -> None:
    """`preceptor` with these arguments, in this process."""
    sys.argv = ["preceptor", *arguments]
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    preceptor.cli.main()
