"""A finished synthetic corpus to plant quirks in, and the oracle: what a correct build makes of the result.

Each quirk is one function that edits the corpus and, next to the edit, records the expected result. All expectations
together are the oracle, quirks.json in the root of the corpus:

    {"corpus": "iemocap",
     "quirks": [{"name": "no_avi", "files": [paths that were edited]}, ...],
     "counts": {"total": n, "ok": n, "failed": n, "excluded": n},
     "notes": [[words that occur together in one of the dataset's notes], ...],
     "utterances": {id: {"status", "reason", "audio", "video", "flags", "text", "labels", "start", ...}}}

An utterance lists only what is certain: `reason` is a substring of the dataset's reason, `labels` is compared in the
listed keys only, `sound` and `picture` are files that the utterance must be cut from.
"""

import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.storage.json_files import write_json

ORACLE = "quirks.json"
# The header of the resource fork that macOS puts beside a file on a foreign disk.
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(58)
BUILT = frozenset({"audio", "video", "text", "words", "raters", "sound", "picture"})  # fields of built utterances only
NO_MEDIUM = "this is not a recording\n" * 50


@dataclass(slots=True)
class Bed:
    """A corpus in which quirks are planted. Paths are relative to `root`."""

    root: Path
    corpus: str
    utterances: dict[str, dict[str, Any]]  # id -> expected fields
    notes: list[list[str]] = field(default_factory=list)
    quirks: list[dict[str, Any]] = field(default_factory=list)
    free: list[str] = field(default_factory=list)  # utterances without a quirk

    def take(self) -> str:
        """Reserve an utterance without a quirk. Raises ValueError if none is left."""
        if not self.free:
            raise ValueError("this corpus is too small for all quirks")
        return self.free.pop(0)

    def expect(self, id_: str, **fields: Any) -> None:
        """Add or replace expected fields of an utterance."""
        self.utterances[id_].update(fields)

    def flag(self, id_: str, flag: str) -> None:
        """Expect one more flag."""
        self.utterances[id_]["flags"] = sorted({*self.utterances[id_]["flags"], flag})

    def planted(self, name: str, *files: str) -> None:
        """Record that the quirk `name` was planted in `files`."""
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
    """Files left by operating systems: a binary `._` twin of every file, .DS_Store and Thumbs.db in every folder."""
    files = [path for path in sorted(bed.root.rglob("*")) if not path.name.startswith("._")]
    for path in files:
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
        else:
            (path / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1" + bytes(24))
            (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(24))
    bed.planted("junk", "._*", ".DS_Store", "Thumbs.db")


def shorten(source: Path, out: Path, seconds: float, *options: str) -> None:
    """Write the first `seconds` of a recording to `out`, without re-encoding."""
    command = [ffmpeg_binary(), "-v", "error", "-nostdin", "-i", f"file:{source}", "-t", f"{seconds:.3f}"]
    command += ["-c", "copy", "-fflags", "+bitexact", *options, f"file:{out}"]
    subprocess.run(command, check=True)


def shorten_in_place(source: Path, seconds: float) -> None:
    """Keep only the first `seconds` of a recording."""
    whole = source.with_name(f"whole-{source.name}")
    source.rename(whole)
    shorten(whole, source, seconds)
    whole.unlink()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; create the target folder if it does not exist."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
