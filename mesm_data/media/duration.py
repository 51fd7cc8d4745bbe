"""Measure the length of a media file, for utterances that are whole files."""

import os
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mesm_data.errors import MesmError
from mesm_data.media.containers import exact_number, open_container
from mesm_data.media.toolchain import describe_error
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.machine_errors import raise_resource_error

if TYPE_CHECKING:
    from av.container import InputContainer

AV_TIME_BASE = 1_000_000  # microseconds, as in libavformat

# The formats whose headers have an exact length. Others have none (transport streams, Ogg), an estimate (MP3), or often
# a wrong one (FLV).
_EXACT_FORMATS = frozenset(("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flac", "aiff", "au"))
_MAX_DIFFERENCE = 0.1  # seconds, as for an utterance's own sound file
# A RIFF file that its writer did not finish has a size of 0 or about 2 or 4 GiB.
_MAX_RIFF_BYTES = 0x7FFF0000
# The first frame of an MP3 file: its tag, the flags of both counts, the number of frames, that of their bytes.
_MP3_COUNTS = re.compile(rb"\xff.{8,37}(?:Xing|Info)\0\0\0[\3\7\x0b\x0f].{4}(.{4})", re.DOTALL)


class DurationError(MesmError):
    """The length of a file cannot be measured: the file cannot be opened, or has no packet with a time."""


def measure_duration(path: Path) -> float:
    """Measure the seconds from the file's start to the end of its longest audio or video stream.

    Reads the packets without decoding them: a file of a browser or of a killed writer has no length in its header.

    Raises:
        DurationError: The length cannot be measured; the message has the reason.
    """
    import av

    try:
        with open_container(path) as container:
            streams = [stream for stream in container.streams if stream.type in ("audio", "video")]
            if not streams:
                raise DurationError(f"{path.name} holds neither sound nor picture")
            start = (container.start_time or 0) / AV_TIME_BASE
            end = start
            for packet in container.demux(streams):
                base = exact_number(packet.time_base)
                if packet.pts is not None and base:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * base))
    except (av.FFmpegError, OSError) as error:
        raise_resource_error(error)
        raise DurationError(f"{path.name} cannot be read ({describe_error(error)})") from None
    except DurationError:
        raise
    except MesmError as error:
        raise DurationError(f"{path.name} cannot be read ({error})") from None
    if end <= start:
        raise DurationError(f"{path.name} has no length")
    return round(end - start, 6)


def describe_truncation(path: Path, seconds: float) -> str | None:
    """Describe how much of a file is missing, such as one whose copy was interrupted; None if nothing is known to be.

    Args:
        path: The file.
        seconds: Its measured length, which is that of the part that is there.
    """
    import av

    try:
        with open_regular_file(path) as file:
            stated, size = _stated_bytes(file), os.fstat(file.fileno()).st_size
        with open_container(path) as container:
            length = _stated_length(container)
    except (av.FFmpegError, OSError, MesmError) as error:
        raise_resource_error(error)
        return None
    if seconds * stated / size > seconds + _MAX_DIFFERENCE:
        return f"ends at {seconds:.3f} s: its header counts {stated} bytes, it has {size}"
    if length is None or length <= seconds + _MAX_DIFFERENCE:
        return None
    return f"ends at {seconds:.3f} s, by its header at {length:.3f} s"


def _stated_bytes(file: IO[bytes]) -> int:
    """The size in bytes by the header of a RIFF (WAV, AVI) or MP3 file; 0 if there is none.

    FFmpeg and libsndfile correct the length of a RIFF file to that of the part that is there. The first frame of an MP3
    file may count the bytes of all (Xing, Info); ID3 tags lie before and behind them.
    """
    head = file.read(12)
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little") + 8
        return size if size <= _MAX_RIFF_BYTES else 0
    start = 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:10])) if head[:3] == b"ID3" else 0
    file.seek(start)
    found = _MP3_COUNTS.match(file.read(64))
    return start + int.from_bytes(found[1], "big") if found else 0


def _stated_length(container: "InputContainer") -> float | None:
    """The length in seconds by the header of a file; None if the header has no exact one."""
    media = [stream for stream in container.streams if stream.type in ("audio", "video")]
    others = [stream for stream in container.streams if stream.type not in ("audio", "video", "attachment")]
    if container.format.name not in _EXACT_FORMATS or not container.duration:
        return None
    lengths = [float(s.duration * exact_number(s.time_base)) for s in media if s.duration and s.time_base]
    if lengths:
        return min(container.duration / AV_TIME_BASE, max(lengths))
    # Matroska has one length, from 0 to the end of the longest stream, which may be one of subtitles.
    return None if others else (container.duration - max(container.start_time or 0, 0)) / AV_TIME_BASE
