"""The names of the ledger's keys. One pattern covers all of them: `<namespace>:run:*`.

Those of a run start with `<namespace>:run:{<run_id>}:`; the braces keep a run on one node of a cluster. The scripts
append the rest:

meta                        hash: epoch, cancelled_in, and a field for each owner that was granted something
fan_outs                    set of fan-out ids
tombstone                   epoch of a forgotten run and when it was created, for a day
<fan-out>:head              hash: briefing, briefing_hash, last_order, last_claimed, cancelled_in
<fan-out>:closed            bitmap of the recorded slots
<fan-out>:wake              stream of notices for the orchestrator: reported, lapsed, declined
<fan-out>:generations       hash: generation of a closed slot, where it is not 0
<fan-out>:slots             hash: the packed entry of each slot that is not closed
<fan-out>:items             hash: what a claim is given
<fan-out>:reports           hash: reports that are not recorded yet
<fan-out>:progress:<index>  list: what an instance has got so far
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    def run(self, run_id: str) -> str:
        """What the keys of a run start with."""
        return f"{self.namespace}:run:{{{run_id}}}:"

    def meta(self, run_id: str) -> str:
        """Hash: what is known of a run, from when it is opened until it is forgotten."""
        return f"{self.run(run_id)}meta"

    @property
    def workers(self) -> str:
        """Hash: the facts of each worker, and until when they hold."""
        return f"{self.namespace}:run:workers"

    def runs_of(self, owner: str) -> str:
        """Set: the runs in which an owner may hold leases."""
        return f"{self.namespace}:run:owner:{owner}"

    def owners_at(self, place: str) -> str:
        """Set: the owners that have claimed from a place."""
        return f"{self.namespace}:run:place:{place}"
