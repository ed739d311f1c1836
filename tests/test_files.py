"""lab/files.py: locks where there are none, and files that are written whole or not at all."""

import errno
import fcntl
import os

import filelock
import pytest

from lab import files


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_works_with_one_warning(number, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with files.lock(tmp_path / "runs" / "lock"), files.lock(tmp_path / "runs" / "lock"):  # nobody waits
            pass
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == f"warning: no file can be locked ({os.strerror(number)}), {tmp_path}/runs, run one script at a time there"
    )


def test_a_lock_is_held_against_others_and_asking_for_it_takes_it_from_nobody(tmp_path):
    path = tmp_path / "lock"
    with files.lock(path):
        other = files.lock(path)  # whose probe finds it taken
        with pytest.raises(filelock.Timeout):
            other.acquire(timeout=0)
    with other.acquire(timeout=0):
        pass


@pytest.mark.parametrize("number", [errno.EPERM, errno.ESTALE, errno.EIO])
def test_a_file_that_cannot_be_renamed_leaves_the_old_one_and_names_itself(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "table.csv"
    files.write_whole(path, b"old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        files.write_whole(path, b"new")
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
