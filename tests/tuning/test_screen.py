"""What is seen of a running study: on a terminal, in a log, and when it is said to end."""

import fcntl
import logging
import os
import pty
import queue
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import nullcontext

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from codes.console import AboveBars
from codes.tuning.coordinator import Coordinator
from codes.tuning.ledger import Ledger
from codes.tuning.objective import Objective
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.pace import Pace, as_time
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.screen import Screen, emit
from codes.tuning.worker import Settings
from tests.tuning.studies import ROOT, RUNNERS, composed, hold, release, until

ACCURACY, DUAL = Objective(("lae99",), 100), Objective(("lae99", "inference_time"), 100)


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


class Terminal:
    """Shows what is written to it, as far as the bars need: new lines, returns, one row up."""

    def __init__(self, columns, rows):
        self.size, self.written = (columns, rows), b""
        self.fd, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        try:
            while data := os.read(self.fd, 65536):
                self.written += data
        except OSError:  # on Linux, when nobody has it open any more
            pass

    @property
    def text(self):
        return self.written.decode(errors="replace")

    def rows(self):
        """All rows ever written, with what is on them now; closes the terminal."""
        os.close(self.slave)
        self.reader.join(60)
        os.close(self.fd)
        rows, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[A|\r|\n|[^\r\n\x1b]+", self.text):
            if token == "\r":
                column = 0
            elif token == "\n":
                row += 1
                rows += [""] * (row == len(rows))
            elif token == "\x1b[A":
                row -= 1
                assert row > len(rows) - self.size[1], "a bar above the terminal's first row"
            else:
                rows[row] = rows[row].ljust(column)[:column] + token + rows[row][column + len(token) :]
                column += len(token)
                assert len(rows[row].rstrip()) < self.size[0], "a row that goes on in the next one"
        return [row.rstrip() for row in rows]


@pytest.fixture
def on_terminal(monkeypatch):
    """A terminal of some size that standard output and error go to."""
    streams = []

    def make(columns, rows):
        terminal = Terminal(columns, rows)
        streams.append(os.fdopen(os.dup(terminal.slave), "w"))
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[0])
        return terminal

    yield make


def complete(**metrics):
    return Verdict(Outcome.COMPLETE, metrics=metrics, duration=1.5)


def stored(number, outcome, *values):
    """A trial as the storage has it."""
    state = TrialState.COMPLETE if values else TrialState.FAIL
    trial = create_trial(state=state, values=values or None, user_attrs={"outcome": outcome.value})
    trial.number = number
    return trial


@pytest.mark.parametrize("slots", [1, 8])
def test_what_is_left_is_shared_by_the_slots(slots):
    """Trials of 100 s, one in four invalid, so 400/3 s of a slot for a valid one."""
    clock = Clock()
    pace = Pace(slots, clock)
    assert pace.seconds_left(30) is None
    for valid in (True, True, False, True):
        for slot in range(slots):
            pace.started(slot)
        clock.now += 100
        for slot in range(slots):
            pace.finished(slot, valid)
    assert pace.seconds_left(24) == pytest.approx(24 / slots * 400 / 3)
    for slot in range(slots):
        pace.started(slot)
    clock.now += 40
    assert pace.seconds_left(24) == pytest.approx(24 / slots * 400 / 3 - 40)
    assert pace.seconds_left(1) == pytest.approx(400 / 3 - 40)
    assert pace.seconds_left(0) == 0


def test_trials_that_train_together_take_their_share_each():
    clock = Clock()
    pace = Pace(1, clock)
    pace.started(0, 4)
    clock.now += 30
    pace.advanced(0, 0.25)
    assert pace.seconds_left(4) == pytest.approx(120 - 30 + 0), "all four end after 120 s"
    clock.now += 90
    for _ in range(4):
        pace.finished(0, True)
    assert pace.seconds_left(8) == pytest.approx(8 * 30)


def test_a_slot_that_is_lost_does_not_share():
    clock = Clock()
    pace = Pace(2, clock)
    for slot in (0, 1):
        pace.started(slot)
    clock.now += 10
    pace.finished(0, True)
    pace.lost(1)
    assert pace.seconds_left(3) == pytest.approx(30)
    pace.lost(0)
    assert pace.seconds_left(3) is None


