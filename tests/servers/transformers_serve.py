"""A model's folder behind `transformers serve`, a real server in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest


@contextmanager
def served_by_transformers(folder: Path) -> Iterator[str]:
    """Its root; the test is skipped in words where the server's packages are missing."""
    missing = [name for name in ("fastapi", "uvicorn", "openai") if find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {', '.join(missing)}: transformers[serving]")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = Path(sys.executable).parent / "transformers"
    asked = ["serve", str(folder), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = folder.parent / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen([command, *asked], env=quiet, stdout=written, stderr=written) as server,
    ):
        try:
            root = f"http://127.0.0.1:{port}"
            _wait_for(root, server, log)
            yield root
        finally:
            server.kill()


def _wait_for(root: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{root}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"transformers serve did not start: {log.read_text()[-2000:]}")
