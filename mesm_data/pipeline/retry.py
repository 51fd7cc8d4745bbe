"""Rebuild what a repair of the source changes. The result is identical to a new build, without its cost.

The rule is the same for a finished dataset and for an interrupted build (or retry): an utterance is kept if nothing of
it was lost, the scan says the same of it, and all files that it was made from are unchanged; all others are rebuilt.

A finished dataset is turned back into the parts of a build that lacks the other utterances only; of an interrupted
build, parts with an utterance to rebuild are deleted. Then the build is resumed. Until the parts are complete, a
finished dataset stays as it is.
"""

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from mesm_data.corpora.inventory import changed_files, describe_source
from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows
from mesm_data.dataset.manifest import manifest_row, manifest_schema
from mesm_data.dataset.members import normalize_text
from mesm_data.dataset.parts import completed_parts, delete_part
from mesm_data.dataset.recipe import Recipe, describe_difference, describe_toolchain_difference
from mesm_data.errors import InputError
from mesm_data.pipeline.build import make_plan, resume_build
from mesm_data.pipeline.build_run import BuildRun
from mesm_data.pipeline.executors.registry import get_engine
from mesm_data.pipeline.selection import select_utterances
from mesm_data.pipeline.source_comparison import SourceComparison, is_lost, is_part_kept
from mesm_data.pipeline.source_record import index_source, load_source_index, save_source_index
from mesm_data.pipeline.unpack import PartUnpacker
from mesm_data.schema.recordings import Corpus
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import sync_folder
from mesm_data.storage.json_files import canonical_json, write_json
from mesm_data.storage.json_shapes import RECIPE_SHAPE, read_checked_json
from mesm_data.storage.progress import Progress, no_progress

MAX_SHOWN = 5  # changed files

Report = Callable[[str], object]


def read_recorded_plan(out: Path) -> dict[str, Any]:
    """The content of dataset.json, or the plan of an interrupted build. Raises InputError if there is neither."""
    plan = out / ".build" / "recipe.json"
    if not (out / "dataset.json").exists() and plan.exists():
        return read_checked_json(plan, RECIPE_SHAPE)
    return read_dataset_info(out)


def recipe_from_info(info: Mapping[str, Any]) -> Recipe:
    """The recipe that a dataset records. Raises InputError if this version of mesm would detect other faces with it."""
    names = [field.name for field in fields(Recipe)]
    recorded = info["recipe"]
    if missing := [name for name in names if name not in recorded]:
        raise InputError(
            f"the dataset's recipe does not say {missing[0]}: another version of mesm made it. Build it anew"
        )
    recipe = Recipe(**{name: recorded[name] for name in names})
    if differs := describe_difference(recorded, recipe.as_dict()):
        raise InputError(f"the dataset was made by another version of mesm: {differs}. Build it anew")
    return recipe


def retry_dataset(
    corpus: Corpus,
    out: Path,
    *,
    workers: int | None = None,
    engine: str = "local",
    face_model: Path | None = None,
    progress: Progress = no_progress,
    report: Report = lambda sentence: None,
) -> dict[str, Any]:
    """Rebuild what is not kept (see above) of a dataset or an interrupted build.

    Args:
        corpus: The corpus, scanned again.
        out: The folder of the dataset or build.
        workers: The number of processes; None for one per core.
        engine: The name of the engine.
        face_model: The model file of the face detector, if it needs one.
        progress: As for `build_dataset`; further phases are "compare", which reads each source file once, and "unpack".
        report: Is called with sentences about what is done.

    Returns:
        The content of dataset.json.

    Raises:
        InputError: `corpus` is not the source, files of it or the engine are missing, or the toolchain differs. Nothing
            is changed.
    """
    get_engine(engine)
    with folder_lock(out / ".build" / "lock"):
        info = read_recorded_plan(out)
        recipe = recipe_from_info(info)
        source = index_source(corpus)
        recipe.detector(face_model)
        plan = make_plan(corpus, recipe, describe_source(corpus, source.files, source.utterances))
        if differs := describe_toolchain_difference(info["toolchain"], plan["toolchain"]):
            raise InputError(f"{out} was made with another toolchain: {differs}. Use that one, or build anew")
        is_finished = (out / "dataset.json").exists()
        rows = {row["key"]: row for row in read_manifest_rows(out, info)} if is_finished else {}
        if is_finished:
            check_same_corpus(corpus, rows)
        index = load_source_index(out)
        changed = changed_files(index.files, source.files) if index else {}
        if index:
            edited = {key for key, digest in source.utterances.items() if index.utterances.get(key) != digest}
        else:
            edited = with_other_text(corpus, rows)
        comparison = SourceComparison(corpus.root, changed, edited)
        if is_finished:
            lost = {key for key, row in rows.items() if is_lost(row)}
            total = sum(row["status"] != "excluded" for row in rows.values())
            kept = select_kept(corpus, out, recipe, lost, comparison, progress)
            if sum(map(len, kept.values())) == total and not describe_difference(info["source"], plan["source"]):
                report(f"nothing was lost in {out}, and no file is another one now: there is nothing to retry")
                return info
            report_changes(changed, report)
            count = unpack_kept(out, kept, comparison, progress)
            report(f"{total - count} of {total} utterances are done again; of {len(lost)} something was lost")
            write_json(out / ".build" / "recipe.json", plan)
            (out / "dataset.json").unlink()  # the parts are complete: from here on this is an interrupted build
            sync_folder(out)
            save_source_index(out, corpus, source)  # not earlier: a repeated retry must see the same changes
        else:
            report_changes(changed, report)
            delete_outdated_parts(corpus, out, info, comparison, report)
            save_source_index(out, corpus, source)
            write_json(out / ".build" / "recipe.json", plan)
        run = BuildRun(
            corpus=corpus,
            out=out,
            plan=plan,
            recipe=recipe,
            engine=engine,
            workers=workers,
            face_model=face_model,
            progress=progress,
        )
        return resume_build(run)


