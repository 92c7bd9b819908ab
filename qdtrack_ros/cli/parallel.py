"""One task over many items: each in a process of its own on this machine, or each a Ray task on a cluster.

What goes wrong with one item stays with it: an error is reported, a worker that died (out of memory, killed) is tried
once more, and the others go on. Only this module imports ``ray``.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeVar

from qdtrack_ros.cli.main import is_expected, set_up_logging

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
_ANSWER_S = 10.0
ATTEMPTS = 2  # for a worker that dies; an error of the task itself would only come again


class Outcome(NamedTuple):
    """What came of an item.

    Attributes:
        place: of the item in the sequence.
        result: what the task gave; None after an error.
        error: why there is no result; empty when there is one.
        attempts: how often a worker took it up.
    """

    place: int
    result: Any
    error: str
    attempts: int


def run_in_processes(task: Callable[[Item], Any], items: Sequence[Item], jobs: int) -> Iterator[Outcome]:
    """Run the task on every item, at most `jobs` at a time; outcomes as they come.

    Args:
        task: picklable; gives something picklable.
        items: picklable.
        jobs: processes.
    """
    # Forking a process that has used PyTorch's threads would hang.
    context = multiprocessing.get_context("spawn")
    waiting = deque((index, 1) for index in range(len(items)))
    running: dict[Connection, tuple[SpawnProcess, int, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, attempt = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_send_outcome, args=(theirs, task, items[index]), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (process, index, attempt)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, index, attempt = running.pop(connection)
                try:
                    result, error = connection.recv()
                except EOFError:
                    process.join()
                    if attempt < ATTEMPTS:
                        waiting.append((index, attempt + 1))
                        continue
                    result, error = None, f"its worker died {attempt} times, lastly {_manner(process.exitcode)}"
                process.join()
                connection.close()
                yield Outcome(index, result, error, attempt)
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()


def _send_outcome(connection: Connection, task: Callable[[Item], Any], item: Item) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    connection.send(_attempt(task, item))


def _attempt(task: Callable[[Item], Any], item: Item) -> tuple[Any, str]:
    """Result and error of a task, in a worker."""
    set_up_logging()
    try:
        return task(item), ""
    except Exception as error:
        text = str(error) or type(error).__name__
        return None, text if is_expected(error) else f"{type(error).__name__}: {text}"


def _manner(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    return f"with exit code {exit_code}"


def run_on_ray(
    task: Callable[[Item], Any],
    items: Sequence[Item],
    address: str,
    cpus: int,
    gpus: float | None = 0.0,
) -> Iterator[Outcome]:
    """Run the task on every item as Ray tasks; outcomes as they come.

    Args:
        task: picklable; the package must be installed on every machine of the cluster.
        items: picklable; files must lie where every machine finds them.
        address: of the cluster; "auto" takes the one that runs on this machine, and else starts one, for as long as
            this takes.
        cpus: cores that a task claims.
        gpus: GPUs that a task claims, and all that it sees: Ray hides the others from it. A fraction lets tasks share
            one. None claims one where the cluster has any.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: no cluster answers.
    """
    ray = _connect(address)
    try:
        if gpus is None:
            gpus = float("GPU" in ray.cluster_resources())
        _warn_of_waiting(ray, {"CPU": cpus, "GPU": gpus})
        attempt = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=ATTEMPTS - 1)(_attempt)
        pending = {attempt.remote(task, item): index for index, item in enumerate(items)}
        while pending:
            done, _ = ray.wait(list(pending))
            index = pending.pop(done[0])
            try:
                result, error = ray.get(done[0])
            except ray.exceptions.RayError as fault:
                result, error = None, f"its worker died {ATTEMPTS} times: {str(fault).splitlines()[0]}"
            yield Outcome(index, result, error, 1)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("a cluster needs Ray: pip install ray") from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "auto":
        _check_answers(address)
    try:
        ray.init(address=address, **options)
    except ConnectionError:
        if address != "auto":
            raise
        ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
    return ray


def _warn_of_waiting(ray: Any, claim: Mapping[str, float]) -> None:
    """Say so when no machine has what a task claims: unless the cluster grows, Ray would wait forever, in silence."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(machine.get(name, 0) >= amount for name, amount in claim.items()) for machine in machines):
        wanted = " and ".join(f"{amount:g} {name}" for name, amount in claim.items() if amount)
        logger.warning("no machine of the cluster has the %s that a task claims: waiting until one joins", wanted)


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ConnectionError(f"the cluster's address is {address!r}; expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ConnectionError(f"no cluster at {address} ({error}); start one with `ray start --head`") from error
