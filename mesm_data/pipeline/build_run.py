"""A build whose plan has been accepted: what it does and how it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import file_stamps
from mesm_data.dataset.recipe import Recipe
from mesm_data.integrity.lock_reader import Lock
from mesm_data.pipeline.job import Job
from mesm_data.schema.recordings import Corpus, Recording
from mesm_data.storage.progress import Progress, no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRun:
    """A build whose plan has been accepted: what it does and how it runs.

    Attributes:
        corpus: The corpus.
        out: The folder of the dataset.
        plan: The result of `make_plan`.
        recipe: The recipe.
        engine: The name of the engine.
        workers: The number of processes; None for one per core.
        lock: The lock that says where faces are.
        face_model: The model file of the face detector, if it needs one.
        progress: See `build_dataset`.
    """

    corpus: Corpus
    out: Path
    plan: dict[str, Any]
    recipe: Recipe
    engine: str
    workers: int | None
    lock: Lock | None = None
    face_model: Path | None = None
    progress: Progress = no_progress

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.out / ".build" / "parts"

    def job(self, recording: Recording) -> Job:
        """The job that builds a recording."""
        return Job(
            root=self.corpus.root,
            parts=self.parts,
            recipe=self.recipe,
            recording=recording,
            toolchain=self.plan["toolchain"],
            stamps=file_stamps(self.corpus.root, recording),
            face_boxes=self.lock.face_boxes(recording.utterances) if self.lock else {},
            face_model=self.face_model and self.face_model.resolve(),  # workers may have another working directory
        )
