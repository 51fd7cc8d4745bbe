"""Measure the length of a media file, for utterances that are whole files."""

from pathlib import Path

from mesm_data.errors import MesmError
from mesm_data.media.containers import open_container
from mesm_data.media.toolchain import describe_error
from mesm_data.storage.machine_errors import raise_resource_error

AV_TIME_BASE = 1_000_000  # microseconds, as in libavformat


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
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
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
