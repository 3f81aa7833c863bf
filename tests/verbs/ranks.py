"""Commands in two processes, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def in_two_processes(*arguments: str, cwd: Path) -> str:
    """What `preceptor ARGUMENTS` prints, from both processes; they must end well."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-addr", "127.0.0.1", "--master-port", str(port)),
            *("-m", "preceptor", *arguments),
        ],
        cwd=cwd,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
