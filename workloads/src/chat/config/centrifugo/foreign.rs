//! What Centrifugo v6 knows and we do not offer: engines and brokers of clusters, consumers, other transports, other
//! interfaces. A file that has such a section switched off, or says what is so anyway, is read as if it had not.

use super::super::keys::{Key, Kind, Set};
use super::section::{Lens, When};
use Kind::{Any, Bool, Duration, Number, Text, Texts};

const fn not(kind: Kind, name: &'static str, default: &'static str) -> Key<()> {
    Key { name, default, says: "", set: Set::Not(kind) }
}

const fn section(prefix: &'static str, keys: &'static [Key<()>], when: Option<When>) -> Lens<()> {
    Lens { prefix, keys, of: |draft, _| &mut draft.nothing, when }
}

/// All of them.
pub static SECTIONS: &[Lens<()>] = &[
    section("http_server.tls_autocert", HTTP_SERVER_TLS_AUTOCERT, None),
    section("http_server.internal_tls", TLS, None),
    section("engine.redis", ENGINE_REDIS, REDIS_ENGINE),
    section("engine.redis.tls", TLS, None),
    section("engine.redis.sentinel_tls", TLS, None),
    section("engine.redis.replica_client", REPLICA, None),
    section("broker", BROKER, None),
    section("broker.redis", BROKER_REDIS, Some(("broker.type", &["redis"]))),
    section("broker.redis.tls", TLS, None),
    section("broker.redis.sentinel_tls", TLS, None),
    section("broker.redis.replica_client", REPLICA, None),
    section("broker.nats", NATS, Some(("broker.type", &["nats"]))),
    section("broker.nats.tls", TLS, None),
    section("broker.nats.raw_mode", NATS_RAW_MODE, None),
    section("broker.postgres", BROKER_POSTGRES, Some(("broker.type", &["postgres"]))),
    section("broker.postgres.tls", TLS, None),
    section("broker.postgres.outbox", OUTBOX, None),
    section("broker.redisnats.redis", BROKER_REDIS, Some(("broker.type", &["redisnats"]))),
    section("broker.redisnats.redis.tls", TLS, None),
    section("broker.redisnats.redis.sentinel_tls", TLS, None),
    section("broker.redisnats.redis.replica_client", REPLICA, None),
    section("broker.redisnats.nats", NATS, Some(("broker.type", &["redisnats"]))),
    section("broker.redisnats.nats.tls", TLS, None),
    section("broker.redisnats.nats.raw_mode", NATS_RAW_MODE, None),
    section("presence_manager", BROKER, None),
    section("presence_manager.redis", PRESENCE_MANAGER_REDIS, Some(("presence_manager.type", &["redis"]))),
    section("presence_manager.redis.tls", TLS, None),
    section("presence_manager.redis.sentinel_tls", TLS, None),
    section("presence_manager.redis.replica_client", REPLICA, None),
    section("map_broker", MAP_BROKER, None),
    section("map_broker.redis", MAP_BROKER_REDIS, Some(("map_broker.type", &["redis"]))),
    section("map_broker.redis.tls", TLS, None),
    section("map_broker.redis.sentinel_tls", TLS, None),
    section("map_broker.redis.replica_client", REPLICA, None),
    section("map_broker.postgres", MAP_BROKER_POSTGRES, Some(("map_broker.type", &["postgres"]))),
    section("map_broker.postgres.tls", TLS, None),
    section("map_broker.postgres.outbox", OUTBOX, None),
    section("controller", CONTROLLER, None),
    section("controller.postgres", CONTROLLER_POSTGRES, Some(("controller.type", &["postgres"]))),
    section("controller.postgres.tls", TLS, None),
    section("shared_poll", SHARED_POLL, None),
    section("client.proxy.connect.http.tls", TLS, None),
    section("client.proxy.connect.grpc.tls", TLS, None),
    section("client.proxy.connect.grpc", GRPC, None),
    section("client.proxy.refresh.http.tls", TLS, None),
    section("client.proxy.refresh.grpc.tls", TLS, None),
    section("client.proxy.refresh.grpc", GRPC, None),
    section("client.connect_code_to_unidirectional_disconnect", CLIENT_CONNECT_CODE_TO_UNIDIRECTIONAL_DISCONNECT, None),
    section("channel.proxy.subscribe.http.tls", TLS, None),
    section("channel.proxy.subscribe.grpc.tls", TLS, None),
    section("channel.proxy.subscribe.grpc", GRPC, None),
    section("channel.proxy.publish.http.tls", TLS, None),
    section("channel.proxy.publish.grpc.tls", TLS, None),
    section("channel.proxy.publish.grpc", GRPC, None),
    section("channel.proxy.sub_refresh.http.tls", TLS, None),
    section("channel.proxy.sub_refresh.grpc.tls", TLS, None),
    section("channel.proxy.sub_refresh.grpc", GRPC, None),
    section("channel.proxy.subscribe_stream", PROXY, None),
    section("channel.proxy.subscribe_stream.http.tls", TLS, None),
    section("channel.proxy.subscribe_stream.http", PROXY_HTTP, None),
    section("channel.proxy.subscribe_stream.grpc.tls", TLS, None),
    section("channel.proxy.subscribe_stream.grpc", GRPC, None),
    section("channel.proxy.map_publish", PROXY, None),
    section("channel.proxy.map_publish.http.tls", TLS, None),
    section("channel.proxy.map_publish.http", PROXY_HTTP, None),
    section("channel.proxy.map_publish.grpc.tls", TLS, None),
    section("channel.proxy.map_publish.grpc", GRPC, None),
    section("channel.proxy.map_remove", PROXY, None),
    section("channel.proxy.map_remove.http.tls", TLS, None),
    section("channel.proxy.map_remove.http", PROXY_HTTP, None),
    section("channel.proxy.map_remove.grpc.tls", TLS, None),
    section("channel.proxy.map_remove.grpc", GRPC, None),
    section("channel.proxy.shared_poll_refresh", PROXY, None),
    section("channel.proxy.shared_poll_refresh.http.tls", TLS, None),
    section("channel.proxy.shared_poll_refresh.http", PROXY_HTTP, None),
    section("channel.proxy.shared_poll_refresh.grpc.tls", TLS, None),
    section("channel.proxy.shared_poll_refresh.grpc", GRPC, None),
    section(
        "channel.without_namespace.map",
        MAP,
        Some(("channel.without_namespace.subscription_type", &["map", "map_clients", "map_users"])),
    ),
    section(
        "channel.without_namespace.shared_poll",
        NAMESPACE_SHARED_POLL,
        Some(("channel.without_namespace.subscription_type", &["shared_poll"])),
    ),
    section(
        "channel.namespaces[].map",
        MAP,
        Some(("channel.namespaces[].subscription_type", &["map", "map_clients", "map_users"])),
    ),
    section(
        "channel.namespaces[].shared_poll",
        NAMESPACE_SHARED_POLL,
        Some(("channel.namespaces[].subscription_type", &["shared_poll"])),
    ),
    section("rpc.proxy.http.tls", TLS, None),
    section("rpc.proxy.grpc.tls", TLS, None),
    section("rpc.proxy.grpc", GRPC, None),
    section("rpc.ping", RPC_PING, None),
    section("proxies[].http.tls", TLS, None),
    section("proxies[].grpc.tls", TLS, None),
    section("proxies[].grpc", GRPC, None),
    section("grpc_api", GRPC_API, None),
    section("grpc_api.tls", TLS, None),
    section("consumers[]", CONSUMERS, None),
    section("consumers[].postgresql", CONSUMERS_POSTGRESQL, Some(("consumers[].type", &["postgresql"]))),
    section("consumers[].postgresql.tls", TLS, None),
    section("consumers[].kafka", CONSUMERS_KAFKA, Some(("consumers[].type", &["kafka"]))),
    section("consumers[].kafka.tls", TLS, None),
    section("consumers[].kafka.publication_data_mode", CONSUMERS_KAFKA_PUBLICATION_DATA_MODE, None),
    section("consumers[].nats_jetstream", CONSUMERS_NATS_JETSTREAM, Some(("consumers[].type", &["nats_jetstream"]))),
    section("consumers[].nats_jetstream.publication_data_mode", CONSUMERS_KAFKA_PUBLICATION_DATA_MODE, None),
    section("consumers[].nats_jetstream.tls", TLS, None),
    section("consumers[].redis_stream", CONSUMERS_REDIS_STREAM, Some(("consumers[].type", &["redis_stream"]))),
    section("consumers[].redis_stream.tls", TLS, None),
    section("consumers[].redis_stream.sentinel_tls", TLS, None),
    section("consumers[].redis_stream.replica_client", REPLICA, None),
    section("consumers[].redis_stream.publication_data_mode", CONSUMERS_REDIS_STREAM_PUBLICATION_DATA_MODE, None),
    section("consumers[].google_pub_sub", CONSUMERS_GOOGLE_PUB_SUB, Some(("consumers[].type", &["google_pub_sub"]))),
    section("consumers[].google_pub_sub.publication_data_mode", CONSUMERS_GOOGLE_PUB_SUB_PUBLICATION_DATA_MODE, None),
    section("consumers[].aws_sqs", CONSUMERS_AWS_SQS, Some(("consumers[].type", &["aws_sqs"]))),
    section("consumers[].aws_sqs.publication_data_mode", CONSUMERS_GOOGLE_PUB_SUB_PUBLICATION_DATA_MODE, None),
    section(
        "consumers[].azure_service_bus",
        CONSUMERS_AZURE_SERVICE_BUS,
        Some(("consumers[].type", &["azure_service_bus"])),
    ),
    section(
        "consumers[].azure_service_bus.publication_data_mode",
        CONSUMERS_AZURE_SERVICE_BUS_PUBLICATION_DATA_MODE,
        None,
    ),
    section("webtransport", WEBTRANSPORT, None),
    section("uni_sse", UNI_SSE, None),
    section("uni_sse.connect_code_to_http_response", CLIENT_CONNECT_CODE_TO_UNIDIRECTIONAL_DISCONNECT, None),
    section("uni_http_stream", UNI_HTTP_STREAM, None),
    section("uni_http_stream.connect_code_to_http_response", CLIENT_CONNECT_CODE_TO_UNIDIRECTIONAL_DISCONNECT, None),
    section("uni_websocket", UNI_WEBSOCKET, None),
    section("uni_grpc", UNI_GRPC, None),
    section("uni_grpc.tls", TLS, None),
    section("swagger", SWAGGER, None),
    section("debug", DEBUG, None),
    section("init", INIT, None),
    section("opentelemetry", OPENTELEMETRY, None),
    section("graphite", GRAPHITE, None),
];

