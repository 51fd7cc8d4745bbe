"""A tree of the release's size, with tiny media, is built completely: every take is accounted for."""

import shutil
import subprocess
from pathlib import Path

import pytest
from open_trees import ravdess_takes

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.integrity.verify import verify
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset


@pytest.mark.slow
def test_all_1440_spoken_takes_of_ravdess_are_built(tmp_path: Path) -> None:
    """One tiny mp4 (with audio) under every name of the speech archives; one of them is damaged."""
    tiny = tmp_path / "tiny.mp4"
    inputs = ("-f", "lavfi", "-i", "testsrc=d=0.4:s=64x48:r=30", "-f", "lavfi", "-i", "sine=440:d=0.4")
    codecs = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac")
    subprocess.run([ffmpeg_binary(), "-v", "error", *inputs, *codecs, str(tiny)], check=True)
    takes = [take for take in ravdess_takes() if take.startswith("01-")]
    for take in takes:
        folder = tmp_path / "raw" / f"Actor_{take[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny, folder / f"01-{take}.mp4")
    (tmp_path / "raw" / "Actor_03" / f"01-{takes[130]}.mp4").write_bytes(b"broken")
    info = build_dataset(
        scan_corpus("ravdess", tmp_path / "raw"), tmp_path / "out", Recipe(corpus="ravdess", clips=False), workers=2
    )
    assert info["counts"] == {"total": 1440, "ok": 1439, "failed": 1, "excluded": 0}
    assert list(verify(tmp_path / "out")) == []
