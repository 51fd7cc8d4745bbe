"""Open media files: only regular files, and only container formats that store the media themselves.

All media files are opened here. FFmpeg recognises a format by the content of a file: a text that begins with "ffconcat
version 1.0" makes it open the files that the text names, as do HLS, DASH and SDP texts, whatever the file is called.
Only the formats below are tried.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer

# The names of FFmpeg's demuxers, each as FFmpeg spells it; `ffmpeg -demuxers` lists them.
FORMATS = (
    "aac", "aiff", "amr", "asf", "au", "avi", "caf", "dv", "flac", "flv", "gif", "h264", "hevc", "ivf", "m4v",
    "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "mpeg", "mpegts", "mpegvideo", "nistsphere", "nut", "ogg", "rm",
    "w64", "wav", "wv", "yuv4mpegpipe",
)  # fmt: skip
# The option of this name of the ffmpeg command, and of libavformat.
WHITELIST = {"format_whitelist": ",".join(FORMATS)}


def open_container(path: Path) -> "InputContainer":
    """Open a media file for reading, with the time stamps that it stores.

    Raises:
        MesmError: The container format is not one of FORMATS.
        OSError: The file cannot be opened.
        av.FFmpegError: FFmpeg cannot read it.
    """
    import av

    open_regular_file(path).close()
    try:
        container = av.open(f"file:{path}", "r", options=dict(WHITELIST))
    except av.error.ArgumentError:  # mostly a format that is not in the list
        raise MesmError(
            "its container format is not one that mesm reads (convert it by ffmpeg), or its header is damaged"
        ) from None
    # PyAV lets libavformat generate missing presentation times, which the ffmpeg command does not. For AVI with
    # B-frames they come in coding order; those of the decoder are right.
    container.flags &= ~cast(int, av.container.core.Flags.gen_pts.value)
    return container


def open_clip(mp4: bytes) -> "InputContainer":
    """Open a clip of a dataset, which must be an mp4. Raises av.FFmpegError if it is not."""
    import av

    return av.open(io.BytesIO(mp4), "r", format="mp4")


def exact_number(value: Any) -> Fraction:
    """A time base or a rate of PyAV, a Fraction or from PyAV 19 on an AVRational; 0 if it is not known."""
    return Fraction(value.numerator, value.denominator) if value else Fraction(0)


def is_empty(packet: "Packet[Any]") -> bool:
    """Whether a packet of a file has no bytes: FFmpeg's decoders refuse it. What ends a stream is not one."""
    return not packet.size and bool(packet.buffer_ptr)
