"""After a repair of the source: the same dataset as if it were built anew, without its cost.

One rule holds whether the dataset is finished or its build (or an earlier retry) was stopped: an utterance is kept if
nothing of it was lost and every file that it was made of is the one that is there now; all others are done again.

A finished dataset is turned back into the parts of a build that has only that left to do; of a stopped build, parts
that hold another utterance are deleted. From then on it is a build that was stopped. Until the parts are complete a
finished dataset stays as it is.
"""

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import changed_files, describe_source, source_files, source_sizes
from mesm_data.dataset import dataset_dir as dataset
from mesm_data.dataset import manifest
from mesm_data.dataset.manifest import row
from mesm_data.dataset.parts import DamagedPart, parts_of, record_of, remove
from mesm_data.dataset.recipe import Recipe, difference, other_toolchain
from mesm_data.errors import InputError
from mesm_data.pipeline.build import Progress, go_on, plan_of, select, silent
from mesm_data.pipeline.records import Digests
from mesm_data.pipeline.source_record import remember, remembered
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import sync_folder
from mesm_data.storage.json_files import canonical_json, write_json
from mesm_data.storage.json_shapes import PLAN, read_checked_json

SHOWN = 5


def known(out: Path) -> dict[str, Any]:
    """What is being retried: dataset.json, or the plan of a retry that was stopped. InputError if there is neither."""
    plan = out / ".build" / "recipe.json"
    if not (out / "dataset.json").exists() and plan.exists():
        return read_checked_json(plan, PLAN)
    return dataset.describe(out)


def recipe_of(said: dict[str, Any]) -> Recipe:
    """The recipe that a dataset records. InputError if this version of mesm would find other faces with it."""
    if lacks := [field.name for field in fields(Recipe) if field.name not in said["recipe"]]:
        raise InputError(
            f"the dataset's recipe does not say {lacks[0]}: another version of mesm made it. Build it anew"
        )
    recipe = Recipe(**{field.name: said["recipe"][field.name] for field in fields(Recipe)})
    if differs := difference(said["recipe"], recipe.as_dict()):
        raise InputError(f"the dataset was made by another version of mesm: {differs}. Build it anew")
    return recipe


def retry(
    corpus: Corpus,
    out: Path,
    *,
    workers: int | None = None,
    engine: str = "local",
    face_model: Path | None = None,
    progress: Progress = silent,
    say: Callable[[str], object] = lambda sentence: None,
) -> dict[str, Any]:
    """Do again what is not kept (see above) of the dataset or stopped build `out`; returns what dataset.json says.

    `progress` is as in `build`, and is called as "compare" (the source's files are read once) and "unpack" too; `say`
    is told what is done, in sentences. Raises InputError, before anything is changed, if `corpus` is not the source, if
    files of it are missing, or if the toolchain is another.
    """
    with folder_lock(out / ".build" / "lock"):
        said = known(out)
        recipe, found = recipe_of(said), source_sizes(corpus)
        recipe.detector(face_model)
        plan = plan_of(corpus, recipe, describe_source(corpus, found))
        if differs := other_toolchain(said["toolchain"], plan["toolchain"]):
            raise InputError(f"{out} was made with another toolchain: {differs}. Take that one, or build anew")
        rows = {}
        if finished := (out / "dataset.json").exists():
            rows = {row["key"]: row for row in dataset.rows(out, said)}
            check_same_corpus(corpus, rows, recipe)
        before = remembered(out)
        changed = changed_files(before[1], found) if before else {}
        same = Same(corpus.root, changed)
        if not finished:
            say_changed(changed, say)
            drop_parts(corpus, out, said, same, say)
            remember(out, corpus, found)
            write_json(out / ".build" / "recipe.json", plan)
            return go_on(corpus, out, plan, recipe, engine=engine, workers=workers, progress=progress)
        lost = {key for key, row in rows.items() if is_lost(row)}
        asked = sum(row["status"] != "excluded" for row in rows.values())
        kept = keep(corpus, out, recipe, lost, same, progress)
        if sum(map(len, kept.values())) == asked and not difference(said["source"], plan["source"]):
            say(f"nothing was lost in {out}, and no file is another one now: there is nothing to retry")
            return said
        say_changed(changed, say)
        number = unpack(out, kept, same, progress)
        say(f"{asked - number} of {asked} utterances are done again; of {len(lost)} something was lost")
        write_json(out / ".build" / "recipe.json", plan)
        (out / "dataset.json").unlink()  # the parts are whole: from here on this is a build that was stopped
        sync_folder(out)
        remember(out, corpus, found)  # not before: until then what changed must be found again
        return go_on(corpus, out, plan, recipe, engine=engine, workers=workers, progress=progress)


