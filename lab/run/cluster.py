"""Workers of a Dask cluster do the runs. They need the same packages, but no file of this repository."""

import importlib.metadata
import io
import logging
import pickle
import platform
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

from lab.errors import InputError
from lab.files import ROOT


class GaveUp(Exception):
    """All workers died that had a call, or that had what it was to be given."""


@contextmanager
def executor(address: str, data: tuple, versions: dict[str, str]) -> Iterator[Callable[[Callable], Future]]:
    """submit(call): call(data) on a worker of the scheduler at `address`, which gets the data and our code once.

    What it gives raises GaveUp where a call may be tried again. Raises InputError where no scheduler or worker answers,
    where the scheduler is lost, and for a worker that might give other results.
    """
    where = f"--cluster {address}"
    with _client(address, where) as client:
        import cloudpickle
        from distributed.comm import CommClosedError

        on_worker, to_give, given = _on_worker(), (_source(), pickle.dumps(data)), ()

        def submit(call: Callable) -> Future:
            nonlocal given
            if client.status != "running":
                raise CancelledError
            if {part.status for part in given} != {"finished"}:  # or all workers died that had it
                try:
                    client.wait_for_workers(1, timeout=30)
                except TimeoutError:
                    remedy = f"start some with `dask worker {address} --nthreads 1`"
                    raise InputError("the scheduler has no workers", where, remedy) from None
                given = client.scatter(to_give, broadcast=True, hash=False)
            return _future(client.submit(on_worker, given, cloudpickle.dumps((call, versions)), pure=False), client)

        try:
            yield submit
        except (CancelledError, CommClosedError):
            remedy = "finished runs are kept, the same command goes on from here"
            raise InputError("the scheduler is lost", where, remedy) from None


def _client(address: str, where: str) -> Any:
    """Dask's own."""
    try:
        import cloudpickle  # noqa: F401
        from distributed import Client
    except ImportError:
        remedy = 'python -m pip install -e ".[cluster]"'
        raise InputError("dask.distributed is not installed", where, remedy) from None
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # one line will say it
    try:
        return Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start it with `dask scheduler`, and `dask worker ADDRESS --nthreads 1` on each machine"
        raise InputError(f"no Dask scheduler answers ({error})", where, remedy) from None


def _future(task: Any, client: Any) -> Future:
    """Of what a task gives; Dask's own executor forgets what it is fetching when the scheduler dies."""
    from distributed import KilledWorker

    future = Future()

    def end(task: Any) -> None:
        try:
            future.set_result(task.result())
        except (KilledWorker, CancelledError) as error:
            future.set_exception(GaveUp() if client.status == "running" else error)
        except BaseException as error:
            future.set_exception(error)

    task.add_done_callback(end)
    return future


def _source() -> bytes:
    """The scripts and the laboratory as a ZIP archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as whole:
        for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("lab/**/*.py"), ROOT / "study.mplstyle"]):
            whole.writestr(str(path.relative_to(ROOT)), path.read_bytes())
    return archive.getvalue()


def _on_worker() -> Callable:
    """What a worker does first; as an inner function it is sent whole, where another would be sent by its name."""

    def call(given: tuple[bytes, bytes], message: bytes):
        """Unpack the code that was sent, where the worker has not done so, and do the call with the data."""
        import hashlib
        import io
        import pickle
        import sys
        import tempfile
        import zipfile

        source, data = given
        digest = hashlib.sha256(source).hexdigest()
        before, folder = getattr(sys, "_mlps_against_cnns", (None, None))
        if before != digest:  # a worker may have had another version before
            if folder:
                sys.path.remove(folder.name)
                folder.cleanup()
            folder = tempfile.TemporaryDirectory()
            with zipfile.ZipFile(io.BytesIO(source)) as whole:
                whole.extractall(folder.name)
                names = {name.removesuffix(".py").split("/")[0] for name in whole.namelist()}
            for name in [name for name in sys.modules if name.split(".")[0] in names]:
                del sys.modules[name]
            sys.path.insert(0, folder.name)
            sys._mlps_against_cnns = digest, folder
        from lab.run import cluster

        function, versions = pickle.loads(message)
        cluster.check_worker(versions)
        return function(pickle.loads(data))

    return call


def check_worker(versions: dict[str, str]) -> None:
    """Raises InputError for a worker of a cluster that might give other results than the script's machine."""
    from distributed import get_worker

    where = f"worker {get_worker().address} on {platform.node()}"
    own = {name: importlib.metadata.version(name) for name in versions}
    if versions != own:
        here, there = (" ".join(f"{n} {v}" for n, v in found.items()) for found in (own, versions))
        raise InputError(f"it has {here}", where, f"install {there} there")
    if get_worker().state.nthreads > 1:
        raise InputError("it runs several threads", where, "start it with --nthreads 1 --nworkers N")