const HTTP_SERVER_TLS_AUTOCERT: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Texts, "host_whitelist", ""),
    not(Text, "cache_dir", ""),
    not(Text, "email", ""),
    not(Text, "server_name", ""),
    not(Bool, "http", ""),
    not(Text, "http_addr", ":80"),
];

const TLS: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "cert_pem", ""),
    not(Text, "key_pem", ""),
    not(Text, "server_ca_pem", ""),
    not(Text, "client_ca_pem", ""),
    not(Bool, "insecure_skip_verify", ""),
    not(Text, "server_name", ""),
];

/// What `engine.redis` depends on.
pub const REDIS_ENGINE: Option<When> = Some(("engine.type", &["redis"]));

const ENGINE_REDIS: &[Key<()>] = &[
    not(Duration, "connect_timeout", "1s"),
    not(Duration, "io_timeout", "4s"),
    not(Text, "client_name", ""),
    not(Bool, "force_resp2", ""),
    not(Texts, "sentinel_address", ""),
    not(Text, "sentinel_user", ""),
    not(Text, "sentinel_password", ""),
    not(Text, "sentinel_master_name", ""),
    not(Text, "sentinel_client_name", ""),
    not(Bool, "history_use_lists", ""),
    not(Duration, "presence_ttl", "60s"),
    not(Bool, "presence_hash_field_ttl", ""),
    not(Bool, "presence_user_mapping", ""),
];

