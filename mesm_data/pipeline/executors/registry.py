"""Executors by name."""

from mesm_data.errors import InputError
from mesm_data.pipeline.executors.base import Engine

ENGINES = ("local", "ray")


def engine(name: str) -> Engine:
    """The engine `name`. Raises InputError if there is none of that name."""
    if name == "local":
        from mesm_data.pipeline.executors import local

        return local.run
    if name == "ray":
        from mesm_data.pipeline.executors import ray

        return ray.run
    raise InputError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
