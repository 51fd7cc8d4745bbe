"""Build a dataset from a raw corpus: scan, one job per recording, pack. Safe to interrupt: run it again to resume.

The whole state of a build is on disk:

    OUT/.build/recipe.json   the plan: what is built, from which source, with which toolchain
    OUT/.build/source.json   where the source is
    OUT/.build/groups.json   the group of each utterance, if a split groups the files
    OUT/.build/parts/        the result of each recording that is done

OUT/dataset.json is written last: a folder without it is not a dataset. OUT/recipe.lock is made from the finished
dataset.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import describe_source
from mesm_data.dataset.dataset_dir import write_dataset
from mesm_data.dataset.info import CROISSANT_FILE
from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.parts import DamagedPart, completed_parts, delete_part, finish_part, remaining_work
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import MesmError
from mesm_data.integrity import lock_writer
from mesm_data.integrity.lock_comparison import REBUILD_NAME
from mesm_data.integrity.lock_reader import Lock
from mesm_data.media.toolchain import toolchain_versions
from mesm_data.pipeline.build_run import BuildRun
from mesm_data.pipeline.executors.base import Engine, WorkerDied
from mesm_data.pipeline.executors.registry import get_engine
from mesm_data.pipeline.job import Job
from mesm_data.pipeline.output_dir import prepare_output_dir, remove_temporary_files, validate_output_dir
from mesm_data.pipeline.records import corpus_findings
from mesm_data.pipeline.selection import select_utterances
from mesm_data.pipeline.source_comparison import check_same_content, delete_replaced_parts
from mesm_data.pipeline.source_record import index_source, load_source_index, save_source_index
from mesm_data.pipeline.worker import build_recording
from mesm_data.schema.recordings import Corpus, Recording
from mesm_data.splits.groups import group_by_split, load_groups
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.json_files import write_json
from mesm_data.storage.progress import Progress, Step, no_progress


def build_dataset(
    corpus: Corpus,
    out: Path,
    recipe: Recipe,
    *,
    split: str | None = None,
    workers: int | None = None,
    engine: str = "local",
    overwrite: bool = False,
    lock: Lock | None = None,
    face_model: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Build a dataset. The same call resumes an interrupted build.

    An utterance that cannot be built raises nothing: it is a row of the manifest with a reason.

    Args:
        corpus: The corpus.
        out: The folder of the dataset.
        recipe: The options.
        split: Groups the files by the parts of this split: a rule, a published list, or the path of lists.
        workers: The number of processes; None for one per core.
        engine: The name of the engine.
        overwrite: Whether to replace an earlier build in `out`.
        lock: Says where faces are; they are then cropped there, without detection.
        face_model: The model file of the face detector, if it needs one.
        progress: Is called with the name of a phase ("build", "pack", "lock"), the number of its utterances and the
            number still to do, when the phase begins. Its result is called with numbers of further utterances.

    Returns:
        The content of dataset.json.

    Raises:
        InputError: `out` contains something else, the split does not exist, nothing is selected, the engine is missing,
            or the lock is of another corpus or recipe. Nothing is changed.
        MesmError: The machine failed, such as a full disk.
    """
    get_engine(engine)
    select_utterances(corpus, recipe)  # `overwrite` must not delete a dataset for a typing error
    groups = group_by_split((manifest_row(u, "ok", None) for u in corpus.utterances()), corpus.schema, split)
    recipe = replace(recipe, split=groups.split)
    if lock:
        lock.check_recipe(recipe)
    else:
        recipe.detector(face_model)
    source = index_source(corpus)
    validate_output_dir(out, corpus.root)
    with folder_lock(out / ".build" / "lock"):
        plan = make_plan(corpus, recipe, describe_source(corpus, source.files, source.utterances), lock)
        info = prepare_output_dir(out, plan, overwrite=overwrite)
        before = load_source_index(out)
        touched = source.touched_since(before) if before else set()
        if info:
            if touched:
                check_same_content(corpus, out, touched, progress)
                save_source_index(out, corpus, source)  # the next time the files need not be read
            _complete_finished(out, info, progress)
            return info
        delete_replaced_parts(corpus, out, touched)
        save_source_index(out, corpus, source)
        groups.save(out)
        write_json(out / ".build" / "recipe.json", plan)
        run = BuildRun(
            corpus=corpus,
            out=out,
            plan=plan,
            recipe=recipe,
            engine=engine,
            workers=workers,
            lock=lock,
            face_model=face_model,
            progress=progress,
        )
        return resume_build(run)


def _complete_finished(out: Path, info: dict[str, Any], progress: Progress) -> None:
    """Do what an earlier build was killed before: delete the parts of a finished dataset, write its lock."""
    remove_temporary_files(out, out / ".build")
    shutil.rmtree(out / ".build" / "parts", ignore_errors=True)
    if not (out / lock_writer.LOCK_NAME).exists():
        write_recipe_lock(out, info, progress)


