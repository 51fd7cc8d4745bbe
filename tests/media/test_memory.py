"""Guarantee: a worker's memory is bounded, whatever the video and however many utterances overlap."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mesm_data.media.toolchain import ffmpeg_binary

MINUTES = int(os.environ.get("MESM_TEST_MINUTES", "10"))
UTTERANCES, TOGETHER = 6 * MINUTES, 6  # more than there are encoders at once
LIMIT = 1.5 * 2**30

WORK = f"""
import sys
from pathlib import Path
from mesm_data.schema.recordings import AudioSource, VideoRegion, Recording, Utterance
from mesm_data.media.toolchain import toolchain_versions
from mesm_data.dataset.recipe import Recipe
from mesm_data.pipeline.job import Job
from mesm_data.pipeline.worker import build_recording
root, parts = Path(sys.argv[1]), Path(sys.argv[2])
def utterance(number):
    start = 60.0 * (number // {TOGETHER}) + 56 + 0.1 * (number % {TOGETHER})
    end = start + 3
    return Utterance(
        id=f"v_{{number}}", dialog="v", speaker="v", start=start, end=end, text="", words=None, labels={{}},
        audio=(AudioSource(path="v.mp4", span=(start, end)),), region=VideoRegion(), annotation_files=(),
    )
recording = Recording(id="v", video="v.mp4", utterances=tuple(map(utterance, range({UTTERANCES}))))
recipe = Recipe(corpus="mosei", frame_interval="2")
print(build_recording(Job(root=root, parts=parts, recipe=recipe, recording=recording, toolchain=toolchain_versions())))
"""


def resident(pid: int) -> int:
    """Bytes of a process and of all that it started, shared pages shared out."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        pass  # it has just ended
    return total


@pytest.mark.slow
def test_a_worker_on_ten_minutes_of_1080p_with_sixty_overlapping_utterances_stays_below_1500_mb(tmp_path: Path) -> None:
    """With clips and sound; six utterances at a time overlap, and the peak includes ffmpeg's processes."""
    source = f"testsrc2=size=1920x1080:rate=10:duration={MINUTES * 60}"
    sound = f"sine=frequency=300:sample_rate=44100:duration={MINUTES * 60}"
    command = [ffmpeg_binary(), "-v", "error", "-f", "lavfi", "-i", source, "-f", "lavfi", "-i", sound]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([*command, str(tmp_path / "v.mp4")], check=True)
    parts = tmp_path / "out" / "parts"
    parts.mkdir(parents=True)
    (tmp_path / "out" / "recipe.json").write_text("{}")
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path), str(parts)], stdout=subprocess.PIPE, text=True
    )
    peak, ended = 0, threading.Event()
    while not ended.wait(0.2):
        peak = max(peak, resident(process.pid))
        if process.poll() is not None:
            ended.set()
    assert process.stdout is not None
    assert process.stdout.read().strip() == f"Counter({{'ok': {UTTERANCES}}})"
    print(f"peak {peak / 2**20:.0f} MB")
    assert peak < LIMIT
