"""The graphs of the fixtures, for workers: each is built again from its file and case, under its address."""

import os
from contextlib import suppress

from tests.conformance.building import LABEL, Building
from tests.conformance.document import cases
from tests.conformance.location import told_by
from tests.conformance.world import World


def build_all() -> None:
    """Build and register the graph of every case that compiles."""
    for case in cases(told_by(os.environ)):
        with suppress(Exception):
            # What cannot be built is told by the test of the case, and keeps no other one from its worker.
            Building(case.section(), World(), f"{LABEL}{case.address}").graph()


build_all()
