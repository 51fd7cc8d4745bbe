"""The engines by name."""

from mesm_data.errors import InputError
from mesm_data.pipeline.executors.base import Engine

ENGINES = ("local", "ray")


def get_engine(name: str) -> Engine:
    """The engine `name`. Raises InputError if there is no such engine, or its package is not installed."""
    if name == "local":
        from mesm_data.pipeline.executors.local import run_local

        return run_local
    if name == "ray":
        from mesm_data.pipeline.executors.ray import ray_package, run_on_ray

        ray_package()
        return run_on_ray
    raise InputError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
