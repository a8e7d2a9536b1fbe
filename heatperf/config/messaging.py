"""The options of oslo.messaging, and of the audit filter that uses it, without loading oslo.messaging.

In: nothing. Out: ``OPTIONS`` (group -> options) with the names, types and defaults of oslo.messaging 18.3. Loading its
own declarations would load its drivers, kombu and eventlet into every worker, whether the stock transport runs or not.
A test compares the two; where the stock transport runs, it registers its own over these, which oslo.config takes for
the same. Descriptions are left to oslo.messaging: the sample of heat.conf has them from there.
"""

import os
import socket
import sys

from oslo_config import cfg

RABBIT = "oslo_messaging_rabbit"
NOTIFICATIONS = "oslo_messaging_notifications"
METRICS = "oslo_messaging_metrics"
TRACING = "oslo_messaging_tracing"

_DEFAULT: list[cfg.Opt] = [
    cfg.IntOpt(
        "executor_thread_pool_size", default=64, deprecated_opts=[cfg.DeprecatedOpt("rpc_thread_pool_size", None)]
    ),
    cfg.IntOpt("rpc_response_timeout", default=60),
    cfg.StrOpt("transport_url", default="rabbit://", secret=True),
    cfg.StrOpt("control_exchange", default="openstack"),
    cfg.BoolOpt("rpc_ping_enabled", default=False),
]

_NOTIFICATIONS: list[cfg.Opt] = [
    cfg.MultiStrOpt("driver", default=[]),
    cfg.StrOpt("transport_url", secret=True),
    cfg.ListOpt("topics", default=["notifications"]),
    cfg.IntOpt("retry", default=-1),
]

_RABBIT: list[cfg.Opt] = [
    cfg.BoolOpt("amqp_durable_queues", default=False),
    cfg.BoolOpt("amqp_auto_delete", default=False),
    cfg.IntOpt("rpc_conn_pool_size", default=30, min=1),
    cfg.IntOpt("conn_pool_min_size", default=2),
    cfg.IntOpt("conn_pool_ttl", default=1200),
    cfg.BoolOpt("ssl", default=False),
    cfg.StrOpt("ssl_version", default=""),
    cfg.StrOpt("ssl_key_file", default=""),
    cfg.StrOpt("ssl_cert_file", default=""),
    cfg.StrOpt("ssl_ca_file", default=""),
    cfg.BoolOpt(
        "ssl_enforce_hostname_verification",
        default=True,
        deprecated_for_removal=True,
        deprecated_reason="it has no effect any more",
    ),
    cfg.BoolOpt(
        "ssl_enforce_fips_mode",
        default=False,
        deprecated_for_removal=True,
        deprecated_reason="it has no effect any more, since OpenSSL 3 has no such mode",
    ),
    cfg.FloatOpt("kombu_reconnect_delay", default=1.0, min=0.0, max=4.5),
    cfg.FloatOpt("kombu_reconnect_splay", default=0.0, min=0.0),
    cfg.StrOpt("kombu_compression"),
    cfg.IntOpt("kombu_missing_consumer_retry_timeout", default=60, deprecated_name="kombu_reconnect_timeout"),
    cfg.StrOpt("kombu_failover_strategy", choices=("round-robin", "shuffle"), default="round-robin"),
    cfg.StrOpt("rabbit_login_method", choices=("PLAIN", "AMQPLAIN", "EXTERNAL", "RABBIT-CR-DEMO"), default="AMQPLAIN"),
    cfg.IntOpt("rabbit_retry_interval", default=1, min=1),
    cfg.IntOpt("rabbit_retry_backoff", default=2, min=0),
    cfg.IntOpt("rabbit_interval_max", default=30, min=1),
    cfg.BoolOpt("rabbit_ha_queues", default=False),
    cfg.BoolOpt("rabbit_quorum_queue", default=False),
    cfg.BoolOpt("rabbit_transient_quorum_queue", default=False),
    cfg.IntOpt("rabbit_quorum_delivery_limit", default=0),
    cfg.IntOpt("rabbit_quorum_max_memory_length", default=0),
    cfg.IntOpt("rabbit_quorum_max_memory_bytes", default=0),
    cfg.IntOpt("rabbit_transient_queues_ttl", default=1800, min=0),
    cfg.IntOpt("rabbit_qos_prefetch_count", default=0),
    cfg.IntOpt("heartbeat_timeout_threshold", default=60),
    cfg.IntOpt("heartbeat_rate", default=3),
    cfg.BoolOpt(
        "direct_mandatory_flag",
        default=True,
        deprecated_for_removal=True,
        deprecated_reason="replies are always sent that way; only engines send any",
    ),
    cfg.BoolOpt("enable_cancel_on_failover", default=False),
    cfg.BoolOpt("use_queue_manager", default=False),
    cfg.StrOpt("hostname", default=socket.gethostname(), sample_default="node1.example.com"),
    # what a start makes of it: see load
    cfg.StrOpt("processname", default=os.path.basename(sys.argv[0]), sample_default="nova-api"),
    cfg.BoolOpt("rabbit_stream_fanout", default=False),
]

