"""`--quirks`: a finished synthetic corpus is made as odd as the real one, and what a right build holds is written down.

Each quirk is one function that edits the corpus and says, beside the edit, what is to be expected of it. The sum of
that is the oracle, quirks.json in the root of the corpus:

    {"corpus": "iemocap",
     "quirks": [{"name": "no_avi", "files": [paths that were touched]}, ...],
     "counts": {"total": n, "ok": n, "failed": n, "excluded": n},
     "notes": [[words that stand together in one of the dataset's notes], ...],
     "utterances": {id: {"status", "reason", "audio", "video", "flags", "text", "labels", "start", ...}}}

An utterance holds what can be said of it for certain: `reason` is a part of the reason given, of `labels` only the
keys named are meant, `sound` and `picture` are files that it was cut from.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, MesmError
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.storage.json_files import write_json

ORACLE = "quirks.json"
# The header of the resource fork that macOS puts beside a file on a foreign disk.
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(58)
BUILT = frozenset({"audio", "video", "text", "words", "raters", "sound", "picture"})  # only what was built has these
NO_MEDIUM = "this is not a recording\n" * 50


@dataclass(slots=True)
class Bed:
    """A corpus in which quirks are planted. Paths are relative to `root`."""

    root: Path
    corpus: str
    utterances: dict[str, dict[str, Any]]  # id -> what is expected of it
    notes: list[list[str]] = field(default_factory=list)
    quirks: list[dict[str, Any]] = field(default_factory=list)
    free: list[str] = field(default_factory=list)  # utterances that no quirk has touched yet

    def take(self, fit: Callable[[str], bool] = lambda _: True) -> str:
        """An utterance that no quirk has touched. Raises InputError if there are not enough of them."""
        for id_ in self.free:
            if fit(id_):
                self.free.remove(id_)
                return id_
        raise InputError("--quirks: this corpus is too small for all of them; give a larger --dialogs")

    def expect(self, id_: str, **what: Any) -> None:
        """What is to be expected of an utterance, besides or instead of what was expected before."""
        self.utterances[id_].update(what)

    def flag(self, id_: str, flag: str) -> None:
        """Expect one more flag."""
        self.utterances[id_]["flags"] = sorted({*self.utterances[id_]["flags"], flag})

    def planted(self, name: str, *files: str) -> None:
        """Enter a quirk that was planted in `files`."""
        self.quirks.append({"name": name, "files": list(files)})

    def save(self) -> dict[str, Any]:
        """Write the oracle and return it."""
        for expected in self.utterances.values():
            if expected["status"] != "ok":
                for name in BUILT & expected.keys():
                    del expected[name]
        statuses = Counter(expected["status"] for expected in self.utterances.values())
        oracle = {
            "corpus": self.corpus,
            "quirks": self.quirks,
            "counts": {"total": statuses.total(), **{name: statuses[name] for name in ("ok", "failed", "excluded")}},
            "notes": self.notes,
            "utterances": dict(sorted(self.utterances.items())),
        }
        write_json(self.root / ORACLE, oracle)
        return oracle


def hide_junk(bed: Bed) -> None:
    """What operating systems leave: a binary `._` twin of every file, .DS_Store and Thumbs.db in every folder."""
    files = [path for path in sorted(bed.root.rglob("*")) if not path.name.startswith("._")]
    for path in files:
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
        else:
            (path / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1" + bytes(24))
            (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(24))
    bed.planted("junk", "._*", ".DS_Store", "Thumbs.db")


def shorten(source: Path, out: Path, seconds: float, *options: str) -> None:
    """The first `seconds` of a recording, its packets as they are. Raises MesmError with ffmpeg's words."""
    command = [ffmpeg_binary(), "-v", "error", "-nostdin", "-i", f"file:{source}", "-t", f"{seconds:.3f}"]
    command += ["-c", "copy", "-fflags", "+bitexact", *options, f"file:{out}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise MesmError(f"ffmpeg could not write {out} (exit {done.returncode}): {done.stderr.strip()}")


def ends_early(source: Path, seconds: float) -> None:
    """Leave only the first `seconds` of a recording."""
    whole = source.with_name(f"whole-{source.name}")
    source.rename(whole)
    shorten(whole, source, seconds)
    whole.unlink()


def copy(source: Path, target: Path) -> None:
    """Copy a file into a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
