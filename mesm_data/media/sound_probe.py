"""Probe the sound track of a file: its channels, its sample rate and the time of its first sample."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_data.errors import MesmError
from mesm_data.media.containers import exact_number, is_empty, open_container
from mesm_data.media.toolchain import describe_error
from mesm_data.media.video import container_start
from mesm_data.storage.machine_errors import raise_resource_error

if TYPE_CHECKING:
    import av


def probe_sound(path: Path) -> tuple[tuple[str, ...], int, Fraction]:
    """Probe the first sound track of a file.

    Returns:
        The names of its channels, its sample rate in Hz, and the time of its first sample in seconds from the start of
        the container.

    Raises:
        MesmError: The file has no sound that can be decoded.
    """
    import av

    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise MesmError("holds no sound track")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise MesmError("holds sound of a kind that this FFmpeg cannot decode")
            names = tuple(channel.name for channel in stream.codec_context.layout.channels)
            names, rate = names or ("",) * stream.codec_context.channels, stream.codec_context.sample_rate
            begin = _first_time(container, stream)
    except (av.FFmpegError, OSError) as error:
        raise_resource_error(error)
        raise MesmError(f"not a sound file ({describe_error(error)})") from None
    if begin is None or not names or not rate:
        raise MesmError("its sound cannot be decoded")
    return names, rate, begin


def _first_time(container: "av.container.InputContainer", stream: "av.AudioStream") -> Fraction | None:
    """The time of the first sample that can be decoded, in seconds; None if there is none."""
    import av

    for packet in container.demux(stream):
        if is_empty(packet):
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        if frames:
            time, base = frames[0].pts, exact_number(frames[0].time_base)
            return Fraction(0) if time is None or not base else time * base - container_start(container)
    return None