def test_slots_of_other_coordinators_share():
    clock = Clock()
    pace = Pace(1, clock)
    pace.started(0)
    clock.now += 10
    pace.finished(0, True)
    pace.elsewhere = 1
    assert pace.seconds_left(2) == pytest.approx(10)  # one at 5, anywhere in its trial, ours at 10
    assert pace.seconds_left(4) == pytest.approx(20)


def test_before_the_first_valid_trial_the_running_ones_tell():
    clock = Clock()
    pace = Pace(2, clock)
    pace.started(0)
    clock.now += 30
    pace.advanced(0, 0.25)
    clock.now += 10  # since its last evaluation
    assert pace.seconds_left(1) == pytest.approx(120 - 40)
    assert pace.seconds_left(3) == pytest.approx(
        120 - 40 + 120
    )  # the other slot's first ends at 120, its second at 240


def test_a_trial_beyond_the_mean_is_followed_to_its_last_epoch():
    clock = Clock()
    pace = Pace(1, clock)
    pace.started(0)
    clock.now += 10
    pace.finished(0, True)
    pace.started(0)
    clock.now += 50
    pace.advanced(0, 0.5)
    assert pace.seconds_left(1) == pytest.approx(50)


def test_times_are_rounded_up():
    assert [as_time(seconds) for seconds in (0, 6.1, 754, 3723, 86400, 273900)] == [
        "0:00",
        "0:07",
        "12:34",
        "1:02:03",
        "1 d 00:00",
        "3 d 04:05",
    ]


def test_a_log_shows_life(capsys):
    lines = queue.Queue()
    handler = logging.Handler()
    handler.emit = lambda record: lines.put(record.getMessage())
    logger = logging.getLogger("codes.tuning.screen")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    screen = Screen(ACCURACY, 20, [], ["cpu", "cuda:0"], interval=0.01)
    try:
        screen.started(1, [7], 100)
        screen.evaluated(1, 7, 40, {"lae99": 0.51234})
        while "lae99" not in (line := lines.get(timeout=60)):
            pass
        own = [stored(6, Outcome.CRASHED), stored(7, Outcome.COMPLETE, 0.5)]
        screen.looked(own[1:])
        screen.finished(1, 7, complete(lae99=0.5))
        screen.looked(own)
        screen.looked(own[1:])  # by another slot's thread, just before
        screen.finished(0, 6, Verdict(Outcome.CRASHED, "the worker was killed by SIGKILL"))
        screen.looked([*own, *(stored(number, Outcome.COMPLETE, 0.4) for number in range(8, 19))], elsewhere=0)
        while "12/20" not in (last := lines.get(timeout=60)):
            pass
    finally:
        screen.close()
        logger.removeHandler(handler)
    assert re.fullmatch(r"0/20 valid, ETA \S+; #7 epoch 40/100 lae99 0.5123", line)
    assert re.fullmatch(r"12/20 valid, ETA \S+, best lae99 0.4", last)
    printed = capsys.readouterr()
    told = [" ".join(row.split()) for row in printed.out.splitlines() if row.startswith("trial")]
    assert told == [
        "trial 7 complete 1.5 s cuda:0 1/20 valid lae99 = 0.5",
        "trial 6 crashed 0.0 s cpu 1/20 valid the worker was killed by SIGKILL",
    ]
    assert printed.err == ""
    assert not screen.drawer.is_alive()


def test_a_study_that_its_timeout_will_end_says_when():
    clock = Clock()
    screen = Screen(ACCURACY, 3, [], ["cpu"], timeout=100, clock=clock)
    try:
        told = [screen.heartbeat()]
        for number, end in enumerate((1030, 1095, 1110)):
            screen.started(0, [number], 100)
            clock.now = end
            screen.looked([stored(other, Outcome.COMPLETE, 0.5) for other in range(number + 1)])
            screen.finished(0, number, complete(lae99=0.5))
            told.append(screen.heartbeat())
    finally:
        screen.close()
    assert [line.partition(", best")[0] for line in told] == [
        "0/3 valid, ETA ?, timeout in 1:40",
        "1/3 valid, ETA 1:00",
        "2/3 valid, ETA 0:48, timeout in 0:05",
        "3/3 valid, ETA 0:00",
    ]


