"""Read a folder of numbered JPEG images as a video: the same kind of frames as from a video file."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_data.errors import MesmError
from mesm_data.media.frame import Frame, read_orientation
from mesm_data.media.toolchain import describe_error
from mesm_data.storage.machine_errors import raise_resource_error

if TYPE_CHECKING:
    import av

# The largest denominator of a usual rate: 30000/1001.
_DENOMINATOR = 1001
# The markers of a JPEG file: where it begins, where the data of a picture begin, and where the picture ends.
_BEGIN, _DATA, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


class ImageSequence:
    """The images `<name><number>.jpg` of a folder as a video. An image that is missing or damaged leaves a gap.

    Args:
        folder: The folder.
        name: The beginning of the file names.
        rate: Images per second: image n is shown from n / rate seconds on.

    Raises:
        MesmError: The folder cannot be listed or has no images, or the rate is not positive.
    """

    def __init__(self, folder: Path, name: str, rate: float) -> None:
        self.rate = Fraction(rate).limit_denominator(_DENOMINATOR)
        self._folder, self._name = folder, name
        try:
            self._numbers = numbered_images((path.name for path in folder.iterdir()), name)
        except OSError as error:
            raise_resource_error(error)
            raise MesmError(f"cannot be listed ({describe_error(error)})") from None
        if not self._numbers:
            raise MesmError("holds no images")
        if self.rate <= 0:
            raise MesmError("the rate of its images is not known")
        self.scale = self.rate.numerator
        self._undecodable: list[Fraction] = []
        self._truncated: list[Fraction] = []
        self.stopped: str | None = None

    @property
    def names(self) -> list[str]:
        """The names of the image files, sorted by number."""
        return list(self._numbers.values())

    def damage(self, start: Fraction, end: Fraction) -> str | None:
        """Describe the images of start <= t < end that are missing, damaged or truncated; None if there are none."""
        inside = range(min(self._numbers), max(self._numbers) + 1)
        missing = sum(start <= n / self.rate < end for n in inside if n not in self._numbers)
        bad = sum(start <= time < end for time in self._undecodable)
        truncated = sum(start <= time < end for time in self._truncated)
        problems = [f"{missing} images are missing"] if missing else []
        problems += [f"{bad} images could not be decoded"] if bad else []
        problems += [f"{truncated} images are truncated"] if truncated else []
        return " and ".join(problems) or None

    def frames(self) -> Iterator[Frame]:
        """Yield all images that can be decoded, by number."""
        for number, name in self._numbers.items():
            data = _read(self._folder / name)
            image = data and _decode(data)
            if not data or not image:
                self._undecodable.append(number / self.rate)
                continue
            # FFmpeg fills up an image that ends early, without a word. Its data end with a marker; a thumbnail has its
            # own before the data.
            if data.rfind(_END) < data.rfind(_DATA):
                self._truncated.append(number / self.rate)
            begin, end = (count * self.rate.denominator for count in (number, number + 1))
            yield Frame(begin=begin, end=end, scale=self.scale, image=image, orientation=read_orientation(image))

    def close(self) -> None:
        """Do nothing: no file is open between two images."""


def numbered_images(names: Iterator[str], name: str) -> dict[int, str]:
    """Select the file names that are `name`, a number, and .jpg or .jpeg. Returns number -> file name, sorted."""
    pattern = re.compile(rf"{re.escape(name)}(\d{{1,9}})\.jpe?g", re.ASCII | re.IGNORECASE)
    by_number: dict[int, str] = {}
    for file in sorted(names):
        if match := pattern.fullmatch(file):
            by_number.setdefault(int(match[1]), file)
    return dict(sorted(by_number.items()))


def _read(path: Path) -> bytes | None:
    """The content of a JPEG file; None if it cannot be read or is no JPEG."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise_resource_error(error)
        return None
    return data if data.startswith(_BEGIN) else None


def _decode(data: bytes) -> "av.VideoFrame | None":
    """Decode the content of a JPEG file; None if that fails."""
    import av
    from av.codec.context import Flags

    try:
        codec = av.CodecContext.create("mjpeg", "r")
        assert isinstance(codec, av.VideoCodecContext)
        codec.flags |= Flags.bitexact
        codec.thread_count = 1
        images = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except (av.FFmpegError, EOFError) as error:
        raise_resource_error(error)
        return None
    return images[0] if images else None
