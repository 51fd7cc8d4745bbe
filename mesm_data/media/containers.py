"""Media files are opened here and nowhere else: only regular files, and only containers that hold their own media.

FFmpeg recognises a file by its content. A text that begins with "ffconcat version 1.0" opens the files that it names,
as do HLS, DASH and SDP texts, whatever the file is called. Only the formats below are tried.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file

if TYPE_CHECKING:
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
    """Open a media file to read, with the time stamps that are in it.

    Raises OSError, av.FFmpegError, or MesmError if its container is none of FORMATS.
    """
    import av

    open_regular_file(path).close()
    try:
        container = av.open(f"file:{path}", "r", options=dict(WHITELIST))
    except av.error.ArgumentError:  # FFmpeg's answer to a format that is not in the list, and to few other things
        raise MesmError("its container format is not one that mesm reads, or its header is damaged") from None
    # PyAV switches on libavformat's generator of missing presentation times, which the ffmpeg command does not use. For
    # AVI with B-frames it invents them in coding order; the decoder knows better.
    container.flags &= ~cast(int, av.container.core.Flags.gen_pts.value)
    return container


def open_clip(mp4: bytes) -> "InputContainer":
    """Open a clip of a dataset, which is an mp4 and nothing else. Raises av.FFmpegError if it is not one."""
    import av

    return av.open(io.BytesIO(mp4), "r", format="mp4")
