"""The engine of a Ray cluster: a running one (RAY_ADDRESS, or on this machine), otherwise a new local one.

Items run on any free core of any node. Nodes may join and leave: the items of a lost node are repeated.
"""

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mesm_data.errors import InputError, MesmError
from mesm_data.pipeline.executors.base import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 4  # per item: a node may be lost for another reason; an item that fails so often kills its workers


def run_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Run the engine of a Ray cluster, see base.py. Each node needs the package of `function`.

    At most `workers` items are submitted at a time, by default the current number of cores of the cluster. An item
    whose worker or node dies is repeated, up to `ATTEMPTS` attempts in total.

    Raises:
        InputError: Ray is not installed, or no cluster can be reached.
    """
    ray = ray_package()
    # Ray can repeat tasks itself, but would repeat a task that runs out of memory forever.
    with _cluster(ray):
        task = ray.remote(num_cpus=1, max_retries=0)(function)
        todo, deaths = deque(range(len(items))), Counter[int]()
        pending: dict[Any, int] = {}
        try:
            while todo or pending:
                while todo and len(pending) < (workers or _cores(ray)):
                    number = todo.popleft()
                    pending[task.remote(items[number])] = number
                for reference in _ready(ray, list(pending)):
                    number = pending.pop(reference)
                    result = _result(ray, reference)
                    if isinstance(result, WorkerDied):
                        deaths[number] += 1
                        if deaths[number] < ATTEMPTS:
                            todo.append(number)
                            continue
                    yield items[number], result
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)


def _ready(ray: Any, references: list[Any]) -> list[Any]:
    """The references that are done. Waits 10 seconds: Ray does not report a change of the number of cores."""
    try:
        done, _ = ray.wait(references, num_returns=1, timeout=10)
    except SystemError as error:  # an exception of a signal handler inside Ray's compiled code
        raise (error.__cause__ or error) from None
    return list(done)


def _result(ray: Any, reference: Any) -> Any:
    """The result of a task, or WorkerDied. Raises the task's own exception."""
    died = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "LocalRayletDiedError", "ObjectLostError")
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if "failed to import on the worker" in str(error.cause):
            raise MesmError(
                f"the node {error.ip} of the Ray cluster cannot import mesm: install the same version on every node"
            ) from error
        raise error.cause from None
    except tuple(getattr(ray.exceptions, name) for name in died):
        return WorkerDied()
    except ray.exceptions.RayError as error:
        raise MesmError(f"Ray could not run a task: {str(error).splitlines()[0]}") from error


def ray_package() -> Any:
    """The package ray. Raises InputError if it is not installed."""
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError("--engine ray needs the package ray, on every node: pip install 'mesm[ray]'") from None
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connect to the cluster, unless the caller is connected."""
    if ray.is_initialized():
        yield
        return
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _check_reachable(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster can be reached ({str(error).splitlines()[0]}): see RAY_ADDRESS, and `ray status`"
        ) from None
    signal.signal(signal.SIGTERM, terminate)  # Ray installs its own handler, which exits
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises OSError or ValueError if nothing listens at host:port. Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


def _cores(ray: Any) -> int:
    """The number of cores of all live nodes."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
