"""Several people in the picture: the largest face is cut, all are counted in the speaker's part, and a flag says so."""

import subprocess

import numpy as np
import pytest
from skimage.data import astronaut

from mesm_data.dataset.parts import read_part
from mesm_data.dataset.recipe import Recipe
from mesm_data.media.toolchain import ffmpeg_binary, toolchain_versions
from mesm_data.pipeline.job import Job
from mesm_data.pipeline.worker import build_recording
from mesm_data.schema.recordings import Recording, Utterance, VideoRegion
from mesm_data.storage.json_files import parse_json

PARTS = {"all": VideoRegion(), "left": VideoRegion(right=0.5), "right": VideoRegion(left=0.5)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, object], list[str]]]:
    """Part of the picture -> `faces` and flags of an utterance there: one person on the left, two on the right."""
    root = tmp_path_factory.mktemp("several")
    frame = np.full((288, 512, 3), 127, np.uint8)
    frame[16:272, :256] = astronaut()[::2, ::2]
    frame[16:144, 300:428] = astronaut()[::4, ::4]
    frame[150:278, 300:428] = astronaut()[::4, ::4]
    command = [ffmpeg_binary(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "512x288", "-r", "4"]
    command += ["-i", "pipe:0", "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", str(root / "v.mp4")]
    subprocess.run(command, input=frame.tobytes() * 4, check=True)
    parts = root / "out" / "parts"
    parts.mkdir(parents=True)
    (root / "out" / "recipe.json").write_text("{}")
    utterances = tuple(
        Utterance(
            id=name, dialog="v", speaker="v", start=0.0, end=1.0, text="", words=None, labels={}, audio=(),
            region=part, annotation_files=(),
        )
        for name, part in PARTS.items()
    )  # fmt: skip
    recording = Recording(id="v", video="v.mp4", utterances=utterances)
    recipe = Recipe(corpus="mosei", clips=False, min_face_size=20)
    build_recording(Job(root=root, parts=parts, recipe=recipe, recording=recording, toolchain=toolchain_versions()))
    data, counts = (parts / "v.tar").read_bytes(), {}
    for row in read_part(parts, "v") or ():
        member = row["members"]["json"]
        record = parse_json(data[member["offset"] : member["offset"] + member["size"]])
        assert isinstance(record, dict)
        assert record["flags"] == row["flags"]
        counts[row["key"]] = (record["faces"], row["flags"])
    return counts


@pytest.mark.parametrize(("part", "count"), [("all", 3), ("left", 1), ("right", 2)])
def test_faces_are_counted_in_the_speakers_part(
    built: dict[str, tuple[dict[str, object], list[str]]], part: str, count: int
) -> None:
    faces, flags = built[part]
    assert faces["counts"] == [count, count]
    assert faces["detected"] == [True, True]
    assert ("several_faces" in flags) == (count > 1)


def test_the_largest_face_is_cropped(built: dict[str, tuple[dict[str, object], list[str]]]) -> None:
    """The same face as where the others are not in the picture, within what the other width does to the search."""
    assert np.abs(np.subtract(built["all"][0]["boxes"], built["left"][0]["boxes"])).max() <= 2
