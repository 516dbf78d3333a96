"""Publishes Celery messages, many in one round trip where the transport can."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.exceptions import KombuError

from orchestrator.errors import BrokerUnavailable
from orchestrator.execution.executor import Hint
from orchestrator.log_line import on_one_line
from orchestrator.redaction import redacted
from orchestrator.seal import Seal
from workers.configuration import direct_queue, queue_name
from workers.message import Message, encode
from workers.tasks import TASK_NAME
from workers.tracing import under

BATCH = 1_000


class Publisher:
    """One connection to the broker, for one thread; it is made when it is needed, and again after an error."""

    def __init__(self, app: Celery, seal: Seal, *, namespace: str) -> None:
        self._app = app
        self._seal = seal
        self._namespace = namespace
        self._connection: Any = None
        self._producer: Any = None
        self._queues: dict[str, Any] = {}

    def publish(self, hints: Sequence[Hint]) -> None:
        """Publish in order.

        Raises:
            BrokerUnavailable: some may not have been published.
        """
        # A connection that was idle may be dead without knowing it, which a fresh one tells apart from a dead broker.
        if not self._try(hints):
            self.close()
            self._publish_all(hints)

    def close(self) -> None:
        """Let go of the connection; the next `publish` makes a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()

    def _try(self, hints: Sequence[Hint]) -> bool:
        try:
            self._publish_all(hints)
        except BrokerUnavailable:
            return False
        return True

    def _publish_all(self, hints: Sequence[Hint]) -> None:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
        connection = self._connection
        try:
            with self._ready_producer().batch(BATCH):
                for hint in hints:
                    with under(hint.trace, hint.index):
                        self._publish_one(hint, self._producer)
        except (KombuError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            url = connection.as_uri()
            raise BrokerUnavailable(f"cannot publish to {url}: {error}; bring the broker back") from error

    def _ready_producer(self) -> Any:
        if self._producer is None:
            # Without a bound, kombu would try to connect for ever.
            self._connection.ensure_connection(max_retries=1, interval_start=0.1, reraise_as_library_errors=False)
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _publish_one(self, hint: Hint, producer: Any) -> None:
        amqp = self._app.amqp
        message = amqp.as_task_v2(
            str(uuid4()),
            TASK_NAME,
            args=(self._text(hint),),
            shadow=hint.label,
            argsrepr=_shown(hint),
            kwargsrepr="{}",
            ignore_result=True,
            create_sent_event=self._app.conf.task_send_sent_event,
        )
        queue = self._queue(hint)
        # In Redis a queue is a list that needs no declaring, and a batch must not be cut by one.
        declare = [] if producer.supports_batch_publish else [queue]
        amqp.send_task_message(producer, TASK_NAME, message, queue=queue, declare=declare, retry=False)

    def _text(self, hint: Hint) -> str:
        message = Message(
            run_id=hint.run_id,
            fan_out=hint.fan_out,
            places=((hint.index, hint.generation),),
            graph=hint.graph,
            fingerprint=hint.fingerprint,
        )
        return encode(message, self._seal)

    def _queue(self, hint: Hint) -> Any:
        name = hint.queue or queue_name(self._namespace, hint.graph, hint.fingerprint)
        if name not in self._queues:
            self._queues[name] = direct_queue(name)
        return self._queues[name]


def _shown(hint: Hint) -> str:
    shown = f"index={hint.index}"
    return shown if hint.key is None else f"{shown} key={on_one_line(redacted(hint.key))}"
