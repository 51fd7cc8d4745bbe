"""Raw corpus -> dataset: scan, one step per recording, pack. The command can be killed at any moment and run again.

State on disk, all of it: OUT/.build/recipe.json (what is being built, from what, with what), OUT/.build/source.json
(where that lies), OUT/.build/groups.json (which files it goes into, if a split says so), OUT/.build/parts/ (what is
done). OUT/dataset.json is written last: a folder without it is not a dataset. OUT/recipe.lock is made of
the finished dataset.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import describe_source, file_stamps, source_sizes
from mesm_data.dataset.manifest import row
from mesm_data.dataset.parts import DamagedPart, parts_of, remaining, remove, write_rows
from mesm_data.dataset.recipe import Recipe, difference, other_toolchain
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity import lock_writer as lock_file
from mesm_data.integrity import rebuild_check as rebuild
from mesm_data.integrity.lock_reader import Lock
from mesm_data.pipeline.executors.base import Engine, WorkerDied
from mesm_data.pipeline.executors.registry import engine as engine_named
from mesm_data.pipeline.records import findings
from mesm_data.pipeline.source_record import remember
from mesm_data.pipeline.worker import Job, run
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.splits.groups import group_by_split, load_groups
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import sync_folder
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import PLAN, read_checked_json

Step = Callable[[int], object]
Progress = Callable[[str, int, int], Step]


def silent(what: str, total: int, todo: int) -> Step:
    """Shows nothing."""
    return lambda number: None


def build(
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
    progress: Progress = silent,
) -> dict[str, Any]:
    """Build `corpus` into the folder `out`; returns what dataset.json says.

    The same call goes on where a stopped one ended. `split` groups the files by its parts: a rule, a published list or
    the path of lists. With a `lock` faces are cut where it says, not looked for. `face_model` is the model file of the
    recipe's face detector, if it needs one. `progress(what, total, todo)` is called as "build", "pack" and "lock"
    begin, with numbers of utterances; what it returns is told how many more are done. Raises InputError if `out` holds
    something else, there is no such split or the lock is of another corpus or recipe, MesmError if there is no room;
    utterances that cannot be built do not raise, they are rows with a reason.
    """
    groups = group_by_split((row(said, "ok", None) for said in corpus.utterances()), corpus.schema, split)
    recipe = replace(recipe, split=groups.split)
    if lock:
        lock.check(recipe)
    else:
        recipe.detector(face_model)
    found = source_sizes(corpus)
    check_place(out, corpus.root)
    with folder_lock(out / ".build" / "lock"):
        plan = plan_of(corpus, recipe, describe_source(corpus, found), lock)
        finished = open_place(out, plan, overwrite=overwrite)
        if finished:
            sweep(out, out / ".build")
            shutil.rmtree(out / ".build" / "parts", ignore_errors=True)  # it was killed before they were deleted
            if not (out / lock_file.NAME).exists():  # it was killed between the two
                write_lock(out, finished, progress)
            return finished
        remember(out, corpus, found)
        groups.save(out)
        write_json(out / ".build" / "recipe.json", plan)
        return go_on(
            corpus,
            out,
            plan,
            recipe,
            engine=engine,
            workers=workers,
            lock=lock,
            face_model=face_model,
            progress=progress,
        )


def plan_of(corpus: Corpus, recipe: Recipe, source: dict[str, Any], lock: Lock | None = None) -> dict[str, Any]:
    """What .build/recipe.json says: what is built, from what, with what; by which lock, whose detector it then was."""
    from mesm_data.media.toolchain import toolchain

    plan: dict[str, Any] = {"recipe": recipe.as_dict(), "source": source, "toolchain": toolchain()}
    plan["schema"] = corpus.schema.as_dict()
    if lock:
        plan["recipe"]["detector"] = lock.said["recipe"]["detector"]
        plan["locked_by"] = lock.digest
    return plan


def go_on(
    corpus: Corpus,
    out: Path,
    plan: dict[str, Any],
    recipe: Recipe,
    *,
    engine: str,
    workers: int | None,
    lock: Lock | None = None,
    face_model: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Do what OUT/.build/parts lacks of `plan`, then finish. The caller holds the lock."""
    recordings, excluded = select(corpus, recipe)
    parts = out / ".build" / "parts"
    parts.mkdir(exist_ok=True)
    for name in (lock_file.NAME, rebuild.NAME):  # of an earlier dataset
        (out / name).unlink(missing_ok=True)
    sweep(out, parts.parent, parts)

    def attempt() -> dict[str, Any]:
        todo = sorted((missing for r in recordings if (missing := remaining(r, parts))), key=seconds, reverse=True)
        jobs = [
            Job(
                root=corpus.root,
                parts=parts,
                recipe=recipe,
                recording=recording,
                tools=plan["toolchain"],
                stamps=file_stamps(corpus.root, recording),
                places=lock.places(recording.utterances) if lock else {},
                face_model=face_model and face_model.resolve(),  # workers may have another working directory
            )
            for recording in todo
        ]
        step = progress("build", *(sum(len(r.utterances) for r in some) for some in (recordings, todo)))
        work(engine_named(engine), jobs, workers, step)
        return finish(corpus, out, plan, recordings, excluded, progress)

    try:
        said = undamaged(attempt, parts)
        write_lock(out, said, progress)
        return said
    finally:
        sweep(out, parts)


