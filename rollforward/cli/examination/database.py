"""What is asked of the checkpoint store."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from backends.checkpointers.sql.migration import SchemaState
from backends.health.file_system import NETWORK, VOLATILE
from backends.health.sql import DatabaseFacts, inspect_database
from rollforward.cli.examination.clock import clock
from rollforward.cli.examination.finding import Finding, refused, warning, well
from rollforward.cli.examination.network import of_database
from rollforward.cli.setting import hide_password
from workers.settings import Settings

_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def checkpoint_store(settings: Settings) -> Iterator[Finding]:
    """Whether what is recorded stays; a Redis that keeps checkpoints is examined with the other servers."""
    url = settings.checkpoint_url
    if url.startswith("memory"):
        found = "memory:// forgets every run when its process ends"
        yield refused("checkpoint_store", found, "set ROLLFORWARD_CHECKPOINT_URL")
    elif url.startswith(("redis", "unix")):
        yield well("checkpoint_store", hide_password(url))
    else:
        facts = inspect_database(url, namespace=settings.namespace)
        yield _schema(facts, hide_password(url))
        yield from durability(facts)
        if facts.clock_offset_seconds is not None:
            yield of_database(facts.host, is_encrypted=facts.is_encrypted)
            yield clock("database_clock", facts.clock_offset_seconds)


def durability(facts: DatabaseFacts) -> Iterator[Finding]:
    """Whether a commit of ours survives the process, the host and the power."""
    if facts.file is None:
        weak = list(_weak_settings(facts.settings))
        yield from weak or [well("database_durability", f"synchronous_commit {facts.settings['synchronous_commit']}")]
    else:
        yield from _journal(facts.settings)
        yield _file_system(facts.file, facts.file_system)
        yield _file(facts.file)


def _schema(facts: DatabaseFacts, shown: str) -> Finding:
    found = f"{facts.schema.value} in {shown}"
    if facts.schema is SchemaState.OLDER:
        return warning("database_schema", found, "run `rollforward migrate`")
    if facts.schema is SchemaState.NEWER:
        return refused("database_schema", found, "upgrade this installation")
    is_absent = facts.schema is SchemaState.ABSENT
    return well("database_schema", f"{found}; the first run makes it" if is_absent else found)


def _weak_settings(settings: Mapping[str, str]) -> Iterator[Finding]:
    check = "database_durability"
    if settings["is_standby"] == "on" or settings["transaction_read_only"] == "on":
        way_out = "let ROLLFORWARD_CHECKPOINT_URL name the primary, and a role that may write"
        yield refused(check, "it takes no writes", way_out)
    if settings["fsync"] != "on":
        found = "fsync is off: a power cut takes what was confirmed, or the whole database"
        yield refused(check, found, "set fsync on")
    if settings["synchronous_commit"] == "off":
        found = "synchronous_commit is off in our connections: a crash takes the last commits"
        way_out = "set it on for this role, or have the pooler in between pass our options on"
        yield refused(check, found, way_out)
    if settings["full_page_writes"] != "on":
        found = "full_page_writes is off: a power cut may tear pages"
        yield warning(check, found, "set full_page_writes on")


def _journal(settings: Mapping[str, str]) -> Iterator[Finding]:
    mode = settings.get("journal_mode")
    if mode is None:
        return
    if mode == "wal":
        yield well("database_durability", f"journal {mode}, synchronous {settings['synchronous']}")
        return
    found = f"its journal is {mode}, since its file system cannot do WAL: readers and the writer wait for each other"
    yield warning("database_durability", found, "move the file to a local disk, or use PostgreSQL")


def _file_system(file: Path, kind: str | None) -> Finding:
    check = "database_file_system"
    if kind in NETWORK:
        found = f"{file} is on {kind}, whose locks and flushes SQLite cannot rely on"
        return refused(check, found, "move it to a local disk, or use PostgreSQL")
    if kind in VOLATILE:
        return warning(check, f"{file} is on {kind}, which is gone with the next boot", "move it to a disk")
    return well(check, kind or "this system does not tell")


def _file(file: Path) -> Finding:
    check = "database_file"
    there = next(place for place in (file, *file.parents) if place.exists())
    is_fit = there == file or there.is_dir()
    if not is_fit or not os.access(there, os.W_OK):
        way_out = "give this user the right to write there, or set ROLLFORWARD_CHECKPOINT_URL"
        return refused(check, f"{file} cannot be written, for the sake of {there}", way_out)
    mode = stat.S_IMODE(there.stat().st_mode)
    if there == file and mode & _FOR_OTHERS:
        found = f"others than its owner may open {file} ({mode:o}), which holds items and results"
        return warning(check, found, "chmod 600 it")
    return well(check, f"{mode:o}" if there == file else "not made yet")
