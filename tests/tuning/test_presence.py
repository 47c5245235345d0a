"""Who is taken for alive."""

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import optuna
import pytest
from optuna.storages import InMemoryStorage

from codes.tuning.ledger import OUTCOME, RECORD, Ledger, outcome_of, record_of
from codes.tuning.members import Members
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.presence import GRACE, PREFIX, Presence
from codes.tuning.worker import Settings
from tests.tuning.studies import ELSEWHERE, composed, entered


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study()


@pytest.fixture
def clock():
    return Clock()


def test_processes_of_this_host_live_as_long_as_they_run(study):
    presence = Presence(study)
    neighbour = entered(study)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        child = entered(study, pid=process.pid, start=Presence(study).own["start"])
        assert presence.others() == [neighbour.name], "another process has its number now"
        running = entered(study, pid=process.pid, start=subprocess_start(process.pid))
        assert set(presence.others()) == {neighbour.name, running.name}
        process.communicate()
    assert presence.others() == [neighbour.name] and child.name not in presence.living()
    neighbour.leave()
    assert presence.living() == {presence.name}


def subprocess_start(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def test_other_hosts_live_as_long_as_their_heartbeat_changes(study, clock):
    presence, other = Presence(study, clock), entered(study, **ELSEWHERE)
    for _ in range(5):
        assert presence.others() == [other.name]
        clock.now += GRACE - 1
        other.beat()
    assert presence.others() == [other.name]
    clock.now += GRACE
    assert presence.others() == []
    assert Presence(study, clock).others() == [other.name], "a new one cannot know yet"
    presence.bury()
    assert Presence(study, clock).others() == []
    other.beat()  # it had only been asleep
    assert presence.others() == [other.name]


def test_it_shows_within_the_grace_who_lives(study, clock):
    presence, awake, dead = Presence(study, clock), entered(study, **ELSEWHERE), entered(study, **ELSEWHERE)
    entered(study)
    assert set(presence.doubtful()) == {awake.name, dead.name}
    clock.now += 30
    awake.beat()
    assert presence.doubtful() == [dead.name]
    clock.now += GRACE - 30
    assert presence.doubtful() == [] and dead.name not in presence.others()


def test_a_host_that_was_started_anew_has_none_of_its_coordinators(study):
    entered(study, boot="the one before", processes="the one before pid:[1]", of_one_host=True)
    assert Presence(study).others() == []


def test_hosts_of_one_name_do_not_take_each_other_for_dead(study, clock):
    presence = Presence(study, clock)
    other = entered(study, boot="its own", processes="its own pid:[1]")
    assert other.own["host"] == presence.own["host"] and presence.others() == [other.name]
    clock.now += GRACE
    assert presence.others() == []


def test_accounts_do_not_take_each_other_for_dead(study, clock, monkeypatch):
    """Where each sees its own processes only, as on clusters with ``hidepid``."""
    presence = Presence(study, clock)
    with monkeypatch.context() as patch:
        patch.setattr("os.getuid", lambda: 4711)
        other = entered(study, pid=0)  # which no account sees
    assert presence.others() == [other.name]
    clock.now += GRACE
    assert presence.others() == []


def test_containers_without_a_boot_do_not_take_each_other_for_dead(study, monkeypatch):
    """Sandboxes that have a ``/proc`` of their own without ``boot_id``: all their process tables have the same name."""
    monkeypatch.setattr("codes.tuning.presence.BOOT", "/proc/sys/kernel/random/none")
    presence, other = Presence(study), entered(study, pid=0)
    assert presence.others() == [other.name]


def test_signs_are_waited_for_and_the_dead_are_buried(study, monkeypatch):
    monkeypatch.setattr("codes.tuning.presence.GRACE", 1.0)
    dead, told = entered(study, **ELSEWHERE), []
    presence = Presence(study)
    presence.wait_for_signs(told.append)
    presence.wait_for_signs(told.append)
    assert told == [f"waiting up to 1 s for a sign of life of {dead.name}"]
    assert Presence(study).others() == [], "also for those to come"


def test_launches_are_counted(study):
    assert [entered(study).launch for _ in range(3)] == [0, 1, 2]
    assert sum(name.startswith(PREFIX) for name in study.user_attrs) == 3


@pytest.fixture
def ledger_of(study):
    return lambda presence: Ledger(study, 10, presence, nullcontext)


def test_trials_of_the_dead_are_closed_and_those_of_the_living_are_not(study, ledger_of, clock):
    away = ledger_of(entered(study, **ELSEWHERE))
    here = ledger_of(Presence(study, clock))
    away.claim("cpu", "a CPU", 42), here.claim("cpu", "a CPU", 42)
    unsigned = study.ask()
    assert here.close_dead() == 1
    assert [outcome_of(trial) for trial in study.trials] == [None, None, Outcome.CRASHED]
    assert "before it had signed" in record_of(study.trials[unsigned.number])["reason"]
    clock.now += GRACE
    assert here.close_dead() == 1
    assert outcome_of(study.trials[0]) is Outcome.CRASHED and outcome_of(study.trials[1]) is None


def test_a_result_that_was_written_before_its_coordinator_died_is_kept(study, ledger_of):
    away = ledger_of(entered(study, **ELSEWHERE))
    trial = away.claim("cpu", "a CPU", 42)
    trial.set_user_attr(RECORD, {"values": [0.5], "metrics": {"lae99": 0.5}})
    trial.set_user_attr(OUTCOME, "complete")  # and killed before it could tell
    away.presence.leave()
    assert study.trials[0].state.name == "RUNNING"
    here = ledger_of(Presence(study))
    assert here.close_dead() == 0
    assert here.valid() == 1 and study.best_value == 0.5


def test_a_trial_that_another_coordinator_closed_stays_as_it_is(study, ledger_of, clock):
    away = ledger_of(entered(study, **ELSEWHERE))
    trial = away.claim("cpu", "a CPU", 42)
    here = ledger_of(Presence(study, clock))
    here.close_dead()
    clock.now += GRACE
    here.close_dead()
    assert not away.settle(trial, Verdict(Outcome.COMPLETE), [0.5])
    assert outcome_of(study.trials[0]) is Outcome.CRASHED and here.valid() == 0


class Meanwhile(InMemoryStorage):
    """Lets another coordinator act once, right after a trial's outcome is written."""

    def set_trial_user_attr(self, trial_id, key, value):
        super().set_trial_user_attr(trial_id, key, value)
        if key == OUTCOME and (act := vars(self).pop(value, None)):
            act()


def taken_for_dead(clock):
    """A storage, its study, a trial, the ledger of its coordinator, and that of one which takes it for dead."""
    storage = Meanwhile()
    study = optuna.create_study(storage=storage)
    away, here = (Ledger(study, 10, who, nullcontext) for who in (entered(study, **ELSEWHERE), Presence(study, clock)))
    trial = away.claim("cpu", "a CPU", 42)
    here.close_dead()
    clock.now += GRACE
    return storage, study, trial, away, here


@pytest.mark.parametrize("between", ["crashed", "complete"])  # the writes of the one that closes, or of the sleeper
def test_two_coordinators_that_settle_one_trial_at_once_leave_it_whole(between, clock):
    storage, study, trial, away, here = taken_for_dead(clock)
    told = []

    def tell():
        told.append(away.settle(trial, Verdict(Outcome.COMPLETE), [0.5]))

    first, second = (here.close_dead, tell) if between == "crashed" else (tell, here.close_dead)
    setattr(storage, between, second)
    assert not first(), "none was closed as crashed"
    assert not hasattr(storage, between) and len(told) == 1
    (found,) = study.trials
    assert here.valid() == (found.values is not None) == (outcome_of(found) is Outcome.COMPLETE)


class Sleeper(optuna.samplers.RandomSampler):
    """Calls ``asleep()``, once, while the first trial gets its second parameter."""

    def __init__(self, asleep):
        super().__init__(0)
        self.asleep = [asleep]

    def sample_independent(self, study, trial, name, distribution):
        if len(trial.params) == 1 and self.asleep:
            self.asleep.pop()()
        return super().sample_independent(study, trial, name, distribution)


def test_a_trial_that_another_coordinator_closed_before_it_began_is_replaced(study, ledger_of, clock, tmp_path):
    away, here = ledger_of(entered(study, **ELSEWHERE)), ledger_of(Presence(study, clock))

    def asleep():
        here.close_dead()
        clock.now += GRACE
        here.close_dead()

    study.sampler = Sleeper(asleep)
    said, plan = [], plan_study(composed(tmp_path, whole_space=True))
    members = Members(away, plan, None, said.append)
    worker = SimpleNamespace(settings=Settings("cpu", 1, "", None, tmp_path, 60.0), hardware="a CPU")
    assert members.claim(worker) is None
    assert said == ["another coordinator closed a trial of this one before it began; the next one is asked for"]
    (group,) = members.with_companions(members.claim(worker), worker)
    assert group.trial.number == 1 and len(study.trials[0].params) == 1
    assert [outcome_of(trial) for trial in study.trials] == [Outcome.CRASHED, None]


def test_a_result_that_another_coordinator_told_meanwhile_counts(clock):
    storage, study, trial, away, here = taken_for_dead(clock)
    storage.complete = here.close_dead
    assert away.settle(trial, Verdict(Outcome.COMPLETE), [0.5])
    assert study.best_value == 0.5 and here.valid() == 1
    assert away.settle(trial, Verdict(Outcome.COMPLETE), [0.5]), "also where it could not hear that it was written"
    assert not away.settle(trial, Verdict(Outcome.PRUNED)) and study.best_value == 0.5


class Waker(optuna.samplers.RandomSampler):
    """Calls what waits in ``then``, once, while a trial is told."""

    def __init__(self):
        super().__init__(0)
        self.then = []

    def after_trial(self, study, trial, state, values):
        if self.then:
            self.then.pop()()


def test_a_coordinator_that_wakes_up_while_its_trial_is_closed_disturbs_nobody(study, ledger_of, clock):
    away, here = ledger_of(entered(study, **ELSEWHERE)), ledger_of(Presence(study, clock))
    trial = away.claim("cpu", "a CPU", 42)
    trial.set_user_attr(RECORD, {"values": [0.5]})
    trial.set_user_attr(OUTCOME, "complete")
    study.sampler = Waker()
    study.sampler.then.append(lambda: away.settle(trial, Verdict(Outcome.COMPLETE), [0.5]))
    here.close_dead()
    clock.now += GRACE
    assert here.close_dead() == 0
    assert study.best_value == 0.5 and here.valid() == 1
