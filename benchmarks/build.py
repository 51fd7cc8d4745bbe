"""What a build costs beside plain decoding, beside the published notebook's way, and with two workers beside one.

    python benchmarks/build.py [--corpus demo/bench] [--minutes 60] [--only overhead|notebook|workers]

Works on a SYNTHETIC corpus, which is written to --corpus first if it is not there (60 minutes of dialog: about a
quarter of an hour on two cores). All numbers are measured in this run; CPU is user + system time with all children.

overhead   The build without clips, with a detector that finds nothing: all that is left but face detection and clip
           encoding, imports and packing included. Against `ffmpeg -f null` over the same AVIs, one thread each.
notebook   benchmarks/baselines/notebook_way.py against a full build. Reading every frame with OpenCV, writing both
           halves of every frame as JPEG, then finding faces in every forward pass is what the published code does.
workers    The build without clips by one worker and by two, in seconds of the wall. (With clips one worker keeps more
           than a core busy: ffmpeg encodes beside it.) Only a quiet machine of two cores or more tells something.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.media.toolchain import ffmpeg_binary

MINUTES_OF_A_DIALOG = 1.44  # of 30 turns

BUILD = """
import sys
from pathlib import Path
from mesm_data.pipeline.build import build_dataset
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
source, out, workers, clips, faces = sys.argv[1:]
if faces == "0":
    import mesm_data.pipeline.worker as step
    class Blind:
        def detect(self, picture):
            return []
    step.job_detector = lambda job: Blind()
if __name__ == "__main__":
    recipe = Recipe(corpus="iemocap", clips=clips == "1")
    build_dataset(scan_corpus("iemocap", Path(source)), Path(out), recipe, workers=int(workers))
"""


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of children, seconds of the wall)."""
    wall, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - wall


def run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})


def build(corpus: Path, out: Path, *, workers: int = 1, clips: bool = False, faces: bool = True) -> tuple[float, float]:
    shutil.rmtree(out, ignore_errors=True)
    script = out.with_name("build_once.py")
    script.write_text(BUILD)
    return measured(lambda: run(sys.executable, script, corpus, out, workers, int(clips), int(faces)))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def overhead(corpus: Path, videos: list[Path], minutes: float, scratch: Path) -> None:
    def decode() -> None:
        options = ("-map", "0:v", "-f", "null", "-")
        for video in videos:
            run(ffmpeg_binary(), "-v", "error", "-nostdin", "-threads", 1, "-i", video, *options)

    rounds = [(measured(decode)[0], build(corpus, scratch / "out", faces=False)[0]) for _ in range(2)]
    plain, ours = (min(column) for column in zip(*rounds, strict=True))
    print(
        f"overhead: decoding {plain:.1f} s CPU, the build without detection and clips {ours:.1f} s: {ours / plain:.2f}x"
    )


def notebook(corpus: Path, videos: list[Path], minutes: float, scratch: Path) -> None:
    ours, _ = build(corpus, scratch / "out", clips=True)
    script = Path(__file__).parent / "baselines" / "notebook_way.py"
    command = [sys.executable, str(script), str(corpus), str(scratch / "jpg")]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    prepare, epoch = theirs["prepare"], theirs["epoch"]
    shards, clips = size(scratch / "out" / "shards"), size(scratch / "out" / "video")
    print("notebook, per minute of dialog:")
    print(f"  build: {ours / minutes:.2f} s CPU, faces and clips included; ", end="")
    print(f"{shards / minutes / 1e6:.1f} MB of shards, {clips / minutes / 1e6:.1f} MB of clips")
    print(f"  their way: {prepare / minutes:.2f} s CPU to prepare, {theirs['bytes'] / minutes / 1e6:.1f} MB; ", end="")
    print(f"{epoch / minutes:.2f} s of detection in every epoch (from {theirs['looked']} frames)")
    ratios = [(prepare + epochs * epoch) / ours for epochs in (0, 1, 30)]
    print("  their CPU over ours: {:.2f}x to prepare, {:.2f}x with one epoch, {:.1f}x with 30".format(*ratios))


def workers(corpus: Path, videos: list[Path], minutes: float, scratch: Path) -> None:
    (cpu_one, one), (cpu_two, two) = (build(corpus, scratch / "out", workers=number) for number in (1, 2))
    print(f"workers: one {one:.1f} s of the wall ({cpu_one:.1f} s CPU), two {two:.1f} s ({cpu_two:.1f} s): ", end="")
    print(f"{one / two:.2f}x; the machine's load at the end {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("demo/bench"))
    parser.add_argument("--minutes", type=float, default=60.0, help="of dialog, if the corpus has to be written")
    parser.add_argument("--only", choices=("overhead", "notebook", "workers"))
    arguments = parser.parse_args()
    if not arguments.corpus.exists():
        from mesm_data.synthetic import iemocap

        iemocap.write_corpus(arguments.corpus, dialogs=ceil(arguments.minutes / MINUTES_OF_A_DIALOG), seed=0)
    corpus = scan_corpus("iemocap", arguments.corpus)
    videos = [corpus.root / recording.video for recording in corpus.recordings if recording.video]
    minutes = sum(max(u.end for u in recording.utterances) for recording in corpus.recordings) / 60
    kind = "synthetic" if (corpus.root / "SYNTHETIC.txt").exists() else "real"
    print(f"{kind}: {len(videos)} dialogs, {minutes:.1f} minutes", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for part in (overhead, notebook, workers):
            if arguments.only in (None, part.__name__):
                part(corpus.root, videos, minutes, Path(scratch))


if __name__ == "__main__":
    main()
