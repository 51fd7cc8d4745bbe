"""A comparison as files: its tables in all formats, results.json and a figure."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import write_json
from mesm_train.analysis.compare import Comparison, mean_baselines
from mesm_train.analysis.run_records import METRICS
from mesm_train.analysis.tables import FORMATS, SUFFIXES, Table, render

SCHEMA = "mesm-comparison/1"


def write_comparison(out: Path, comparison: Comparison, tables: Sequence[Table]) -> None:
    """Write OUT/table.{txt,md,csv,tex}, OUT/classes.{…}, OUT/results.json and OUT/figure.png."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in zip(("table", "classes"), tables, strict=True):
        for form in FORMATS:
            with atomic_write(out / f"{name}.{SUFFIXES[form]}") as file:
                file.write(render(table, form).encode())
    write_json(out / "results.json", as_dict(comparison))
    temporary = out / ".figure.png"
    write_figure(temporary, comparison)
    temporary.replace(out / "figure.png")


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The content of results.json of a comparison; docs/protocols.md describes it."""
    first = comparison.first_run
    return {
        "schema": SCHEMA,
        "dataset": first.provenance["dataset"],
        "labels": first.provenance["labels"],
        "metric": comparison.metric,
        "systems": [
            {
                "name": system.name,
                "settings": dict(system.runs[0].provenance["config"]),
                "parameters": system.runs[0].results["model"]["parameters"],
                "mega_macs": system.runs[0].mega_macs,
                "caveats": list(comparison.caveats[system.name]),
                "metrics": {name: asdict(system.estimate(name)) for name in comparison.metrics},
                "difference": asdict(comparison.tests[system.name][0]) if system.name in comparison.tests else None,
                "p_holm": comparison.tests[system.name][1] if system.name in comparison.tests else None,
                "paired_runs": asdict(pairs) if (pairs := comparison.pairs(system)) else None,
                "runs": [
                    {
                        "fold": run.fold,
                        "seed": run.seed,
                        "variant": run.variant,
                        "split": dict(run.provenance["split"]),
                        "seconds": run.results["training"]["seconds"],
                        "metrics": {name: run.value(name) for name in comparison.metrics},
                        "by_output": {
                            name: dict(zip(run.outputs, run.by_output(name), strict=True))
                            for name in comparison.metrics
                            if METRICS[name].table != "exclusive"
                        },
                    }
                    for run in system.runs
                ],
            }
            for system in comparison.systems
        ],
        "baselines": mean_baselines(comparison),
    }


def write_figure(path: Path, comparison: Comparison) -> None:
    """The metric of each system as a bar with its runs as dots, the best trivial baseline as a line."""
    from matplotlib.figure import Figure

    spec, systems = METRICS[comparison.metric], comparison.systems
    figure = Figure(figsize=(1.6 + 1.1 * len(systems), 3.2), layout="constrained")
    axes = figure.subplots()
    for place, system in enumerate(systems):
        values = [value for run in system.runs if (value := run.value(comparison.metric)) is not None]
        axes.bar(place, fmean(values) if values else 0.0, width=0.6, color="#9db8d9")
        axes.plot(np.full(len(values), place), values, "o", color="#27476e", markersize=4)
    constants = [
        value for of in mean_baselines(comparison).values() if (value := of.get(comparison.metric)) is not None
    ]
    if constants:
        best = min(constants) if spec.lower_is_better else max(constants)
        axes.axhline(best, color="#b04a3f", linestyle="--", label="best trivial baseline")
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    axes.set_xticks(range(len(systems)), [system.name for system in systems], rotation=20, ha="right", fontsize=8)
    axes.set_ylabel(spec.title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