def make_plan(corpus: Corpus, recipe: Recipe, source: dict[str, Any], lock: Lock | None = None) -> dict[str, Any]:
    """The content of .build/recipe.json.

    Args:
        corpus: The corpus.
        recipe: The options.
        source: The fingerprint of the source.
        lock: The lock that is followed; the detector is then the lock's.
    """
    plan: dict[str, Any] = {"recipe": recipe.as_dict(), "source": source, "toolchain": toolchain_versions()}
    plan["schema"] = corpus.schema.as_dict()
    if lock:
        plan["recipe"]["detector"] = lock.header["recipe"]["detector"]
        plan["locked_by"] = lock.digest
    return plan


def resume_build(run: BuildRun) -> dict[str, Any]:
    """Build the parts that are missing, then finish the dataset. The caller holds the folder lock.

    Returns:
        The content of dataset.json.
    """
    recordings, excluded = select_utterances(run.corpus, run.recipe)
    run.parts.mkdir(exist_ok=True)
    for name in (lock_writer.LOCK_NAME, REBUILD_NAME, CROISSANT_FILE):  # of an earlier dataset
        (run.out / name).unlink(missing_ok=True)
    remove_temporary_files(run.out, run.parts.parent, run.parts)
    repaired: set[str] = set()
    try:
        while True:
            try:
                info = _build_and_pack(run, recordings, excluded)
                break
            except DamagedPart as damaged:  # rebuild it, once
                if damaged.name in repaired:
                    raise
                repaired.add(damaged.name)
                delete_part(run.parts, damaged.name)
        write_recipe_lock(run.out, info, run.progress)
        return info
    finally:
        remove_temporary_files(run.out, run.parts)


def _build_and_pack(run: BuildRun, recordings: list[Recording], excluded: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the parts that are missing and pack all of them. Raises DamagedPart if one is not what was written."""
    missing = filter(None, (remaining_work(recording, run.parts) for recording in recordings))
    todo = sorted(missing, key=total_seconds, reverse=True)  # the longest first, so that all cores end together
    total, remaining = (sum(len(recording.utterances) for recording in group) for group in (recordings, todo))
    jobs = list(map(run.job, todo))
    run_jobs(get_engine(run.engine), jobs, run.workers, run.progress("build", total, remaining))
    return finish_dataset(run, recordings, excluded)


def run_jobs(engine: Engine, jobs: list[Job], workers: int | None, step: Step) -> None:
    """Run all jobs. A job that kills its worker is repeated without video, whose decoder is the likely cause."""
    without_video = []
    for job, result in engine(build_recording, jobs, workers):
        if isinstance(result, WorkerDied):
            without_video.append(replace(job, skip_video_reason=str(result)))
        else:
            step(len(job.recording.utterances))
    for job, result in engine(build_recording, without_video, workers) if without_video else ():
        if isinstance(result, WorkerDied):
            rows = [manifest_row(utterance, "failed", str(result)) for utterance in job.recording.utterances]
            finish_part(job.parts, job.recording.id, rows)
        step(len(job.recording.utterances))


def total_seconds(recording: Recording) -> float:
    """The total length of a recording's utterances."""
    return sum(utterance.end - utterance.start for utterance in recording.utterances)


def finish_dataset(run: BuildRun, recordings: list[Recording], excluded: list[dict[str, Any]]) -> dict[str, Any]:
    """Pack the parts, write the manifest and, last, dataset.json. Deletes the parts and returns dataset.json's content.

    Raises:
        DamagedPart: A part is not what was written.
        MesmError: A part is missing.
    """
    rows = list(excluded)
    for recording in recordings:
        built = [{**row, "source": name} for name, part in completed_parts(recording, run.parts) for row in part]
        if len(built) != len(recording.utterances):
            raise MesmError(
                f"{run.parts}: {len(built)} of {len(recording.utterances)} utterances of {recording.id} are here. Do "
                "all machines see one --out, on a shared file system? Run the same command again to resume"
            )
        rows += built
    groups = load_groups(run.out, run.plan["recipe"]["split"])
    rows = [{**row, "group": groups.of(row["key"])} for row in sorted(rows, key=lambda row: row["key"])]
    facts = {
        **run.plan,
        "corpus": run.corpus.name,
        "synthetic": run.plan["source"]["synthetic"],
        "notes": list(run.corpus.notes),
        "findings": corpus_findings(rows),
    }
    count = sum(row["status"] == "ok" for row in rows)
    step = run.progress("pack", count, count)
    info = write_dataset(run.out, run.parts, rows, facts, limit=run.plan["recipe"]["shard_bytes"], step=step)
    shutil.rmtree(run.parts)
    return info


def write_recipe_lock(out: Path, info: dict[str, Any], progress: Progress) -> None:
    """Write OUT/recipe.lock of a finished dataset, whose dataset.json has the content `info`."""
    count = info["counts"]["ok"]
    lock_writer.write_lock(out, progress("lock", count, count))
