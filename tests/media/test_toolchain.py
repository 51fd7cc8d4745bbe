"""The ffmpeg that is used: that of the wheel, whatever the system has, unless the user names another one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesm_data.errors import InputError
from mesm_data.media import toolchain


def versions(**variables: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own, which has found no ffmpeg yet, prints."""
    program = "from mesm_data.media.toolchain import *; print(toolchain_versions()['ffmpeg'])"
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def old_ffmpeg(folder: Path, version: str = "5.1.9-0+deb12u1") -> Path:
    """A program called ffmpeg that answers as Debian 12's."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho 'ffmpeg version {version} Copyright (c) 2000-2026 the FFmpeg developers'\n")
    program.chmod(0o755)
    return program


def test_an_older_ffmpeg_of_the_system_is_not_used(tmp_path: Path) -> None:
    old_ffmpeg(tmp_path)
    with_it, without = versions(PATH=f"{tmp_path}:{os.environ['PATH']}"), versions()
    assert without.stdout.startswith("ffmpeg version ")
    assert with_it.stdout == without.stdout


def test_an_older_ffmpeg_that_is_named_is_refused(tmp_path: Path) -> None:
    for version, number in (("5.1.9-0+deb12u1", 5), ("7.0.2-static https://johnvansickle.com/ffmpeg/", 7)):
        done = versions(IMAGEIO_FFMPEG_EXE=str(old_ffmpeg(tmp_path, version)))
        assert f"InputError: {tmp_path}/ffmpeg is ffmpeg {number}; mesm needs 8 or newer" in done.stderr
    assert versions(IMAGEIO_FFMPEG_EXE=str(old_ffmpeg(tmp_path, "8.0"))).stdout == "ffmpeg version 8.0\n"
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    for name in ("none", "text"):
        done = versions(IMAGEIO_FFMPEG_EXE=str(tmp_path / name))
        assert f"InputError: {tmp_path}/{name} cannot be run as ffmpeg" in done.stderr


def test_where_there_is_no_wheel_the_ffmpeg_of_the_system_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    with pytest.raises(InputError, match="there is no ffmpeg: install the package imageio-ffmpeg"):
        toolchain.ffmpeg_binary.__wrapped__()
    program = old_ffmpeg(tmp_path)
    assert toolchain.ffmpeg_binary.__wrapped__() == str(program)
