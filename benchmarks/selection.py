"""What training the choice of sites does, beside the published hard choice: F1 and density at equal p, over seeds.

Trains demo-mesm with each `selection` and seed, in OUT (finished runs are not done again), and prints a row a run and
the mean and range of each selection. The synthetic corpus is small (60 test utterances): read the ranges first.

    mesm-data sample iemocap /tmp/c && mesm-data build iemocap --source /tmp/c --out /tmp/s --no-video
    OMP_NUM_THREADS=1 python benchmarks/selection.py --data /tmp/s --out /tmp/selection
"""

import argparse
import json
from pathlib import Path
from statistics import mean

from mesm_train.analysis.sweep import HEAD, sweep, write_csv
from mesm_train.config.settings import load_recipe
from mesm_train.training.progress import LineLogger


class Quiet(LineLogger):
    """No line for each step."""

    def step(self, record: object, done: int, count: int) -> None:  # type: ignore[override]
        """Nothing."""


def main() -> None:
    """Train, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of a dataset")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--recipe", default="demo-mesm")
    parser.add_argument("--selections", nargs="+", default=["published", "gate", "straight"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    configs = {
        f"{selection}-{seed}": load_recipe(
            given.recipe,
            [*given.sets, f"data={json.dumps(given.data)}", f"seed={seed}", f"model.sparse.selection={selection}"],
        )
        for seed in given.seeds
        for selection in given.selections
    }
    rows = sweep(configs, given.out, stop=lambda: False, logger=Quiet())
    assert rows is not None
    write_csv(given.out / "selection.csv", rows)
    for cells in (HEAD, *(row.cells() for row in rows)):
        print("  ".join(f"{cell:>12}" for cell in cells))
    for selection in given.selections:
        chosen = [row for row in rows if row.selection == selection]
        parts = []
        for name, values in (
            ("F1", [row.f1 or 0 for row in chosen]),
            ("AUC", [row.auc or 0 for row in chosen]),
            ("kept v", [row.kept["v"] for row in chosen]),
            ("kept a", [row.kept["a"] for row in chosen]),
            ("of dense", [row.macs / row.dense_macs for row in chosen]),
        ):
            parts.append(f"{name} {mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"{selection:>12}: {', '.join(parts)}")


if __name__ == "__main__":
    main()
