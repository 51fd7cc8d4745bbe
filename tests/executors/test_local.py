"""Work is done once, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from mesm_data.pipeline.executors.base import WorkerDied
from mesm_data.pipeline.executors.local import run_local


def square(number: int) -> int:
    return number * number


def die_on_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_once(place: tuple[str, int]) -> int:
    mark, number = Path(place[0]), place[1]
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise ValueError(f"{number} is refused")


def wait_for_the_parent(mark: str) -> None:
    Path(mark).with_suffix(".pid").write_text(str(os.getpid()))
    signal.pause()


def interrupt_half_a_start() -> None:
    """Start a pool; send SIGINT when its first worker runs but has not been sent what it has to do.

    A second thread is there to take the signal, as the threads of pyarrow and of tqdm do in a build.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(writer)
    interrupted = []

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back.f_code.co_name if frame.f_back else ""
        if (event, frame.f_code.co_name, caller) == ("return", "spawnv_passfds", "_launch") and not interrupted:
            interrupted.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            os.read(reader, 1)  # returns when the other thread has taken the signal

    threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.setprofile(interrupt)
    try:
        list(run_local(square, range(4), 2))
    except KeyboardInterrupt:
        print("interrupted", interrupted)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_has_one_result(workers: int) -> None:
    answers = list(run_local(square, range(20), workers))
    assert sorted(answers) == [(number, number * number) for number in range(20)]


def test_a_crashing_worker_affects_only_its_own_item() -> None:
    answers = dict(run_local(die_on_seven, range(12), 3))
    assert isinstance(answers.pop(7), WorkerDied)
    assert answers == {number: number * number for number in range(12) if number != 7}


def test_an_item_whose_worker_was_killed_is_processed_again(tmp_path: Path) -> None:
    places = [(str(tmp_path / "mark"), number) for number in range(6)]
    assert sorted(number for _, number in run_local(die_once, places, 2)) == list(range(6))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_the_step_ends_the_work(workers: int) -> None:
    with pytest.raises(ValueError, match="is refused"):
        list(run_local(refuse, range(4), workers))


def test_a_signal_that_another_thread_takes_does_not_interrupt_a_start(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    program += "from test_local import *\nif __name__ == '__main__': interrupt_half_a_start()"
    script = tmp_path / "main.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted [True]\n", "")


def test_workers_die_with_their_parent_however_it_dies(tmp_path: Path) -> None:
    """SIGKILL leaves a parent no chance to tell anybody."""
    marks = [str(tmp_path / "one"), str(tmp_path / "two")]
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    program += (
        f"from test_local import *\nif __name__ == '__main__': list(run_local(wait_for_the_parent, {marks!r}, 2))"
    )
    script = tmp_path / "main.py"
    script.write_text(program)
    parent = subprocess.Popen([sys.executable, str(script)])
    numbers = [Path(mark).with_suffix(".pid") for mark in marks]
    while not all(path.exists() and path.read_text() for path in numbers):
        assert parent.poll() is None
    workers = [int(path.read_text()) for path in numbers]
    descriptors = [os.pidfd_open(worker) for worker in workers]
    parent.kill()
    parent.wait()
    import select

    for descriptor in descriptors:  # readable once the process has ended
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