class Same:
    """Whether the files that utterances were made of are those that are there now.

    `changed` are the files that are new or have another size. A repaired file can have its old size, so the digests of
    the others are compared with those that records name: each is read once, which is a small part of decoding.
    """

    def __init__(self, root: Path, changed: Mapping[str, str]) -> None:
        self._changed, self._digests = changed, Digests(root)

    def might_be(self, recording: Recording, utterance: Utterance) -> bool:
        """Whether no file that an utterance can be made of has another size or is new."""
        return not source_files(recording, utterance) & self._changed.keys()

    def as_recorded(self, record: Mapping[str, Any]) -> bool:
        """Whether the files that a sample's record names have the digests that it names."""
        return all(self._digests.of(source["path"]) == source["sha256"] for source in record["sources"])


def say_changed(changed: Mapping[str, str], say: Callable[[str], object]) -> None:
    """Name the first files that changed."""
    for name in sorted(changed)[:SHOWN]:
        say(f"changed: {name} ({changed[name]})")
    if len(changed) > SHOWN:
        say(f"changed: and {len(changed) - SHOWN} more files")


def is_lost(row: dict[str, Any]) -> bool:
    """Whether an utterance failed, or was built without a part of it."""
    return row["status"] == "failed" or (row["status"] == "ok" and row["reason"] is not None)


def check_same_corpus(corpus: Corpus, rows: dict[str, dict[str, Any]], recipe: Recipe) -> None:
    """Raises InputError if the scan holds other utterances, times or labels than the manifest's `rows`."""
    import pyarrow as pa

    schema = manifest.schema(corpus.schema)
    scanned = pa.Table.from_pylist([row(u, "ok", None) for u in corpus.utterances()], schema=schema).to_pylist()
    now = {row["key"]: row for row in scanned}
    for key in sorted({*rows, *now}):
        if key not in now or key not in rows:
            where = corpus.root if key in now else "the dataset"
            raise InputError(f"{corpus.root} is not the source of this dataset: only {where} holds {key}")
        # The end of a whole file is measured when it is built.
        ends = ("end",) if now[key]["end"] is not None else ()
        for column in ("dialog", "speaker", "session", "split", "start", *ends, "labels"):
            if canonical_json(rows[key][column]) != canonical_json(now[key][column]):
                raise InputError(
                    f"{corpus.root}: {key} has another {column} than at the build. Only lost media can be retried: "
                    "build anew with --overwrite"
                )


def keep(
    corpus: Corpus, out: Path, recipe: Recipe, lost: Collection[str], same: Same, progress: Progress
) -> dict[str, list[str]]:
    """Recording -> the keys of the samples of a finished dataset that need not be made again."""
    from mesm_data.pipeline.unpack import Unpacker

    recordings, _ = select(corpus, recipe)
    total = sum(len(recording.utterances) for recording in recordings)
    step, unpacker, kept = progress("compare", total, total), Unpacker(out), {}
    for recording in recordings:
        keys = [u.key for u in recording.utterances if u.key not in lost and same.might_be(recording, u)]
        kept[recording.id] = unpacker.kept(keys, same.as_recorded)
        step(len(recording.utterances))
    return kept


def unpack(out: Path, kept: Mapping[str, list[str]], same: Same, progress: Progress) -> int:
    """Turn the samples of these keys into parts; returns how many they are without those that have rotted."""
    from mesm_data.pipeline.unpack import Unpacker

    parts = out / ".build" / "parts"
    shutil.rmtree(parts, ignore_errors=True)  # of a retry that was stopped before they were complete
    parts.mkdir()
    total = sum(map(len, kept.values()))
    step, unpacker, number = progress("unpack", total, total), Unpacker(out), 0
    for recording, keys in kept.items():
        number += len(unpacker.part(parts / recording, keys, same.as_recorded))
        step(len(keys))
    return number


def drop_parts(corpus: Corpus, out: Path, said: Mapping[str, Any], same: Same, say: Callable[[str], object]) -> None:
    """Delete the parts of a stopped build that hold an utterance which is to be done again."""
    if said.get("locked_by"):
        raise InputError(f"{out} was begun with a lock: run the same `mesm-data build --lock` again, or --overwrite")
    parts, kept, dropped = out / ".build" / "parts", 0, 0
    for recording in select(corpus, recipe_of(dict(said)))[0]:
        for name, rows in parts_of(recording, parts):
            if is_kept(recording, parts, name, rows, same):
                kept += len(rows)
            else:
                dropped += len(rows)
                remove(parts, name)
    say(f"the build in {out} goes on: {kept} utterances that were done are kept, {dropped} are done again")


def is_kept(recording: Recording, parts: Path, name: str, rows: list[dict[str, Any]], same: Same) -> bool:
    """Whether all utterances of a part are kept."""
    utterances = {utterance.key: utterance for utterance in recording.utterances}
    if not all(row["key"] in utterances and not is_lost(row) for row in rows):
        return False
    if not all(same.might_be(recording, utterances[row["key"]]) for row in rows):
        return False
    try:
        return all(same.as_recorded(record_of(parts, name, row)) for row in rows)
    except DamagedPart:
        return False