def undamaged(attempt: Callable[[], dict[str, Any]], parts: Path) -> dict[str, Any]:
    """The result of `attempt`, which is repeated without the parts that prove damaged. Raises if one does so twice."""
    removed: set[str] = set()
    while True:
        try:
            return attempt()
        except DamagedPart as damaged:
            if damaged.name in removed:
                raise
            removed.add(damaged.name)
            remove(parts, damaged.name)


def write_lock(out: Path, said: dict[str, Any], progress: Progress) -> None:
    """Write OUT/recipe.lock of a finished dataset."""
    lock_file.write(out, progress("lock", said["counts"]["ok"], said["counts"]["ok"]))


def work(engine: Engine, jobs: list[Job], workers: int | None, step: Step) -> None:
    """Do all jobs. One that kills its worker is tried without the picture, whose decoder is the first suspect."""
    blind = []
    for job, result in engine(run, jobs, workers):
        if isinstance(result, WorkerDied):
            blind.append(replace(job, blind=str(result)))
        else:
            step(len(job.recording.utterances))
    for job, result in engine(run, blind, workers) if blind else ():
        if isinstance(result, WorkerDied):
            rows = [row(utterance, "failed", str(result)) for utterance in job.recording.utterances]
            write_rows(job.parts, job.recording.id, rows)
        step(len(job.recording.utterances))


def seconds(recording: Recording) -> float:
    """How much there is to look at. The longest are begun first, so that no core is left alone with one."""
    return sum(utterance.end - utterance.start for utterance in recording.utterances)


def sweep(*folders: Path) -> None:
    """Remove what killed writers left behind: all that is unfinished has a name that begins with a dot."""
    for folder in folders:
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def check_place(out: Path, source: Path) -> None:
    """Raises InputError if `out` cannot be a dataset's folder: a file, something else's folder, inside the source."""
    here, there = out.resolve(), source.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise InputError(f"--out {out} and --source {source} lie inside each other: choose a folder of its own")
    ours = {".build", "dataset.json"}
    try:
        names = {path.name for path in out.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InputError(f"--out {out} is a file, or lies below one: give a folder") from None
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"--out {out} cannot be used ({error.strerror}): give another folder") from None
    if names and not names & ours:
        raise InputError(f"--out {out} holds other things ({sorted(names)[0]}): choose an empty or a new folder")


