"""Which process is meant, and whose leases are freed."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import psutil

from workers.children import Children
from workers.process import is_alive, started_ms, this_owner


class Ledger:
    """Remembers what was released."""

    def __init__(self, *owners):
        self.known = [str(owner) for owner in owners]
        self.released = []

    def owners(self, place):
        return [owner for owner in self.known if owner.startswith(f"{place}:")]

    def release(self, owner, *, has_died):
        self.released.append((owner, has_died))
        return 1


def a_ledger(*owners) -> Any:
    return Ledger(*owners)


def a_child(code):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def owner_of(pid):
    return replace(this_owner("w@h"), pid=pid)


def test_this_process_lives_and_its_text_is_read_back():
    owner = this_owner("w@h")
    assert is_alive(owner)
    assert owner.pid == os.getpid()
    assert type(owner).parse(str(owner)) == owner


def test_a_process_lives_on_where_the_clock_of_its_host_is_set(monkeypatch):
    owner = this_owner("w@h")
    monkeypatch.setattr(psutil.Process, "create_time", lambda _process: 1.0)
    assert is_alive(owner)
    assert this_owner("w@h") == owner


def test_another_process_of_the_same_pid_is_not_the_one_meant():
    owner = this_owner("w@h")
    assert not is_alive(replace(owner, started_ms=owner.started_ms - 60_000))


def test_a_process_that_ended_is_dead_before_anybody_has_waited_for_it():
    with a_child("") as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(owner_of(child.pid))
        child.wait()
        assert not is_alive(owner_of(child.pid))


def test_only_the_dead_are_released():
    dead = replace(this_owner("w@h"), started_ms=1)
    ledger = a_ledger(this_owner("w@h"), dead)
    Children("w@h", ledger, ledger).look()
    assert ledger.released == [(str(dead), True)]


def test_owners_of_another_place_are_left_alone():
    elsewhere = replace(this_owner("w@h"), host="elsewhere", started_ms=1)
    ledger = a_ledger(elsewhere)
    Children("w@h", ledger, ledger).look()
    assert ledger.released == []


def test_a_worker_that_ends_hands_back_its_own_and_leaves_the_living_alone():
    own = this_owner("w@h")
    parent = psutil.Process(os.getppid())
    living = replace(own, pid=parent.pid, started_ms=started_ms(parent))
    ledger = a_ledger(own, living)
    Children("w@h", ledger, ledger).finish()
    assert ledger.released == [(str(own), False)]


def test_at_the_end_of_a_worker_its_dead_children_have_not_died_and_those_of_others_have():
    ours, others = (replace(this_owner(name), started_ms=1) for name in ("w:1@h", "v@h"))
    ledger = a_ledger(ours, others)
    Children("w:1@h", ledger, ledger).finish()
    assert ledger.released == [(str(ours), False), (str(others), True)]
