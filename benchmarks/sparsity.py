"""What each part of the sparse blocks does to quality: the runs of docs/experiments.md, on a synthetic corpus.

Trains every variant below with every seed, in OUT (finished runs are not trained again; a stopped one is resumed by the
same command), and prints a row a run and a summary a variant. The protocol is in docs/experiments.md.

    mesm-data sample iemocap /tmp/c --dialogs 42
    mesm-data build iemocap --source /tmp/c --out /tmp/s --no-video
    OMP_NUM_THREADS=1 python benchmarks/sparsity.py --data /tmp/s --out /tmp/sparsity --set model.modalities=[t,v]
"""

import argparse
import json
from pathlib import Path

from mesm_train.analysis.sweep import HEAD, SUMMARY_HEAD, measure, run_name, summarise, train_all, write_csv
from mesm_train.config.recipe_files import load_recipe
from mesm_train.training.allocator import keep_freed_memory
from mesm_train.training.progress import LineLogger

PUBLISHED_START = ["model.sparse.init=published", "model.sparse.bn_momentum=0.01"]
SITES = ["model.kind=mesm", "model.sparse.tile=1", "model.sparse.anneal_epochs=0"]
PUBLISHED = [*SITES, "model.sparse.selection=published"]
GATE = [*SITES, "model.sparse.selection=gate"]
VARIANTS = {
    "fe2e": ["model.kind=fe2e"],
    # All sites: what the start and the batch norms' momentum do.
    "p1-published-start": [*PUBLISHED, "model.sparse.p=1", *PUBLISHED_START],
    "p1-start-only": [*PUBLISHED, "model.sparse.p=1", "model.sparse.init=published"],
    "p1": [*PUBLISHED, "model.sparse.p=1"],
    "p1-gate": [*GATE, "model.sparse.p=1"],
    # Half of the operations: how sites are chosen, and what becomes of the others.
    "random": [*PUBLISHED, "model.sparse.p=0.7"],
    "gate": [*GATE, "model.sparse.p=0.7"],
    "straight": [*SITES, "model.sparse.selection=straight", "model.sparse.p=0.7"],
    "gate-anneal": [*GATE, "model.sparse.p=0.7", "model.sparse.anneal_epochs=2"],
    "tile2": [*GATE, "model.sparse.p=0.4", "model.sparse.tile=2", "model.sparse.anneal_epochs=2"],
    "tile4": [*GATE, "model.sparse.p=0.35", "model.sparse.tile=4", "model.sparse.anneal_epochs=2"],
    # The dense rival: a narrower FE2E with about the operations of the variants above.
    "fe2e-narrow": ["model.kind=fe2e", "model.channels=[6,11,22,45]"],
}  # fmt: skip


def main() -> None:
    """Train, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of a dataset")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    keep_freed_memory()
    common = [
        f"data={json.dumps(options.data)}", "optim.lr=1e-3", f"optim.epochs={options.epochs}", "report.media=false",
        "model.stem_blocks=1", *options.sets,
    ]  # fmt: skip
    configs = {name: load_recipe("demo-mesm", [*common, *VARIANTS[name]]) for name in options.variants}
    rows = train_all(configs, options.seeds, options.out, stop=lambda: False, logger=LineLogger())
    assert rows is not None
    seconds = measure({name: options.out / run_name(name, options.seeds[0]) for name in configs})
    for head, cells in ((HEAD, rows), (SUMMARY_HEAD, summarise(rows, seconds))):
        print("  ".join(f"{cell:>20}" for cell in head))
        for row in cells:
            print("  ".join(f"{cell:>20}" for cell in row.cells()))
    write_csv(options.out / "runs.csv", HEAD, rows)
    write_csv(options.out / "summary.csv", SUMMARY_HEAD, summarise(rows, seconds))


if __name__ == "__main__":
    main()
