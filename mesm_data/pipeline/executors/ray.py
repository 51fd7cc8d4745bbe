"""Work on a Ray cluster: the one that is there (RAY_ADDRESS, or one that runs on this machine), else a local one.

Items go to whatever core is free on any node. Nodes may come and go: what a lost node had under way is done again.
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

ATTEMPTS = 4  # of one item: nodes may vanish beside it; what also fails then kills its workers itself


def run_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """The engine of a Ray cluster, see base.py. The package that holds `function` is needed on each node.

    No more than `workers` items are with Ray at once, by default as many as the cluster has cores just then. An item
    whose worker or node dies is done again, `ATTEMPTS` times in all. Raises InputError if there is no Ray to work with.
    """
    ray = _package()
    # Ray can repeat tasks itself, but it would repeat one that runs out of memory for ever.
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
    """Those that are done; none after some seconds, since a core more or less is no event that Ray would report."""
    try:
        done, _ = ray.wait(references, num_returns=1, timeout=10)
    except SystemError as error:  # what a signal's handler raises inside of Ray's compiled code comes out as this
        raise (error.__cause__ or error) from None
    return list(done)


def _result(ray: Any, reference: Any) -> Any:
    """What the task returned, or WorkerDied. Raises the task's own exception."""
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


def _package() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError("--engine ray needs the package ray, on every node: pip install 'mesm[ray]'") from None
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to the cluster, unless the caller has one."""
    if ray.is_initialized():
        yield
        return
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _answers(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster can be reached ({str(error).splitlines()[0]}): see RAY_ADDRESS, and `ray status`"
        ) from None
    signal.signal(signal.SIGTERM, terminate)  # Ray puts its own in place, which exits
    try:
        yield
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    """Raises OSError or ValueError if nothing listens at host:port. Ray itself tries for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


def _cores(ray: Any) -> int:
    """The cores of the nodes that are alive now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