def report_changes(changed: Mapping[str, str], report: Report) -> None:
    """Name the first files that changed."""
    for name in sorted(changed)[:MAX_SHOWN]:
        report(f"changed: {name} ({changed[name]})")
    if len(changed) > MAX_SHOWN:
        report(f"changed: and {len(changed) - MAX_SHOWN} more files")


def with_other_text(corpus: Corpus, rows: Mapping[str, dict[str, Any]]) -> set[str]:
    """The keys of the utterances whose text is not that of the manifest's `rows`: for a dataset without .build/."""
    texts = {utterance.key: normalize_text(utterance.text).encode() for utterance in corpus.utterances()}
    return {key for key, text in texts.items() if key in rows and rows[key]["text_sha256"] != sha256(text).hexdigest()}


def check_same_corpus(corpus: Corpus, rows: Mapping[str, dict[str, Any]]) -> None:
    """Raises InputError if the utterances, times or labels of the scan differ from those of the manifest's `rows`."""
    schema = manifest_schema(corpus.schema)
    scanned_rows = [manifest_row(utterance, "ok", None) for utterance in corpus.utterances()]
    scanned = {row["key"]: row for row in pa.Table.from_pylist(scanned_rows, schema=schema).to_pylist()}
    for key in sorted({*rows, *scanned}):
        if key not in scanned or key not in rows:
            where = corpus.root if key in scanned else "the dataset"
            raise InputError(f"{corpus.root} is not the source of this dataset: only {where} holds {key}")
        # The end of a whole file is measured when it is built.
        ends = ("end",) if scanned[key]["end"] is not None else ()
        for column in ("dialog", "speaker", "session", "split", "start", *ends, "labels"):
            if canonical_json(rows[key][column]) != canonical_json(scanned[key][column]):
                raise InputError(
                    f"{corpus.root}: {key} has another {column} than at the build. Only lost media can be retried: "
                    "build anew with --overwrite"
                )


def select_kept(
    corpus: Corpus,
    out: Path,
    recipe: Recipe,
    lost: Collection[str],
    comparison: SourceComparison,
    progress: Progress,
) -> dict[str, list[str]]:
    """Select the samples of a finished dataset to keep: their keys by recording."""
    recordings, _ = select_utterances(corpus, recipe)
    total = sum(len(recording.utterances) for recording in recordings)
    step, unpacker, kept = progress("compare", total, total), PartUnpacker(out), {}
    for recording in recordings:
        candidates = (utterance for utterance in recording.utterances if utterance.key not in lost)
        keys = [utterance.key for utterance in candidates if comparison.is_same(recording, utterance)]
        kept[recording.id] = unpacker.accepted_keys(keys, comparison.has_same_digests)
        step(len(recording.utterances))
    return kept


def unpack_kept(out: Path, kept: Mapping[str, list[str]], comparison: SourceComparison, progress: Progress) -> int:
    """Turn samples back into parts. Returns the number of samples that are not damaged."""
    parts = out / ".build" / "parts"
    shutil.rmtree(parts, ignore_errors=True)  # of a retry that was stopped before they were complete
    parts.mkdir()
    total = sum(map(len, kept.values()))
    step, unpacker, count = progress("unpack", total, total), PartUnpacker(out), 0
    for recording, keys in kept.items():
        count += len(unpacker.write_part(parts, recording, keys, comparison.has_same_digests))
        step(len(keys))
    return count


def delete_outdated_parts(
    corpus: Corpus, out: Path, info: Mapping[str, Any], comparison: SourceComparison, report: Report
) -> None:
    """Delete the parts of an interrupted build that contain an utterance to rebuild."""
    if info.get("locked_by"):
        raise InputError(f"{out} was begun with a lock: run the same `mesm-data build --lock` again, or --overwrite")
    parts, kept, deleted = out / ".build" / "parts", 0, 0
    for recording in select_utterances(corpus, recipe_from_info(info))[0]:
        for name, rows in completed_parts(recording, parts):
            if is_part_kept(recording, parts, name, rows, comparison):
                kept += len(rows)
            else:
                deleted += len(rows)
                delete_part(parts, name)
    report(f"the build in {out} goes on: {kept} utterances that were done are kept, {deleted} are done again")
