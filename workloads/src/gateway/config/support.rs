//! What KrakenD knows and what of it is offered here: one table, one line each.
//!
//! To offer something that was not, change its [`State`] here, and read it where its level is read. A name that is not in the table is nobody's.

use crate::nearest::nearest;

/// Whether something of KrakenD's is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Offered,
    /// It says nothing about answers, to KrakenD neither: it is passed over with a note.
    Inert,
    /// It will work.
    Later,
    /// It will not.
    Never,
}

/// What becomes of requests when something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Other answers than asked for: only 501 is honest.
    Answers,
    /// As [`Effect::Answers`] where an endpoint or backend has it; at the root it only sets up what those have.
    Carried,
    /// The same answers, only less observed or less fast.
    Nothing,
}

/// Where a namespace may stand, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels(u8);

impl Levels {
    /// In the root's `extra_config`.
    pub const ROOT: Levels = Levels(1);
    /// In an endpoint's.
    pub const ENDPOINT: Levels = Levels(2);
    /// In a backend's.
    pub const BACKEND: Levels = Levels(4);

    /// Whether all of another's are among these.
    pub fn contains(self, other: Levels) -> bool {
        self.0 & other.0 == other.0
    }

    /// In words: `an endpoint or a backend`.
    pub fn describe(self) -> String {
        let names = [(Levels::ROOT, "the root"), (Levels::ENDPOINT, "an endpoint"), (Levels::BACKEND, "a backend")];
        let names: Vec<&str> = names.iter().filter(|(level, _)| self.contains(*level)).map(|(_, name)| *name).collect();
        names.join(" or ")
    }
}

/// Something that KrakenD knows.
#[derive(Debug)]
pub struct Entry {
    /// The namespace, or a feature's name as its key and value.
    pub name: &'static str,
    /// Whether it is offered.
    pub state: State,
    /// Where it may stand.
    pub levels: Levels,
    /// What becomes of requests when it is left out.
    pub effect: Effect,
    /// What it is.
    pub what: &'static str,
}

const fn entry(state: State, levels: u8, effect: Effect, name: &'static str, what: &'static str) -> Entry {
    Entry { name, state, levels: Levels(levels), effect, what }
}

use Effect::{Answers, Carried, Nothing};
use State::{Inert, Later, Never, Offered};

const R: u8 = Levels::ROOT.0;
const E: u8 = Levels::ENDPOINT.0;
const B: u8 = Levels::BACKEND.0;