const REPLICA: &[Key<()>] = &[not(Bool, "enabled", "")];

const BROKER: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "type", "memory")];

const BROKER_REDIS: &[Key<()>] = &[
    not(Text, "prefix", "centrifugo"),
    not(Texts, "address", "redis://127.0.0.1:6379"),
    not(Duration, "connect_timeout", "1s"),
    not(Duration, "io_timeout", "4s"),
    not(Number, "db", "0"),
    not(Text, "user", ""),
    not(Text, "password", ""),
    not(Text, "client_name", ""),
    not(Bool, "force_resp2", ""),
    not(Texts, "cluster_address", ""),
    not(Texts, "sentinel_address", ""),
    not(Text, "sentinel_user", ""),
    not(Text, "sentinel_password", ""),
    not(Text, "sentinel_master_name", ""),
    not(Text, "sentinel_client_name", ""),
    not(Bool, "history_use_lists", ""),
];

const NATS: &[Key<()>] = &[
    not(Text, "prefix", "centrifugo"),
    not(Text, "url", "nats://localhost:4222"),
    not(Duration, "dial_timeout", "1s"),
    not(Duration, "write_timeout", "1s"),
    not(Bool, "allow_wildcards", ""),
];

const NATS_RAW_MODE: &[Key<()>] =
    &[not(Bool, "enabled", ""), not(Any, "channel_replacements", "{}"), not(Text, "prefix", "")];

