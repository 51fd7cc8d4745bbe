"""Raw corpus -> dataset: scan, one step per recording, pack. The command can be killed at any moment and run again.

State on disk, all of it: OUT/.build/recipe.json (what is being built, from what), OUT/.build/groups.json (which files
it goes into, if a split says so), OUT/.build/parts/ (what is done).
OUT/dataset.json is written last: a folder without it is not a dataset.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.corpora.base import SYNTHETIC, Corpus, Recording, Utterance
from mesm_data.engines import local
from mesm_data.errors import InputError
from mesm_data.files import canonical_json, folder_lock, read_json, sync_folder, write_json
from mesm_data.recipe import Recipe, difference
from mesm_data.rows import findings, row
from mesm_data.splits.groups import grouped, saved
from mesm_data.step import Job, run

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
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Build `corpus` into the folder `out`; returns what dataset.json says.

    The same call goes on where a stopped one ended. `split` groups the files by its parts: a rule, a published list or
    the path of lists. `progress(what, total, todo)` is called as "build" and as "pack" begin, with numbers of
    utterances; what it returns is told how many more are done. Raises InputError if `out` holds something else or there
    is no such split, MesmError if there is no room; utterances that cannot be built do not raise, they are rows with a
    reason.
    """
    groups = grouped((row(said, "ok", None) for said in corpus.utterances()), corpus.name, split)
    recipe = replace(recipe, split=groups.split)
    wanted = {"recipe": recipe.as_dict(), "source": fingerprint(corpus)}
    check_place(out, corpus.root)
    with folder_lock(out / ".build" / "lock"):
        finished = open_place(out, wanted, overwrite=overwrite)
        if finished:
            return finished
        groups.save(out)
        recordings, excluded = select(corpus, recipe)
        parts = out / ".build" / "parts"
        parts.mkdir(exist_ok=True)
        todo = [recording for recording in recordings if not (parts / f"{recording.id}.json").exists()]
        step = progress("build", *(sum(len(r.utterances) for r in some) for some in (recordings, todo)))
        jobs = [Job(root=corpus.root, parts=parts, recipe=recipe, recording=recording) for recording in todo]
        sweep(out, parts)
        try:
            for job, result in local.run(run, jobs, workers or local.available_cpus()):
                if isinstance(result, local.WorkerDied):
                    rows = [row(utterance, "failed", str(result)) for utterance in job.recording.utterances]
                    write_json(parts / f"{job.recording.id}.json", rows)
                step(len(job.recording.utterances))
            return finish(corpus, out, wanted, recordings, excluded, progress)
        finally:
            sweep(out, parts)


def sweep(*folders: Path) -> None:
    """Remove what killed writers left behind: all that is unfinished has a name that begins with a dot."""
    for folder in folders:
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def fingerprint(corpus: Corpus) -> dict[str, Any]:
    """What identifies the source without reading it: how many files matter, and a digest of their paths and sizes."""
    names: set[str] = set()
    for recording in corpus.recordings:
        names.update([recording.video] if recording.video else [])
        for utterance in recording.utterances:
            names.update((*utterance.texts, *(source.path for source in utterance.audio)))
    listing = [(name, (corpus.root / name).stat().st_size) for name in sorted(names)]
    return {
        "files": len(listing),
        "bytes": sum(size for _, size in listing),
        "listing_sha256": sha256(canonical_json(listing)).hexdigest(),
        "synthetic": (corpus.root / SYNTHETIC).exists(),
    }


def check_place(out: Path, source: Path) -> None:
    """Raises InputError if `out` cannot be a dataset's folder: a file, something else's folder, inside the source."""
    here, there = out.resolve(), source.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise InputError(f"--out {out} and --source {source} lie inside each other: choose a folder of its own")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    ours = {".build", "dataset.json"}
    if out.is_dir() and (names := {path.name for path in out.iterdir()}) and not names & ours:
        raise InputError(f"--out {out} holds other things ({sorted(names)[0]}): choose an empty or a new folder")


def open_place(out: Path, wanted: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Make `out` ready for `wanted`. Returns its dataset.json if that is already built."""
    dataset, plan = out / "dataset.json", out / ".build" / "recipe.json"
    known = read_json(dataset) if dataset.exists() else read_json(plan) if plan.exists() else None
    if known and not overwrite:
        for what in ("recipe", "source"):
            if differs := difference(known.get(what, {}), wanted[what]):
                raise InputError(f"{out} was begun with another {what}: {differs}. Give another --out, or --overwrite")
        if dataset.exists():
            return dict(known)
    elif known:
        dataset.unlink(missing_ok=True)  # first: from here on this is no dataset
        sync_folder(out)
        for name in ("shards", "video", ".build/parts"):
            shutil.rmtree(out / name, ignore_errors=True)
    write_json(plan, wanted)
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
            elif utterance.unbuilt:
                excluded.append(row(utterance, *utterance.unbuilt))
            elif recipe.limit is not None and count >= recipe.limit:
                excluded.append(row(utterance, "excluded", "limit"))
            else:
                kept.append(utterance)
                count += 1
        if kept:
            chosen.append(Recording(id=recording.id, video=recording.video, utterances=tuple(kept)))
    if not chosen and any(row["reason"] != "only" for row in excluded):
        reasons = ", ".join(sorted({row["reason"] for row in excluded} - {"only"}))
        raise InputError(f"{corpus.root}: none of the utterances asked for can be built ({reasons})")
    if not chosen:
        raise InputError(f"--only {recipe.only!r} matches none of the {len(excluded)} utterances of {corpus.root}")
    return chosen, excluded


def finish(
    corpus: Corpus,
    out: Path,
    wanted: dict[str, Any],
    recordings: Iterable[Recording],
    excluded: list[dict[str, Any]],
    progress: Progress,
) -> dict[str, Any]:
    """Pack the parts, write the manifest and, last, dataset.json; then the parts are not needed any more."""
    from mesm_data.media.tools import toolchain
    from mesm_data.shards import dataset

    parts = out / ".build" / "parts"
    rows = list(excluded)
    for recording in recordings:
        rows += [{**row, "source": recording.id} for row in read_json(parts / f"{recording.id}.json")]
    groups = saved(out, wanted["recipe"]["split"])
    rows = [{**row, "group": groups.of(row["key"])} for row in sorted(rows, key=lambda row: row["key"])]
    facts = {
        **wanted,
        "corpus": corpus.name,
        "synthetic": wanted["source"]["synthetic"],
        "toolchain": toolchain(),
        "notes": list(corpus.notes),
        "findings": findings(rows),
    }
    built = sum(row["status"] == "ok" for row in rows)
    step = progress("pack", built, built)
    written = dataset.write(out, parts, rows, facts, limit=wanted["recipe"]["shard_bytes"], step=step)
    shutil.rmtree(parts)
    return written
