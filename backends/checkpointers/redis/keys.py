"""The names of the store's keys. One pattern covers all of them: `<namespace>:cp:*`.

Those of a run start with `<namespace>:cp:{<run_id>}:`. The scripts append the rest:

run                 hash: the run's fields; without epoch there is no such run
invocations         hash: start time of each invocation, and under <id>:ended its end, status and error
steps               hash: by position
fan_outs            hash: under <fan-out> its facts, under <fan-out>:hashes, :keys, :tags and :fold what belongs to it
entered             list of fan-outs in the order of their entry
recorded_in         set of fan-outs that have any of the keys below
slots:<fan-out>     hash: contributions, by index:generation
latest:<fan-out>    hash: by index the latest generation that has a contribution, where it is not 0
tally:<fan-out>     hash: counts by outcome, deliveries, losses, first_at, last_at; stop is one more than the last index
errors:<fan-out>    hash: error rows, by index:generation
losses:<fan-out>    hash: 0 or 1 for charged, and the worker, by index:generation:delivery
charged:<fan-out>   hash: how many losses are charged, by index:generation

The indexes are `<namespace>:cp:runs` (sorted set by creation), `<namespace>:cp:names` (sorted set by name),
`<namespace>:cp:invocations` (hash: the run of each invocation), `<namespace>:cp:open` (sorted set by creation of runs
that have not ended) and `<namespace>:cp:ended` (sorted set by their end of those that have). `<namespace>:cp:indexed`
is the time of creation up to which every run is in one of the last two.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    @property
    def index(self) -> str:
        """What the names of the indexes start with."""
        return f"{self.namespace}:cp:"

    def run(self, run_id: str) -> str:
        """What the keys of a run start with."""
        return f"{self.index}{{{run_id}}}:"
