"""The media tools of this machine: which ffmpeg runs, and the versions that a dataset records."""

import functools
import platform
import shutil
import subprocess
from importlib.metadata import version


@functools.cache
def ffmpeg_binary() -> str:
    """The system's ffmpeg where there is one, else the binary of the wheel imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def toolchain() -> dict[str, str]:
    """What a build ran on: versions of all that touches media. No host name, no path."""
    import av

    banner = subprocess.run([ffmpeg_binary(), "-version"], capture_output=True, text=True, check=True).stdout
    libraries = {f"av.{name}": ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    packages = ("mesm", "av", "ffmpeg-python", "mtcnn", "numpy", "soundfile", "torch", "webdataset")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "ffmpeg": banner.splitlines()[0].split(" Copyright")[0],
        **libraries,
        **{name: version(name) for name in packages},
    }
