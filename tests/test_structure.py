"""The folders of the packages are stages: imports run one way, and no two modules import each other."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# A folder may import from those before it. A new folder is added at its place.
STAGES = {
    "mesm_data": [
        "errors", "pages", "storage", "schema", "media", "splits", "dataset", "corpora", "integrity", "features",
        "pipeline", "publishing", "browse", "synthetic",
    ],
    "mesm_train": [
        "config", "data", "models", "evaluation", "training", "inference", "report", "explain", "app", "runs",
        "analysis",
    ],
}  # fmt: skip


def modules(package: str) -> dict[str, Path]:
    root = REPOSITORY / package
    names = {path: ".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """The modules of the same package that a module imports, anywhere in it."""
    targets = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            targets |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
    return (targets & known.keys()) - {name}


@pytest.mark.parametrize("package", STAGES)
def test_imports_run_from_later_stages_to_earlier_ones(package: str) -> None:
    known, order = modules(package), STAGES[package]
    for name in known.keys() - {package}:
        stage = order.index(name.split(".")[1])
        for imported in imports(name, known) - {package}:
            assert order.index(imported.split(".")[1]) <= stage, f"{name} imports {imported}"


@pytest.mark.parametrize("package", STAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    known = modules(package)
    folders = {name for name, path in known.items() if path.name == "__init__.py"}
    TopologicalSorter({name: imports(name, known) - folders for name in known}).prepare()


@pytest.mark.parametrize("package", STAGES)
def test_only_the_errors_lie_outside_the_stages(package: str) -> None:
    loose = {path.name for path in (REPOSITORY / package).glob("*.py")}
    assert loose <= {"__init__.py", "errors.py"}
