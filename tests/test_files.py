import errno
from pathlib import Path

import pytest

from preceptor.errors import StorageError
from preceptor.files import write_atomically


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(beside: Path) -> None:
        beside.write_bytes(b"new")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StorageError, match="Input/output error"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    write_atomically(path, lambda beside: beside.write_bytes(b"new"))
    assert path.read_bytes() == b"new"
