"""The media tools of this machine: the ffmpeg binary, its errors, and the versions that a dataset records."""

import functools
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from mesm_data.errors import InputError
from mesm_data.storage.machine_errors import raise_resource_error

# PyAV finds the first sample with its own FFmpeg (8, of PyAV 19 on 9), the ffmpeg command decodes. With 7.0.2 AAC and
# MP3 in Matroska came 21 and 23 ms late, and sound in mp4 kept the encoder's padding at its end; 9.0.2 agreed in 86
# files of 17 formats.
OLDEST_FFMPEG = 8
_KEPT_BYTES = 4096  # of a process's standard error: the first lines name the cause
_MAX_REASON = 300  # characters
# [aac @ 0x55a0f2c1ad00] Error: the component of FFmpeg and its address, which changes with each run.
_COMPONENT = re.compile(r"(\[[^\]]* @ 0x[0-9a-f]+\] *)+")


def ffmpeg_command(output: Any, *flags: str, files: Mapping[str, Path]) -> list[str]:
    """Compile an output of ffmpeg-python to a command.

    Args:
        output: The output. Names stand for paths in it: ffmpeg-python refuses paths that are not valid Unicode.
        *flags: Global options of ffmpeg.
        files: The path for each name.
    """
    paths = {name: f"file:{path}" for name, path in files.items()}
    command = output.global_args("-v", "error", "-nostdin", *flags).overwrite_output().compile(cmd=ffmpeg_binary())
    return [paths.get(argument, argument) for argument in command]


class ErrorOutput:
    """The standard error of a process, in memory, so that the process never blocks; give it `file` as stderr.

    Not a pipe with a thread that reads it: where no memory is left for a new thread, Thread.start() waits forever
    (CPython 3.11), and a build under RLIMIT_AS hung.

    Args:
        path: The file that the process reads or writes; messages have its name without its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file: IO[bytes]
        if hasattr(os, "memfd_create"):
            self.file = os.fdopen(os.memfd_create("stderr"), "w+b")
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def text(self) -> str:
        """The beginning of what the process wrote, which has ended, without components and addresses."""
        kept = os.pread(self.file.fileno(), _KEPT_BYTES, 0)
        text = kept.decode(errors="replace").replace(f"file:{self._path}", self._path.name)
        return _COMPONENT.sub("", text).strip()

    def reason(self, status: int) -> str:
        """Its first error line and its exit status, from its return code; never empty."""
        lines = [line.strip() for line in self.text().splitlines()]
        first = next(filter(None, lines), "no error message")
        return f"{first[:_MAX_REASON]} ({describe_exit(status)})"


def describe_exit(status: int) -> str:
    """Describe how a process ended, from its return code."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def describe_error(error: Exception) -> str:
    """The message of an error of the operating system or of PyAV; never empty."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@functools.cache
def ffmpeg_binary() -> str:
    """The path of the ffmpeg that IMAGEIO_FFMPEG_EXE names, or that the wheel imageio-ffmpeg has, or of the system's.

    The system's is the last, for platforms without such a wheel: Debian 12 has 5.1 and Ubuntu 22.04 has 4.4, which lack
    options that clips need. Raises InputError if there is none.
    """
    if named := os.environ.get("IMAGEIO_FFMPEG_EXE"):
        return named
    package = find_spec("imageio_ffmpeg")
    if package is not None and package.origin is not None:
        for binary in Path(package.origin).parent.glob("binaries/ffmpeg-*"):
            return str(binary)
    if installed := shutil.which("ffmpeg"):
        return installed
    raise InputError("there is no ffmpeg: install the package imageio-ffmpeg, or name one in IMAGEIO_FFMPEG_EXE")


def toolchain_versions() -> dict[str, str]:
    """The versions of all software that processes media, for the record. No host name, no path.

    Raises InputError if ffmpeg cannot be run or is too old.
    """
    import av

    try:
        banner = subprocess.run([ffmpeg_binary(), "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise_resource_error(error)
        raise InputError(f"{ffmpeg_binary()} cannot be run as ffmpeg ({error}); see IMAGEIO_FFMPEG_EXE") from None
    # "ffmpeg version 5.1.9-0+deb12u1 Copyright ...", "ffmpeg version n7.1"; builds of a commit have no such number.
    number = re.match(r"ffmpeg version n?(\d+)\.", banner)
    if number is not None and int(number[1]) < OLDEST_FFMPEG:
        raise InputError(
            f"{ffmpeg_binary()} is ffmpeg {number[1]}; mesm needs {OLDEST_FFMPEG} or newer, as in the wheel "
            "imageio-ffmpeg: unset IMAGEIO_FFMPEG_EXE, or name another one"
        )
    libraries = {f"av.{name}": ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    packages = ("mesm", "av", "ffmpeg-python", "mtcnn", "numpy", "soundfile", "torch", "webdataset")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "ffmpeg": banner.splitlines()[0].split(" Copyright")[0],
        **libraries,
        **{name: version(name) for name in packages},
    }
