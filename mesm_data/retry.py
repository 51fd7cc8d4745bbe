"""Do again what was lost, after a repair of the source: the same dataset as if it were built anew, without its cost.

A finished dataset is turned back into the parts of a build that has only that left to do, then it is that build. Until
the parts are complete the dataset stays as it is; from then on the same command, or `build`, goes on.
"""

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from mesm_data.build import Progress, go_on, open_place, plan_of, select, silent
from mesm_data.corpora.base import Corpus
from mesm_data.errors import InputError
from mesm_data.files import canonical_json, folder_lock, read_json, sync_folder, write_json
from mesm_data.recipe import Recipe, difference, other_toolchain
from mesm_data.rows import Digests, row
from mesm_data.shards import dataset, manifest
from mesm_data.source import changes, files, fingerprint, listing, remember, remembered

SHOWN = 5


def known(out: Path) -> dict[str, Any]:
    """What is being retried: dataset.json, or the plan of a retry that was stopped. InputError if there is neither."""
    plan = out / ".build" / "recipe.json"
    if not (out / "dataset.json").exists() and plan.exists():
        return dict(read_json(plan))
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
    """Do again the utterances of the dataset `out` of which something was lost; returns what dataset.json says.

    With them go those that were made of a file that is another one now. `face_model` is as in `build`, and so is
    `progress`, which is called as "unpack" too; `say` is told what is done, in sentences. Raises InputError, before
    anything is changed, if `corpus` is not the source, if files of it are missing, or if the toolchain is another.
    """
    with folder_lock(out / ".build" / "lock"):
        said = known(out)
        recipe, found = recipe_of(said), listing(corpus)
        recipe.detector(face_model)
        plan = plan_of(corpus, recipe, fingerprint(corpus, found))
        if (out / "dataset.json").exists():
            if differs := other_toolchain(said["toolchain"], plan["toolchain"]):
                raise InputError(f"{out} was made with another toolchain: {differs}. Take that one, or build anew")
            rows = {row["key"]: row for row in dataset.rows(out, said)}
            check_same_corpus(corpus, rows, recipe)
            lost = {key for key, row in rows.items() if is_lost(row)}
            if not lost:
                say(f"nothing was lost in {out}: there is nothing to retry")
                return said
            before = remembered(out)
            changed = changes(before[1], found) if before else {}
            for name in sorted(changed)[:SHOWN]:
                say(f"changed: {name} ({changed[name]})")
            if len(changed) > SHOWN:
                say(f"changed: and {len(changed) - SHOWN} more files")
            kept = unpack(corpus, out, recipe, lost, changed, progress)
            asked = sum(row["status"] != "excluded" for row in rows.values())
            say(f"{asked - kept} of {asked} utterances are done again; of {len(lost)} something was lost")
            remember(out, corpus, found)
            write_json(out / ".build" / "recipe.json", plan)
            (out / "dataset.json").unlink()  # the parts are whole: from here on this is a build that was stopped
            sync_folder(out)
        else:
            open_place(out, plan, overwrite=False)
        return go_on(
            corpus, out, plan, recipe, engine=engine, workers=workers, face_model=face_model, progress=progress
        )


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


def unpack(
    corpus: Corpus, out: Path, recipe: Recipe, lost: set[str], changed: dict[str, str], progress: Progress
) -> int:
    """Turn what is not to be done again into parts; returns how many samples that are.

    `changed` are the files that are new or have another size. A repaired file can have its old size, so the digests of
    all files are compared with those that the samples name: the source is read once, which is a small part of decoding.
    """
    from mesm_data.shards.unpack import Unpacker

    parts = out / ".build" / "parts"
    shutil.rmtree(parts, ignore_errors=True)  # of a retry that was stopped before they were complete
    parts.mkdir()
    recordings, _ = select(corpus, recipe)
    total = sum(len(recording.utterances) for recording in recordings)
    step = progress("unpack", total, total)
    unpacker, digests = Unpacker(out), Digests(corpus.root)

    def same_files(record: dict[str, Any]) -> bool:
        return all(digests.of(source["path"]) == source["sha256"] for source in record["sources"])

    kept = 0
    for recording in recordings:
        keys = [u.key for u in recording.utterances if u.key not in lost and not files(recording, u) & changed.keys()]
        kept += len(unpacker.part(parts / recording.id, keys, same_files))
        step(len(recording.utterances))
    return kept