def open_place(out: Path, plan: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Make `out` ready for `plan`. Returns its dataset.json if that is already built."""
    dataset, begun = out / "dataset.json", out / ".build" / "recipe.json"
    known = next((read_checked_json(path, PLAN) for path in (dataset, begun) if path.exists()), None)
    if known and not overwrite:
        other = known.get("recipe", {}).get("corpus")
        if other is not None and other != plan["recipe"]["corpus"]:
            raise InputError(f"{out} holds a dataset of {other}, not of {plan['recipe']['corpus']}: give another --out")
        if differs := difference(known.get("recipe", {}), plan["recipe"]):
            raise InputError(f"{out} was begun with another recipe: {differs}. Give another --out, or --overwrite")
        if differs := difference(known.get("source", {}), plan["source"]):
            raise InputError(
                f"{out} was begun with another source: {differs}. Give another --out, or --overwrite; "
                f"after a repair of the same source, `mesm-data retry {out}` does again what it changes"
            )
        if known.get("schema") != plan["schema"]:
            raise InputError(
                f"{out} was begun with another schema of the corpus (labels, views, splits or licence). Give another "
                "--out, or --overwrite"
            )
        if known.get("locked_by") != plan.get("locked_by"):
            then = "another lock" if known.get("locked_by") else "no lock"
            raise InputError(f"{out} was begun with {then}: give another --out, or --overwrite")
        if dataset.exists():
            return dict(known)
        if differs := other_toolchain(known.get("toolchain", {}), plan["toolchain"]):
            raise InputError(
                f"{out} was begun with another toolchain: {differs}. Go on with the first one, or --overwrite"
            )
    elif known:
        dataset.unlink(missing_ok=True)  # first: from here on this is no dataset
        sync_folder(out)
        for name in ("shards", "video", ".build/parts"):
            shutil.rmtree(out / name, ignore_errors=True)
    return None


def select(corpus: Corpus, recipe: Recipe) -> tuple[list[Recording], list[dict[str, Any]]]:
    """The recordings with the utterances that are to be built, and the rows of those that are not."""
    chosen: list[Recording] = []
    excluded: list[dict[str, Any]] = []
    count = 0
    for recording in corpus.recordings:
        kept: list[Utterance] = []
        for utterance in recording.utterances:
            if recipe.only is not None and not fnmatchcase(utterance.id, recipe.only):
                excluded.append(row(utterance, "excluded", "only"))
            elif utterance.exclusion:
                excluded.append(row(utterance, *utterance.exclusion))
            elif recipe.limit is not None and count >= recipe.limit:
                excluded.append(row(utterance, "excluded", "limit"))
            else:
                kept.append(utterance)
                count += 1
        if kept:
            chosen.append(replace(recording, utterances=tuple(kept)))
    if not chosen and any(row["reason"] != "only" for row in excluded):
        reasons = ", ".join(sorted({row["reason"] for row in excluded} - {"only"}))
        raise InputError(f"{corpus.root}: none of the utterances asked for can be built ({reasons})")
    if not chosen:
        raise InputError(f"--only {recipe.only!r} matches none of the {len(excluded)} utterances of {corpus.root}")
    return chosen, excluded


def finish(
    corpus: Corpus,
    out: Path,
    plan: dict[str, Any],
    recordings: list[Recording],
    excluded: list[dict[str, Any]],
    progress: Progress,
) -> dict[str, Any]:
    """Pack the parts, write the manifest and, last, dataset.json; then the parts are not needed any more."""
    from mesm_data.dataset import dataset_dir as dataset

    parts = out / ".build" / "parts"
    rows = list(excluded)
    for recording in recordings:
        made = [{**row, "source": name} for name, rows in parts_of(recording, parts) for row in rows]
        if len(made) != len(recording.utterances):
            raise MesmError(
                f"{parts}: {len(made)} of {len(recording.utterances)} utterances of {recording.id} are here. Do all "
                "machines see one --out, on a file system that they share? The same command goes on"
            )
        rows += made
    groups = load_groups(out, plan["recipe"]["split"])
    rows = [{**row, "group": groups.of(row["key"])} for row in sorted(rows, key=lambda row: row["key"])]
    facts = {
        **plan,
        "corpus": corpus.name,
        "synthetic": plan["source"]["synthetic"],
        "notes": list(corpus.notes),
        "findings": findings(rows),
    }
    built = sum(row["status"] == "ok" for row in rows)
    step = progress("pack", built, built)
    written = dataset.write(out, parts, rows, facts, limit=plan["recipe"]["shard_bytes"], step=step)
    shutil.rmtree(parts)
    return written
