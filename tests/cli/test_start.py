"""How a command ends when it is asked to stop: one line, the exit code of the signal, and no way around it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mcis_cli.cli.start import Stop


def started(folder, body, stdin=subprocess.DEVNULL):
    """A process that runs `body` in the place of the command line, and has said that it does."""
    script = (
        "import sys, time, types\n"
        f"def run(arguments, stopping):\n    print('begun', flush=True)\n    {body}\n    return 0\n"
        "sys.modules['mcis_cli.cli.app'] = types.SimpleNamespace(run=run)\n"
        "from mcis_cli.cli.start import main\n"
        "main(['cams', '--refs', '3', 'a b'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


HINT = "mcis: stopped: finished work is kept; to resume, run again: mcis cams --refs 3 'a b'\n"
SWALLOWED = "\n    ".join(["while True:", "    try: time.sleep(60)", "    except BaseException: pass"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code_and_one_line(tmp_path, number, code):
    process = started(tmp_path, "time.sleep(60)")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", HINT)


def test_the_hint_names_the_pipe(tmp_path):
    process = started(tmp_path, "time.sleep(60)", stdin=subprocess.PIPE)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", HINT.replace("mcis cams", "… | mcis cams"))


def test_an_exception_that_is_swallowed_stops_the_command_all_the_same(tmp_path):
    process = started(tmp_path, SWALLOWED)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", HINT)


def test_a_signal_sent_again_leaves_at_once(tmp_path):
    process = started(tmp_path, SWALLOWED)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", HINT)


def test_a_signal_sent_twice_at_once_is_one(tmp_path):
    body = ["try:", "    print('working', flush=True)", "    time.sleep(60)"]
    body += ["finally:", "    time.sleep(0.1)", "    print('swept', flush=True)"]
    process = started(tmp_path, "\n    ".join(body))
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "swept\n", HINT)


def test_what_the_parent_has_had_ignored_stays_ignored(tmp_path):
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom mcis_cli.cli.start import Stop\n"
    script += "s = Stop([]); s.listen(); import os; os.kill(os.getpid(), signal.SIGINT); print('went on')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_once_a_command_is_done_no_signal_changes_its_code(tmp_path):
    script = "import atexit, os, signal, sys, types\n"
    script += "atexit.register(lambda: [os.kill(os.getpid(), number) for number in (2, 15)])\n"
    script += "sys.modules['mcis_cli.cli.app'] = types.SimpleNamespace(run=lambda arguments, stopping: 7)\n"
    script += "from mcis_cli.cli.start import main; main([])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_the_hint_is_one_line_whatever_the_arguments_are(capfd):
    stop = Stop(["cams", "a\nb\x1b[31m", "\udcff"])
    assert stop.explain(signal.SIGTERM) == 143
    assert stop.explain(signal.SIGTERM) == 143
    written = capfd.readouterr().err
    assert written.count("\n") == 1
    assert "\x1b" not in written


def test_an_exception_that_python_drops_leaves_no_trace(tmp_path):
    """As in the callbacks of weak references that an import runs."""
    body = ["class Last:", "    def __del__(self):", "        print('working', flush=True)"]
    body += ["        time.sleep(60)", "Last()", "time.sleep(60)"]
    process = started(tmp_path, "\n    ".join(body))
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", HINT)


def test_other_exceptions_that_python_drops_are_told(tmp_path):
    body = ["class Last:", "    def __del__(self):", "        raise ValueError('lost')", "Last()"]
    process = started(tmp_path, "\n    ".join(body))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.endswith("ValueError: lost\n")


@pytest.mark.slow
def test_a_signal_during_the_imports_is_answered_too(tmp_path):
    """From the moment that our first module is there; before it, Python itself answers."""
    for delay in range(0, 400, 80):
        process = subprocess.Popen(
            [sys.executable, "-m", "mcis_cli", "ls"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not is_listening(process.pid) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert process.returncode in (130, 3), err  # 3 where it was done by then: there is no store
        assert len(err.splitlines()) == 1


def is_listening(pid):
    """Whether the thread that watches is there."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except FileNotFoundError:
        return False