def test_a_time_pruned_trial_is_never_on_the_front(capsys):
    screen = Screen(DUAL, 20, [], ["cpu"])
    found = ((1, 5), (4, 4), (2, 2), (3, 1), (2, 2), (3, 3))
    trials = [stored(number, Outcome.COMPLETE, *values) for number, values in enumerate(found)]
    for end in range(1, 1 + len(trials)):
        screen.looked(trials[:end])
    screen.looked([*trials, stored(6, Outcome.TIME_PRUNED, 0.1, 0.1)])
    screen.close()
    assert sorted(map(tuple, screen.front)) == [(1, 5), (2, 2), (2, 2), (3, 1)]
    assert "4 on the Pareto front" in screen.heartbeat()


@pytest.mark.parametrize(("columns", "rows", "shown"), [(80, 24, 12), (26, 24, 12), (60, 10, 5), (40, 5, 0)])
def test_bars_fit_the_terminal_and_leave_other_lines_alone(columns, rows, shown, on_terminal):
    terminal = on_terminal(columns, rows)
    screen = Screen(ACCURACY, 20, [], ["cuda:{0}"] * 12, interval=3600)
    for slot in range(12):
        screen.started(slot, [slot], 100)
        screen.evaluated(slot, slot, 10 * slot // 2, {"lae99": 0.25})
    screen.looked([stored(number, outcome, 0.5) for number, outcome in enumerate(3 * list(Outcome))])
    lines = list(screen._lines())
    screen.bars.draw(lines)
    emit("a line {among} others")
    for name in ("codes", "optuna.storages", "py.warnings"):
        AboveBars().handle(logging.makeLogRecord({"name": name, "msg": f"a warning of {name}"}))
    screen.bars.draw(lines)
    screen.close()
    emit("after the end")
    sys.stderr.close()
    found = terminal.rows()
    assert len(lines) == 2 + shown + (shown < 12)
    assert columns < 60 or not shown or "  cuda:{0} #3    epoch  15/100 |" in terminal.text
    assert found[:3] == ["a line {among} others", "a warning of codes", "a warning of py.warnings"]
    assert re.match(r"valid trials 9/20 \|[█▉]", found[3])
    assert found[4] == "after the end" and not any(found[5:])


@pytest.mark.slow
def test_a_study_in_a_terminal_is_interrupted_and_goes_on(tmp_path):
    def launch():
        command = [sys.executable, "-m", "tests.tuning", str(tmp_path), RUNNERS + "held", "devices=[cpu,cpu]"]
        return subprocess.Popen(command, cwd=ROOT, stdout=terminal.slave, stderr=terminal.slave, start_new_session=True)

    terminal = Terminal(200, 24)
    (tmp_path / "out").mkdir()
    hold(tmp_path)
    with launch() as process:
        for number in (0, 1):
            until(lambda number=number: f"cpu #{number}    epoch  10/100 |" in terminal.text)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    release(tmp_path)
    with launch() as process:
        pass
    assert process.returncode == 0
    assert "lae99 2" in terminal.text and "2 interrupted" in terminal.text
    rows = terminal.rows()
    bars = [row for row in rows if row.startswith("valid trials")]
    assert [bar.split()[2] for bar in bars] == ["0/5", "5/5"] and "best lae99" in bars[1]
    assert not [row for row in rows if "epoch" in row and "|" in row]
    assert not [row for row in rows if "Trial" in row or row.startswith("[")]  # Optuna's
    assert "stopped with 0 of 5 valid trials; go on with" in rows and "best trials" in rows


def test_a_slot_whose_trial_another_coordinator_closed_is_free(tmp_path):
    plan = plan_study(composed(tmp_path))
    study = optuna.create_study()
    ledger = Ledger(study, 5, Presence(study), nullcontext)
    screen = Screen(ACCURACY, 5, (), plan.devices)
    coordinator = Coordinator(ledger, plan, [Settings("cpu", 1, "", None, tmp_path / "log", 60.0)], screen)
    trial = ledger.claim("cpu", "cpu", 42)
    screen.started(0, [trial.number], 100)
    study.tell(trial.number, state=TrialState.FAIL)
    coordinator._settle(trial, complete(lae99=1.0), 0, is_new=True)
    screen.close()
    assert screen.slots[0].progress() == "waiting" and coordinator.settled == 1 and screen.valid == 0