_KAFKA: list[cfg.Opt] = [
    cfg.IntOpt("kafka_max_fetch_bytes", default=1048576),
    cfg.FloatOpt("kafka_consumer_timeout", default=1.0),
    cfg.StrOpt("consumer_group", default="oslo_messaging_consumer"),
    cfg.FloatOpt("producer_batch_timeout", default=0.0),
    cfg.IntOpt("producer_batch_size", default=16384),
    cfg.StrOpt("compression_codec", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"]),
    cfg.BoolOpt("enable_auto_commit", default=False),
    cfg.IntOpt("max_poll_records", default=500),
    cfg.StrOpt("security_protocol", default="PLAINTEXT", choices=("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL")),
    cfg.StrOpt("sasl_mechanism", default="PLAIN"),
    cfg.StrOpt("ssl_cafile", default=""),
    cfg.StrOpt("ssl_client_cert_file", default=""),
    cfg.StrOpt("ssl_client_key_file", default=""),
    # no secret to oslo.messaging, but one all the same
    cfg.StrOpt("ssl_client_key_password", default="", secret=True),
]

_METRICS: list[cfg.Opt] = [
    cfg.BoolOpt("metrics_enabled", default=False),
    cfg.IntOpt("metrics_buffer_size", default=1000),
    cfg.StrOpt("metrics_socket_file", default="/var/tmp/metrics_collector.sock"),  # noqa: S108 - the published default
    cfg.StrOpt("metrics_process_name", default=""),
    cfg.IntOpt("metrics_thread_stop_timeout", default=10),
]

_TRACING: list[cfg.Opt] = [
    cfg.BoolOpt("tracing_enabled", default=False),
    cfg.StrOpt("tracing_service_name", default="openstack"),
    cfg.StrOpt("otel_exporter_otlp_endpoint", default="http://localhost:4318"),
    cfg.StrOpt("otlp_protocol", default="http/protobuf", choices=("http/protobuf", "grpc")),
    cfg.BoolOpt("insecure", default=False),
]

_AUDIT: list[cfg.Opt] = [
    cfg.BoolOpt("use_oslo_messaging", default=True),
    cfg.StrOpt("driver"),
    cfg.ListOpt("topics"),
    cfg.StrOpt("transport_url", secret=True),
]

OPTIONS: dict[str | None, list[cfg.Opt]] = {
    None: _DEFAULT,
    NOTIFICATIONS: _NOTIFICATIONS,
    RABBIT: _RABBIT,
    "oslo_messaging_kafka": _KAFKA,
    METRICS: _METRICS,
    TRACING: _TRACING,
    "audit_middleware_notifications": _AUDIT,
}