const BROKER_POSTGRES: &[Key<()>] = &[
    not(Text, "dsn", ""),
    not(Number, "pool_size", "16"),
    not(Number, "num_shards", "8"),
    not(Duration, "cleanup_interval", "1m"),
    not(Duration, "idempotent_result_ttl", "5m"),
    not(Bool, "binary_data", ""),
    not(Duration, "stream_retention", "24h"),
    not(Bool, "use_notify", ""),
    not(Text, "notify_dsn", ""),
    not(Text, "table_prefix", "cf"),
    not(Bool, "skip_schema_init", ""),
    not(Number, "partition_lookahead_days", "2"),
    not(Number, "partition_retention_days", "7"),
];

const OUTBOX: &[Key<()>] = &[not(Duration, "poll_interval", "100ms"), not(Number, "batch_size", "1000")];

const PRESENCE_MANAGER_REDIS: &[Key<()>] = &[
    not(Text, "prefix", "centrifugo"),
    not(Texts, "address", "redis://127.0.0.1:6379"),
    not(Duration, "connect_timeout", "1s"),
    not(Duration, "io_timeout", "4s"),
    not(Number, "db", "0"),
    not(Text, "user", ""),
    not(Text, "password", ""),
    not(Text, "client_name", ""),
    not(Bool, "force_resp2", ""),
    not(Texts, "cluster_address", ""),
    not(Texts, "sentinel_address", ""),
    not(Text, "sentinel_user", ""),
    not(Text, "sentinel_password", ""),
    not(Text, "sentinel_master_name", ""),
    not(Text, "sentinel_client_name", ""),
    not(Duration, "presence_ttl", "60s"),
    not(Bool, "presence_hash_field_ttl", ""),
    not(Bool, "presence_user_mapping", ""),
];

const MAP_BROKER: &[Key<()>] = &[not(Text, "type", "memory")];

const MAP_BROKER_REDIS: &[Key<()>] = &[
    not(Text, "prefix", "centrifugo"),
    not(Texts, "address", "redis://127.0.0.1:6379"),
    not(Duration, "connect_timeout", "1s"),
    not(Duration, "io_timeout", "4s"),
    not(Number, "db", "0"),
    not(Text, "user", ""),
    not(Text, "password", ""),
    not(Text, "client_name", ""),
    not(Bool, "force_resp2", ""),
    not(Texts, "cluster_address", ""),
    not(Texts, "sentinel_address", ""),
    not(Text, "sentinel_user", ""),
    not(Text, "sentinel_password", ""),
    not(Text, "sentinel_master_name", ""),
    not(Text, "sentinel_client_name", ""),
    not(Duration, "cleanup_interval", "1s"),
    not(Number, "cleanup_batch_size", "100"),
    not(Duration, "idempotent_result_ttl", "5m"),
    not(Bool, "skip_pub_sub", ""),
];

const MAP_BROKER_POSTGRES: &[Key<()>] = &[
    not(Text, "dsn", ""),
    not(Number, "pool_size", "16"),
    not(Number, "num_shards", "8"),
    not(Duration, "ttl_check_interval", "1s"),
    not(Duration, "cleanup_interval", "1m"),
    not(Duration, "idempotent_result_ttl", "5m"),
    not(Bool, "binary_data", ""),
    not(Duration, "stream_retention", "24h"),
    not(Bool, "use_notify", ""),
    not(Text, "notify_dsn", ""),
    not(Text, "table_prefix", "cf"),
    not(Bool, "skip_schema_init", ""),
    not(Number, "partition_lookahead_days", "2"),
    not(Number, "partition_retention_days", "7"),
];

