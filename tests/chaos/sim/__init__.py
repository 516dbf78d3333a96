"""The seeded simulation of the recording protocol, and where each of its invariants is judged.

every index is recorded exactly once: `verdict` by the product's own `verify`, `seen_store` slot by slot
the folded result equals a serial run's: `verdict`, against `subject.value_of`
the recorded token was granted, and not superseded when accepted: `seen_store`, `seen_ledger._is_in_force`
at most one valid token a slot at any instant: `seen_ledger`, at each claim and at each queueing
recorded slots never change, nor recorded steps: `seen_store`, after each call
the outcome is written once, by the then-current epoch: `seen_store`
executions <= instances + faults: `verdict`; a retry declared on a node is no execution of its own
no keys are left of closed runs: `verdict`
done within a bound after the last fault: `world.World._over`, and `clock` where it goes round for ever
delivery counters never go down: `seen_ledger`, each is one more than the one before
"""
