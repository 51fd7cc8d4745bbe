"""CPU time of finding a face in a frame of IEMOCAP's size, by stage.

Run it as `python benchmarks/faces.py`; it needs scikit-image for the picture. The best of 20 runs, one BLAS thread; the
networks' time depends on how much in the picture resembles a face: here one face, 77 pixels high, and the clutter of
the photograph around it.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

from mesm_data.media.faces.crop import crop_face, resize
from mesm_data.media.faces.integral_image import IntegralImage
from mesm_data.media.faces.mtcnn import MtcnnDetector


def cpu(work: Callable[[], object], runs: int = 20) -> float:
    """Milliseconds of CPU of this process, all threads, for the best run."""
    best = float("inf")
    for _ in range(runs):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1e3


def frame() -> NDArray[np.uint8]:
    """Grey, 360 wide and 480 high, with the astronaut in the middle."""
    picture = np.full((480, 360, 3), 128, np.uint8)
    picture[60:420] = resize(astronaut(), 360)
    return picture


def stages(detector: MtcnnDetector, picture: NDArray[np.uint8]) -> str:
    """One line of the table."""
    detections = detector.detect(picture)
    sums = IntegralImage(picture)
    first = detector._first(sums)
    second = detector._second(sums, first)
    times = [
        cpu(lambda: IntegralImage(picture)),
        cpu(lambda: detector._first(sums)),
        cpu(lambda: detector._second(sums, first)),
        cpu(lambda: detector._final(sums, second)),
        cpu(lambda: detector.detect(picture)),
        cpu(lambda: crop_face(picture, detections, square=224)),
    ]
    return " ".join(f"{time:8.1f}" for time in times) + f"   {len(first)}, {len(second)}"


def main() -> None:
    print("min_face_size     sums    P-net    R-net    O-net   detect     crop   (ms CPU; boxes to R, to O)")
    for size in (20, 40, 60):
        print(f"{size:13d}", stages(MtcnnDetector(min_face_size=size), frame()))
    print("\nlarge frames, min_face_size 40: ms CPU of every pixel, of what `detect` looks at")
    detector = MtcnnDetector(min_face_size=40)
    for height, width in ((720, 1280), (1080, 1920)):
        picture = np.full((height, width, 3), 128, np.uint8)
        picture[:, (width - height) // 2 :][:, :height] = resize(astronaut(), height)
        whole = cpu(lambda p=picture: _all_of_it(detector, p), 5)  # type: ignore[misc]
        print(f"{width}x{height} {whole:8.1f} {cpu(lambda p=picture: detector.detect(p), 5):8.1f}")  # type: ignore[misc]


def _all_of_it(detector: MtcnnDetector, picture: NDArray[np.uint8]) -> None:
    sums = IntegralImage(picture)
    detector._final(sums, detector._second(sums, detector._first(sums)))


if __name__ == "__main__":
    main()
