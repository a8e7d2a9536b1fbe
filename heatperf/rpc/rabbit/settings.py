"""What is configured about messaging, in the form that this transport needs. Pure data; options.py reads it."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heatperf.rpc.rabbit.hosts import Host, Pace


def random_reply_queue() -> str:
    """A name that no other process has."""
    return f"reply_{uuid.uuid4().hex}"


@dataclass(frozen=True)
class RabbitSettings:
    """Sizes in bytes, times in seconds. Its repr shows no secret.

    :ivar control_exchange: [DEFAULT] control_exchange
    :ivar durable: exchange, as amqp_durable_queues or rabbit_quorum_queue has it
    :ivar auto_delete: amqp_auto_delete
    :ivar name_reply_queue: makes the name of a worker's reply queue; may block, so it is called in a native thread
    :ivar reply_durable: rabbit_transient_quorum_queue
    :ivar reply_arguments: of the reply queue's declaration
    :ivar consumer_arguments: of its consumer
    :ivar prefetch: rabbit_qos_prefetch_count
    :ivar compression: kombu_compression
    :ivar heartbeat: heartbeat_timeout_threshold
    :ivar mechanisms: of SASL, by rabbit_login_method
    :ivar tls: None for plain TCP
    :ivar response_timeout: [DEFAULT] rpc_response_timeout
    :ivar connect_deadline: [heatperf] rpc_connect_deadline
    :ivar engine_grace: [heatperf] rpc_engine_grace
    :ivar most_under_way: calls and casts of one worker
    """

    hosts: tuple[Host, ...]
    vhost: str = "/"
    control_exchange: str = "heat"
    durable: bool = False
    auto_delete: bool = False
    name_reply_queue: Callable[[], str] = random_reply_queue
    reply_durable: bool = False
    reply_arguments: Mapping[str, Any] = field(default_factory=dict)
    consumer_arguments: Mapping[str, Any] = field(default_factory=dict)
    prefetch: int = 0
    compression: str | None = None
    heartbeat: int = 60
    mechanisms: tuple[str, ...] = ("AMQPLAIN", "PLAIN")
    pace: Pace = Pace()
    shuffle: bool = False
    tls: ssl.SSLContext | None = None
    response_timeout: float = 60.0
    connect_deadline: float = 5.0
    engine_grace: float = 15.0
    most_under_way: int = 512
    program: str = "heat-api"
