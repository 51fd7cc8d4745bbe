"""RUN/report.html: one page, without scripts, from which no request leaves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mesm_data.pages.page import render
from mesm_data.splits.resolve import PARTS
from mesm_data.storage.files import atomic_write
from mesm_train.report import figures
from mesm_train.report.evidence import Evidence, collect_evidence, inputs_section, mistakes_section
from mesm_train.report.operations import operations_section, part_title
from mesm_train.report.predictions import resample
from mesm_train.report.record import Record, read_record
from mesm_train.report.scores import groups_section, scores_section
from mesm_train.report.site_selection import PIECE, SHOWN

if TYPE_CHECKING:
    from mesm_train.training.setup import Setup

KINDS = {
    "fe2e": "FE2E (dense)", "mesm": "MESM (sparse)", "lf-lstm": "LF-LSTM (two-phase)",
    "lf-transformer": "LF-Transformer (two-phase)", "emo-embs": "EmoEmbs (two-phase)", "mult": "MulT (two-phase)",
}  # fmt: skip
MODALITY_TITLES = {"t": "text", "v": "video", "a": "audio"}


def write_report(run: Path, setup: "Setup | None" = None, *, inputs: Sequence[str] = ()) -> Path:
    """Write RUN/report.html as far as the run has come; returns its path.

    Args:
        run: the folder of a run. The page names what is missing in it.
        setup: the run with the weights of its best epoch. Without it the page has what the folder alone holds: no
            groups, no media and no kept sites.
        inputs: keys whose faces, spectrogram and kept sites are shown, unless the run has report.media=false.

    Raises:
        InputError: there is no folder `run`.
    """
    record, evidence = read_record(run), Evidence()
    if setup is not None:
        evidence = collect_evidence(setup, record, inputs, media=shows_media(record))
        record = replace(record, known_titles={**record.known_titles, **evidence.titles})
    path = run / "report.html"
    with atomic_write(path) as file:
        file.write(render_report(record, evidence).encode())
    return path


def shows_media(record: Record) -> bool:
    """Whether pictures, sound and transcripts may be on the page."""
    return record.settings.get("report", {}).get("media") is not False


def render_report(record: Record, evidence: Evidence | None = None) -> str:
    """The page of one run."""
    evidence = evidence or Evidence()
    resampled = resample(record.predictions) if record.predictions else None
    return render(
        "mesm_train.report",
        "report.html",
        run=record,
        summary=summary(record),
        licence=record.provenance.get("dataset", {}).get("licence", {}),
        leaks=leaks(record.provenance.get("split", {})),
        scores=scores_section(record, resampled),
        groups=groups_section(record, evidence.facts),
        mistakes=mistakes_section(record, evidence),
        training=training_section(record),
        operations=operations_section(record.operations),
        inputs=inputs_section(record, evidence),
        sparse=record.settings.get("model", {}).get("sparse", {}),
        kind=record.settings.get("model", {}).get("kind"),
        shows_media=shows_media(record),
        evidence=evidence,
        seconds_shown=SHOWN,
        piece_seconds=PIECE,
        provenance=list(provenance_groups(record)),
        settings=settings_text(record),
    )


def summary(record: Record) -> dict[str, Any]:
    """The facts of the page's head."""
    model, provenance = record.settings.get("model", {}), record.provenance
    dataset, split = provenance.get("dataset", {}), provenance.get("split", {})
    counts = split.get("counts", {})
    parameters = record.operations.get("parameters", {})
    sessions = record.sessions
    return {
        "kind": KINDS.get(model.get("kind"), model.get("kind") or "A model"),
        "modalities": " + ".join(MODALITY_TITLES.get(m, str(m)) for m in model.get("modalities", "tva")),
        "corpus": dataset.get("corpus"),
        "view": provenance.get("labels", {}).get("view"),
        "split": split.get("name"),
        "counts": [(part, record.used.get(part, counts[part]), counts[part]) for part in PARTS if part in counts],
        "parameters": sum(parameters.values()) if parameters else None,
        "parts": [(part_title(name), count) for name, count in parameters.items()],
        "started": sessions[0].started if sessions else None,
        "ended": sessions[-1].ended if sessions else None,
        "seconds": sum(line.get("seconds") or 0 for line in record.train) or None,
        "sessions": sessions,
        "command": sessions[0].command if sessions else None,
        "device": provenance.get("environment", {}).get("gpu") or provenance.get("environment", {}).get("cpu"),
        "threads": provenance.get("environment", {}).get("threads"),
    }


def leaks(split: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the parts of a split share, and what of it is not in the dataset; None if nothing is recorded."""
    if not split:
        return None
    shared = split.get("leaks", {})
    missing = {status: count for status, count in split.get("missing", {}).items() if count}
    return {
        "any": any(shared.values()),
        **{name: shared.get(name, 0) for name in ("speakers", "dialogs", "overlaps")},
        "missing": ", ".join(f"{count} {status}" for status, count in missing.items()),
    }


def training_section(record: Record) -> dict[str, Any] | None:
    """The curves and what stands below them; None if nothing has been trained."""
    if not record.train:
        return None
    speeds = sorted(line["samples_per_s"] for line in record.train if line.get("samples_per_s") is not None)
    waits = [line["data_wait"] for line in record.train if line.get("data_wait") is not None]
    memory = [line["memory_gb"] for line in record.train if line.get("memory_gb") is not None]
    seconds = sum(line.get("seconds") or 0 for line in record.train)
    grid = record.settings.get("eval", {}).get("thresholds", ())
    return {
        "figure": figures.curves([curve(record)]),
        "steps": record.train[-1]["step"],
        "epochs": len(record.valid),
        "best_epoch": record.best["epoch"] if record.best else None,
        "chosen_thresholds": record.task == "binary" and len(grid) != 1,
        "weighted": record.settings.get("optim", {}).get("pos_weight") and "binary" in record.kinds.values(),
        "speed": speeds[len(speeds) // 2] if speeds else None,
        "seconds": seconds or None,
        "wait": sum(waits) / seconds if waits and seconds else None,
        "memory": max(memory) if memory else None,
    }


def curve(record: Record) -> figures.Curve:
    """The lines of a run's metrics.jsonl for a figure."""
    best = record.best["step"] if record.best else None
    return figures.Curve(name=record.folder, train=record.train, valid=record.valid, best_step=best)


def provenance_groups(record: Record) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The facts in provenance.json that identify the run, as (group, [(name, text)])."""
    for group in ("dataset", "split", "labels", "seed", "text", "code", "environment"):
        if group in record.provenance:
            yield group, list(flat_facts(record.provenance[group]))


def flat_facts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat_facts(inner, f"{prefix} {key}".strip())
    elif isinstance(value, bool):
        yield prefix, "yes" if value else "no"
    else:
        yield prefix, "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def settings_text(record: Record) -> str:
    """The complete settings as YAML."""
    return yaml.safe_dump(dict(record.settings), sort_keys=False, allow_unicode=True)
