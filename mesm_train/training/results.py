"""RUN/results.json: the outcome of a run in one file, from which tables and leaderboards can be built.

docs/protocols.md describes its content. It is written once, when the best epoch has been scored.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mesm_data.storage.json_files import write_json
from mesm_train.evaluation.score_values import Scores
from mesm_train.training.setup import Setup

RUN_SCHEMA = "mesm-run-results/1"


def write_run_results(
    run: Path, setup: Setup, epoch: int, scores: dict[str, Scores], records: Sequence[dict[str, Any]]
) -> None:
    """Write RUN/results.json.

    Args:
        run: The run's folder.
        setup: The run with the weights of its best epoch.
        epoch: That epoch.
        scores: Of each part that was scored.
        records: The lines of metrics.jsonl.
    """
    config, facts = setup.config, setup.provenance
    updates = [record for record in records if record["kind"] == "train"]
    write_json(
        run / "results.json",
        {
            "schema": RUN_SCHEMA,
            "name": config.name,
            "model": {
                "kind": config.model.kind,
                "modalities": list(config.model.modalities),
                "parameters": sum(parameter.numel() for parameter in setup.model.parameters()),
                "trainable_parameters": sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
            },
            "dataset": facts["dataset"],
            "split": facts["split"],
            "labels": facts["labels"],
            "sampler": config.sampler,
            "undetected": config.loader.undetected,
            "seed": config.seed,
            "code": facts["code"],
            "training": {
                "best_epoch": epoch,
                "epochs": len({record["epoch"] for record in records if record["kind"] == "valid"}),
                "updates": len(updates),
                "seconds": sum(record.get("seconds") or 0.0 for record in updates),
            },
            "scores": scores,
        },
    )