const CONTROLLER: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "type", "")];

const CONTROLLER_POSTGRES: &[Key<()>] = &[
    not(Text, "dsn", ""),
    not(Number, "pool_size", "8"),
    not(Number, "num_shards", "1"),
    not(Text, "table_prefix", "cf"),
    not(Duration, "poll_interval", "50ms"),
    not(Bool, "use_notify", ""),
    not(Text, "notify_dsn", ""),
    not(Number, "partition_retention_days", "1"),
    not(Number, "partition_lookahead_days", "2"),
    not(Duration, "partition_cleanup_interval", "1m"),
    not(Number, "batch_size", "1000"),
    not(Bool, "skip_schema_init", ""),
];

const SHARED_POLL: &[Key<()>] = &[
    not(Text, "hmac_secret_key", ""),
    not(Text, "hmac_previous_secret_key", ""),
    not(Number, "hmac_previous_secret_key_valid_until", ""),
    not(Number, "concurrency_limit", ""),
];

const GRPC: &[Key<()>] = &[
    not(Text, "credentials_key", ""),
    not(Text, "credentials_value", ""),
    not(Bool, "compression", ""),
    not(Any, "static_metadata", "{}"),
];

const CLIENT_CONNECT_CODE_TO_UNIDIRECTIONAL_DISCONNECT: &[Key<()>] =
    &[not(Bool, "enabled", ""), not(Any, "transforms", "[]")];

const PROXY: &[Key<()>] = &[
    not(Text, "endpoint", ""),
    not(Duration, "timeout", "1s"),
    not(Texts, "http_headers", ""),
    not(Texts, "grpc_metadata", ""),
    not(Texts, "emulated_headers", ""),
    not(Bool, "binary_encoding", ""),
    not(Bool, "include_connection_meta", ""),
];

const PROXY_HTTP: &[Key<()>] = &[not(Any, "static_headers", "{}"), not(Any, "status_to_code_transforms", "[]")];

const MAP: &[Key<()>] = &[
    not(Text, "mode", ""),
    not(Duration, "key_ttl", ""),
    not(Number, "stream_size", ""),
    not(Duration, "stream_ttl", ""),
    not(Duration, "meta_ttl", ""),
    not(Bool, "remove_client_on_unsubscribe", ""),
    not(Text, "client_key", ""),
    not(Bool, "allow_publish_for_client", ""),
    not(Bool, "allow_publish_for_subscriber", ""),
    not(Bool, "allow_publish_for_anonymous", ""),
    not(Bool, "allow_remove_for_client", ""),
    not(Bool, "allow_remove_for_subscriber", ""),
    not(Bool, "allow_remove_for_anonymous", ""),
    not(Bool, "publish_proxy_enabled", ""),
    not(Text, "publish_proxy_name", "default"),
    not(Bool, "remove_proxy_enabled", ""),
    not(Text, "remove_proxy_name", "default"),
    not(Number, "default_page_size", ""),
    not(Number, "min_page_size", ""),
    not(Number, "max_page_size", ""),
    not(Number, "live_transition_max_publication_limit", ""),
    not(Duration, "subscribe_catch_up_timeout", ""),
];

const NAMESPACE_SHARED_POLL: &[Key<()>] = &[
    not(Text, "proxy_name", ""),
    not(Duration, "refresh_interval", ""),
    not(Number, "refresh_batch_size", ""),
    not(Number, "max_keys_per_connection", ""),
    not(Text, "mode", ""),
    not(Duration, "channel_shutdown_delay", ""),
    not(Duration, "track_expired_extra_delay", ""),
    not(Bool, "publish_enabled", ""),
];

const RPC_PING: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "method", "ping")];

const GRPC_API: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "error_mode", ""),
    not(Text, "address", ""),
    not(Number, "port", "10000"),
    not(Text, "key", ""),
    not(Bool, "reflection", ""),
    not(Number, "max_receive_message_size", ""),
];

const CONSUMERS: &[Key<()>] = &[not(Text, "name", ""), not(Bool, "enabled", ""), not(Text, "type", "")];

