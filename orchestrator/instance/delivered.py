"""One delivery of an instance, with what is around it while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.context import Cancellation, InstanceContext
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.frame import FanOuts, Frame
from orchestrator.identity import Level
from orchestrator.instance.encoder import Encoder
from orchestrator.instance.journal import InstanceJournal
from orchestrator.instance.kept import Kept
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed
from orchestrator.observers.emitter import Collected, Emitter
from orchestrator.observers.event import Phase
from orchestrator.observers.voice import Voice


@dataclass(frozen=True, slots=True)
class Shared:
    """What an instance shares with those nested in it: where their events go, and what is kept while they run."""

    emitter: Emitter
    kept: Kept | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One delivery of an instance; `collected` are the events that travel with its report, where they do.

    `own_kept` is what is kept of it and of those nested in it: None where it is nested itself, or nothing is kept.
    """

    work: Claimed
    briefing: Briefing
    runtime: Runtime
    shared: Shared
    collected: Collected | None
    encoder: Encoder
    own_kept: Kept | None
    journal: InstanceJournal
    voice: Voice

    @classmethod
    def of(cls, work: Claimed, briefing: Briefing, runtime: Runtime, outer: Shared | None) -> "Delivered":
        """A delivery that begins; `outer` is shared by the instance that it is nested in."""
        collected, own_kept, encoder = None, None, Encoder(work)
        if outer is None:
            collected = told = Collected(frozenset(map(Phase, briefing.events_wanted)))
            own_kept = _kept(work, briefing, runtime, lambda: encoder.texts(told.take()))
            outer = Shared(runtime.emitter or collected, own_kept)
        return cls(
            work=work,
            briefing=briefing,
            runtime=runtime,
            shared=outer,
            collected=collected,
            encoder=encoder,
            own_kept=own_kept,
            journal=InstanceJournal(briefing.fan_out.enclosing(work.slot.index), outer.kept),
            voice=Voice(outer.emitter, work, briefing, runtime.worker),
        )

    def frame(self, fan_outs: FanOuts) -> Frame:
        """Where its subgraph runs; `fan_outs` runs what is nested in it."""
        briefing, key = self.briefing, self.briefing.fan_out
        return Frame(
            run_id=briefing.run_id,
            invocation_id=briefing.invocation_id,
            correlation_id=briefing.correlation_id,
            root=self.runtime.find(briefing.graph, briefing.fingerprint),
            journal=self.journal,
            fan_outs=fan_outs,
            emitter=self.shared.emitter,
            tracing=self.runtime.tracing,
            namespace=(*key.namespace, key.node),
            levels=(*briefing.levels, Level(key.node, index=self.work.slot.index)),
            lineage=key.enclosing(self.work.slot.index),
            voice=self.voice,
        )

    def context(self, cancellation: Cancellation) -> InstanceContext:
        """What user code can ask about it."""
        briefing, work = self.briefing, self.work
        return InstanceContext(
            run_id=briefing.run_id,
            invocation_id=briefing.invocation_id,
            correlation_id=briefing.correlation_id,
            fan_out=briefing.fan_out,
            index=work.slot.index,
            item_key=work.key,
            token=work.token,
            delivery=work.delivery,
            cancellation=cancellation,
            metadata=briefing.metadata,
        )

    @property
    def events(self) -> tuple[str, ...]:
        """Those that travel with its report: what was not told while it ran. They are taken once."""
        return () if self.collected is None else self.encoder.texts(self.voice.left(self.collected))


def _kept(work: Claimed, briefing: Briefing, runtime: Runtime, events: Callable[[], tuple[str, ...]]) -> Kept | None:
    if runtime.keep is None and not work.progress:
        return None
    return Kept(work, runtime.keep, invocation_id=briefing.invocation_id, events=events)