/// The namespaces of KrakenD's `extra_config`, community and enterprise, and ours.
pub static NAMESPACES: &[Entry] = &[
    entry(Offered, R | E | B, Answers, "annulus", "our own settings"),
    entry(Offered, E | B, Answers, "proxy", "sequential calls, static data, flatmap"),
    entry(Offered, R, Answers, "router", "paths and messages of the front"),
    entry(Offered, B, Answers, "backend/http", "what is told of a backend's failure"),
    entry(Offered, B, Answers, "qos/circuit-breaker", "a breaker for failing backends"),
    entry(Offered, E, Answers, "qos/ratelimit/router", "a rate limit for clients"),
    entry(Offered, B, Answers, "qos/ratelimit/proxy", "a rate limit for a backend"),
    entry(Offered, R | E, Carried, "auth/validator", "JWT validation"),
    entry(Offered, R, Nothing, "security/cors", "CORS headers"),
    entry(Offered, R | E, Answers, "security/bot-detector", "refusal of bots"),
    entry(Offered, E, Answers, "validation/json-schema", "validation of request bodies"),
    entry(Offered, B, Nothing, "qos/http-cache", "a cache of backends' answers"),
    entry(Later, R | B, Nothing, "telemetry/logging", "log format and level"),
    entry(Later, R, Nothing, "telemetry/gelf", "logs to Graylog"),
    entry(Later, R, Nothing, "telemetry/logstash", "logs in Logstash's format"),
    entry(Later, R, Nothing, "telemetry/metrics", "metrics as JSON"),
    entry(Later, R, Nothing, "telemetry/influx", "metrics to InfluxDB"),
    entry(Later, R, Nothing, "telemetry/opencensus", "OpenCensus exporters"),
    entry(Offered, R | E | B, Nothing, "telemetry/opentelemetry", "OpenTelemetry exporters"),
    entry(Never, R, Nothing, "telemetry/opentelemetry-security", "credentials of OpenTelemetry exporters"),
    entry(Never, R, Nothing, "telemetry/moesif", "Moesif"),
    entry(Never, R, Nothing, "telemetry/newrelic", "New Relic's agent"),
    entry(Never, R, Nothing, "telemetry/instana", "Instana's agent"),
    entry(Never, R, Nothing, "telemetry/ganalytics", "Google Analytics"),
    entry(Inert, R | E, Nothing, "documentation/openapi", "documentation for people"),
    entry(Inert, R | E, Nothing, "documentation/postman", "documentation for people"),
    entry(Never, R | E, Nothing, "ai/mcp", "a server of the Model Context Protocol"),
    entry(Never, B, Answers, "ai/llm", "language models as backends"),
    entry(Never, R | E, Carried, "auth/api-keys", "API keys"),
    entry(Never, R | E, Answers, "auth/basic", "basic authentication"),
    // Tokens that somebody has revoked must not be let in because that was passed over.
    entry(Never, R, Answers, "auth/revoker", "revocation of tokens"),
    entry(Never, E, Answers, "auth/signer", "signing of tokens"),
    entry(Never, B, Answers, "auth/aws-sigv4", "AWS signatures"),
    entry(Never, B, Answers, "auth/client-credentials", "OAuth2 client credentials"),
    entry(Never, B, Answers, "auth/gcp", "Google Cloud authentication"),
    entry(Never, B, Answers, "auth/ntlm", "NTLM authentication"),
    entry(Never, B, Answers, "backend/amqp/consumer", "AMQP as a backend"),
    entry(Never, B, Answers, "backend/amqp/producer", "AMQP as a backend"),
    entry(Never, B, Answers, "backend/conditional", "backends by condition"),
    entry(Never, B, Answers, "backend/graphql", "GraphQL as a backend"),
    entry(Never, B, Answers, "backend/grpc", "gRPC as a backend"),
    entry(Never, B, Answers, "backend/http/client", "HTTP settings of one backend"),
    entry(Never, B, Answers, "backend/lambda", "AWS Lambda as a backend"),
    entry(Never, B, Answers, "backend/pubsub/publisher", "publish and subscribe as a backend"),
    entry(Never, B, Answers, "backend/pubsub/subscriber", "publish and subscribe as a backend"),
    entry(Never, B, Answers, "backend/pubsub/publisher/kafka", "Kafka as a backend"),
    entry(Never, B, Answers, "backend/pubsub/subscriber/kafka", "Kafka as a backend"),
    entry(Never, B, Answers, "backend/soap", "SOAP as a backend"),
    entry(Never, B, Answers, "backend/static-filesystem", "files as a backend"),
    entry(Never, R, Nothing, "governance/processors", "stores of quotas"),
    entry(Never, R | E | B, Carried, "governance/quota", "quotas"),
    entry(Never, R, Nothing, "grpc", "a gRPC server"),
    entry(Never, B, Answers, "modifier/body-generator", "request bodies from templates"),
    entry(Never, E | B, Answers, "modifier/jmespath", "JMESPath queries"),
    entry(Never, B, Answers, "modifier/lua-backend", "Lua scripts"),
    entry(Never, R | E, Answers, "modifier/lua-endpoint", "Lua scripts"),
    entry(Never, E, Answers, "modifier/lua-proxy", "Lua scripts"),
    entry(Never, B, Answers, "modifier/martian", "Martian modifiers"),
    entry(Never, R | E, Answers, "modifier/request-body-extractor", "headers from request bodies"),
    entry(Never, E, Answers, "modifier/request-body-extractor/early", "headers from request bodies"),
    entry(Never, E | B, Answers, "modifier/request-body-generator", "request bodies from templates"),
    entry(Never, E | B, Answers, "modifier/response-body", "changes of response bodies"),
    entry(Never, E | B, Answers, "modifier/response-body-generator", "response bodies from templates"),
    entry(Never, R, Answers, "modifier/response-headers", "changes of response headers"),
    entry(Never, B, Answers, "plugin/http-client", "a plugin"),
    entry(Never, R, Answers, "plugin/http-server", "a plugin"),
    entry(Never, E | B, Answers, "plugin/middleware", "a plugin"),
    entry(Never, E | B, Answers, "plugin/req-resp-modifier", "a plugin"),
    entry(Never, B, Answers, "qos/circuit-breaker/http", "a breaker by status codes"),
    entry(Never, R | E, Answers, "qos/ratelimit/tiered", "rate limits by tier"),
    entry(Never, R, Answers, "qos/ratelimit/service", "a rate limit for all endpoints"),
    entry(Never, R, Answers, "qos/ratelimit/service/redis", "a rate limit for all endpoints, in Redis"),
    entry(Never, E, Answers, "qos/ratelimit/router/redis", "a rate limit for clients, in Redis"),
    entry(Never, R, Nothing, "redis", "connections to Redis"),
    entry(Never, R | E, Answers, "security/http", "security headers and host checks"),
    entry(Never, E | B, Answers, "security/policies", "security policies"),
    entry(Never, R, Nothing, "server/static-filesystem", "files for clients"),
    entry(Never, R, Answers, "server/virtualhost", "virtual hosts"),
    entry(Never, E | B, Answers, "validation/cel", "CEL expressions"),
    entry(Never, E | B, Answers, "validation/response-json-schema", "validation of answers"),
    entry(Offered, E, Answers, "websocket", "WebSockets, passed on"),
    entry(Never, B, Answers, "workflow", "backends within backends"),
];