const CONSUMERS_POSTGRESQL: &[Key<()>] = &[
    not(Text, "dsn", ""),
    not(Text, "outbox_table_name", ""),
    not(Number, "num_partitions", "1"),
    not(Number, "partition_select_limit", "100"),
    not(Duration, "partition_poll_interval", "300ms"),
    not(Text, "partition_notification_channel", ""),
    not(Text, "partition_notification_dsn", ""),
    not(Bool, "use_try_lock", "false"),
];

const CONSUMERS_KAFKA: &[Key<()>] = &[
    not(Texts, "brokers", ""),
    not(Texts, "topics", ""),
    not(Text, "consumer_group", ""),
    not(Number, "max_poll_records", "100"),
    not(Number, "fetch_max_bytes", ""),
    not(Duration, "fetch_max_wait", "500ms"),
    not(Bool, "fetch_read_uncommitted", "false"),
    not(Number, "partition_queue_max_size", "1000"),
    not(Duration, "dial_timeout", "3s"),
    not(Text, "sasl_mechanism", ""),
    not(Text, "sasl_user", ""),
    not(Text, "sasl_password", ""),
    not(Text, "assume_role_arn", ""),
    not(Text, "instance_id", ""),
    not(Text, "method_header", "centrifugo-method"),
];

const CONSUMERS_KAFKA_PUBLICATION_DATA_MODE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "channels_header", "centrifugo-channels"),
    not(Text, "idempotency_key_header", "centrifugo-idempotency-key"),
    not(Text, "delta_header", "centrifugo-delta"),
    not(Text, "version_header", "centrifugo-version"),
    not(Text, "version_epoch_header", "centrifugo-version-epoch"),
    not(Text, "tags_header_prefix", "centrifugo-tag-"),
];

const CONSUMERS_NATS_JETSTREAM: &[Key<()>] = &[
    not(Text, "url", "nats://127.0.0.1:4222"),
    not(Text, "credentials_file", ""),
    not(Text, "username", ""),
    not(Text, "password", ""),
    not(Text, "token", ""),
    not(Text, "stream_name", ""),
    not(Bool, "use_existing_consumer", "false"),
    not(Texts, "subjects", ""),
    not(Text, "durable_consumer_name", ""),
    not(Text, "deliver_policy", "new"),
    not(Number, "max_ack_pending", "100"),
    not(Text, "method_header", "centrifugo-method"),
];

const CONSUMERS_REDIS_STREAM: &[Key<()>] = &[
    not(Texts, "address", "redis://127.0.0.1:6379"),
    not(Duration, "connect_timeout", "1s"),
    not(Duration, "io_timeout", "4s"),
    not(Number, "db", "0"),
    not(Text, "user", ""),
    not(Text, "password", ""),
    not(Text, "client_name", ""),
    not(Bool, "force_resp2", ""),
    not(Texts, "cluster_address", ""),
    not(Texts, "sentinel_address", ""),
    not(Text, "sentinel_user", ""),
    not(Text, "sentinel_password", ""),
    not(Text, "sentinel_master_name", ""),
    not(Text, "sentinel_client_name", ""),
    not(Texts, "streams", ""),
    not(Text, "consumer_group", ""),
    not(Duration, "visibility_timeout", "30s"),
    not(Number, "num_workers", "1"),
    not(Text, "payload_value", "payload"),
    not(Text, "method_value", "method"),
];

const CONSUMERS_REDIS_STREAM_PUBLICATION_DATA_MODE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "channels_value", "centrifugo-channels"),
    not(Text, "idempotency_key_value", "centrifugo-idempotency-key"),
    not(Text, "delta_value", "centrifugo-delta"),
    not(Text, "version_value", "centrifugo-version"),
    not(Text, "version_epoch_value", "centrifugo-version-epoch"),
    not(Text, "tags_value_prefix", "centrifugo-tag-"),
];

const CONSUMERS_GOOGLE_PUB_SUB: &[Key<()>] = &[
    not(Text, "project_id", ""),
    not(Texts, "subscriptions", ""),
    not(Number, "max_outstanding_messages", "100"),
    not(Number, "max_outstanding_bytes", "1000000"),
    not(Text, "auth_mechanism", ""),
    not(Text, "credentials_file", ""),
    not(Text, "method_attribute", "centrifugo-method"),
];

