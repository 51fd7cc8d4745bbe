"""Which utterances of a corpus a recipe builds."""

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.schema.recordings import Corpus, Recording, Utterance


def select_utterances(corpus: Corpus, recipe: Recipe) -> tuple[list[Recording], list[dict[str, Any]]]:
    """Select the utterances to build.

    Returns:
        The recordings with these utterances only, and the manifest rows of the others, which are excluded by the rules
        "only" and "limit" or by a rule of the corpus.

    Raises:
        InputError: There is nothing to build.
    """
    recordings: list[Recording] = []
    excluded: list[dict[str, Any]] = []
    count = 0
    for recording in corpus.recordings:
        selected: list[Utterance] = []
        for utterance in recording.utterances:
            is_unwanted = utterance.exclusion is not None and utterance.exclusion.status == "excluded"
            if recipe.only is not None and not fnmatchcase(utterance.id, recipe.only):
                excluded.append(manifest_row(utterance, "excluded", "only"))
            elif recipe.limit is not None and count >= recipe.limit and not is_unwanted:
                excluded.append(manifest_row(utterance, "excluded", "limit"))
            elif utterance.exclusion:
                excluded.append(manifest_row(utterance, *utterance.exclusion))
            else:
                selected.append(utterance)
                count += 1
        if selected:
            recordings.append(replace(recording, utterances=tuple(selected)))
    if not recordings and any(row["reason"] != "only" for row in excluded):
        reasons = ", ".join(sorted({row["reason"] for row in excluded} - {"only"}))
        raise InputError(f"{corpus.root}: none of the selected utterances can be built ({reasons})")
    if not recordings:
        raise InputError(f"--only {recipe.only!r} matches none of the {len(excluded)} utterances of {corpus.root}")
    return recordings, excluded