/// Keys and values, outside of namespaces or within those that are offered, that KrakenD knows and that are not offered
/// or not yet.
pub static FEATURES: &[Entry] = &[
    entry(Inert, E, Nothing, "output_encoding: fast-json", "it is another name for json"),
    entry(Never, B, Answers, "encoding: no-op", "a raw answer in an endpoint whose output_encoding is not no-op"),
    entry(Never, B, Answers, "encoding: yaml", "YAML from backends"),
    entry(Inert, B, Nothing, "encoding: fast-json", "it is another name for json"),
    entry(Never, E, Answers, "proxy.combiner", "custom merges"),
    entry(Never, E, Answers, "proxy.decompress_gzip", "compressed requests"),
    entry(Never, E, Answers, "proxy.max_payload", "a limit for request bodies"),
    entry(Never, E, Nothing, "proxy.sequential_propagated_params", "parameters for scripts"),
    entry(Never, R, Answers, "disable_rest", "placeholders within segments"),
    entry(Never, R, Nothing, "async_agent", "consumers of message queues"),
    entry(Never, R, Nothing, "plugin", "plugins"),
    entry(Never, R, Nothing, "router.error_body", "bodies of 404 and 405"),
    entry(Never, R, Answers, "router.max_payload", "a limit for request bodies"),
    entry(Never, R, Answers, "router.decompress_gzip", "compressed requests"),
];

/// What the table says of a namespace.
pub fn namespace(name: &str) -> Option<&'static Entry> {
    NAMESPACES.iter().find(|entry| entry.name == name)
}

/// What the table says of a feature that is in it.
pub fn feature(name: &str) -> Option<&'static Entry> {
    FEATURES.iter().find(|entry| entry.name == name)
}

/// The namespace that somebody probably meant, among those of a level.
pub fn nearest_namespace(name: &str, level: Levels) -> Option<&'static str> {
    let known: Vec<&'static str> =
        NAMESPACES.iter().filter(|entry| entry.levels.contains(level)).map(|entry| entry.name).collect();
    nearest(name, &known)
}

/// Whether what stands under this name is not for us to look into.
pub fn is_opaque(name: &str) -> bool {
    namespace(name).is_some_and(|entry| matches!(entry.state, State::Never | State::Inert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_in_the_table_twice() {
        for table in [NAMESPACES, FEATURES] {
            for (index, entry) in table.iter().enumerate() {
                assert!(!table[..index].iter().any(|other| other.name == entry.name), "{}", entry.name);
            }
        }
    }

    #[test]
    fn levels_in_words() {
        assert_eq!(Levels(R | B).describe(), "the root or a backend");
        assert!(Levels(R | E).contains(Levels::ROOT) && !Levels(R).contains(Levels(R | E)));
    }
}