const CONSUMERS_GOOGLE_PUB_SUB_PUBLICATION_DATA_MODE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "channels_attribute", "centrifugo-channels"),
    not(Text, "idempotency_key_attribute", "centrifugo-idempotency-key"),
    not(Text, "delta_attribute", "centrifugo-delta"),
    not(Text, "version_attribute", "centrifugo-version"),
    not(Text, "version_epoch_attribute", "centrifugo-version-epoch"),
    not(Text, "tags_attribute_prefix", "centrifugo-tag-"),
];

const CONSUMERS_AWS_SQS: &[Key<()>] = &[
    not(Texts, "queues", ""),
    not(Bool, "sns_envelope", ""),
    not(Text, "region", ""),
    not(Number, "max_number_of_messages", "10"),
    not(Duration, "wait_time_time", "20s"),
    not(Duration, "visibility_timeout", "30s"),
    not(Number, "max_concurrency", "1"),
    not(Text, "credentials_profile", ""),
    not(Text, "assume_role_arn", ""),
    not(Text, "method_attribute", "centrifugo-method"),
    not(Text, "localstack_endpoint", ""),
];

const CONSUMERS_AZURE_SERVICE_BUS: &[Key<()>] = &[
    not(Text, "connection_string", ""),
    not(Bool, "use_azure_identity", ""),
    not(Text, "fully_qualified_namespace", ""),
    not(Text, "tenant_id", ""),
    not(Text, "client_id", ""),
    not(Text, "client_secret", ""),
    not(Texts, "queues", ""),
    not(Bool, "use_sessions", ""),
    not(Number, "max_concurrent_calls", "1"),
    not(Number, "max_receive_messages", "1"),
    not(Text, "method_property", "centrifugo-method"),
];

const CONSUMERS_AZURE_SERVICE_BUS_PUBLICATION_DATA_MODE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "channels_property", "centrifugo-channels"),
    not(Text, "idempotency_key_property", "centrifugo-idempotency-key"),
    not(Text, "delta_property", "centrifugo-delta"),
    not(Text, "version_property", "centrifugo-version"),
    not(Text, "version_epoch_property", "centrifugo-version-epoch"),
    not(Text, "tags_property_prefix", "centrifugo-tag-"),
];

const WEBTRANSPORT: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "handler_prefix", "/connection/webtransport"),
    not(Number, "message_size_limit", "65536"),
];

const UNI_SSE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "handler_prefix", "/connection/uni_sse"),
    not(Number, "max_request_body_size", "65536"),
];

const UNI_HTTP_STREAM: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "handler_prefix", "/connection/uni_http_stream"),
    not(Number, "max_request_body_size", "65536"),
];

const UNI_WEBSOCKET: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "handler_prefix", "/connection/uni_websocket"),
    not(Bool, "compression", ""),
    not(Number, "compression_min_size", ""),
    not(Number, "compression_level", "1"),
    not(Number, "read_buffer_size", ""),
    not(Bool, "use_write_buffer_pool", ""),
    not(Number, "write_buffer_size", ""),
    not(Duration, "write_timeout", "1000ms"),
    not(Number, "message_size_limit", "65536"),
    not(Number, "decompressed_message_size_limit", ""),
    not(Bool, "disable_closing_handshake", ""),
    not(Bool, "disable_disconnect_push", ""),
    not(Bool, "join_push_messages", ""),
];

const UNI_GRPC: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "address", ""),
    not(Number, "port", "11000"),
    not(Number, "max_receive_message_size", ""),
];

const SWAGGER: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "handler_prefix", "/swagger")];

const DEBUG: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "handler_prefix", "/debug/pprof")];

const INIT: &[Key<()>] = &[not(Bool, "enabled", ""), not(Text, "handler_prefix", "/connection/init")];

const OPENTELEMETRY: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Bool, "api", ""),
    not(Bool, "consuming", ""),
    not(Bool, "google_cloud_adc_auth", ""),
];

const GRAPHITE: &[Key<()>] = &[
    not(Bool, "enabled", ""),
    not(Text, "host", "localhost"),
    not(Number, "port", "2003"),
    not(Text, "prefix", "centrifugo"),
    not(Duration, "interval", "10s"),
    not(Bool, "tags", ""),
];
