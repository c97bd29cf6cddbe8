//! Namespaces that will be offered: what they may say is checked now, so that a file that passes today passes then.

use super::read::{Field, unknown};
use super::report::Report;

enum Kind {
    Text,
    Texts,
    Flag,
    Whole,
    Wholes,
    Time,
    Words(&'static [&'static str]),
    /// A list of lists of two texts.
    Pairs,
}

type Keys = &'static [(&'static str, Kind)];

const ALGORITHMS: &[&str] = &[
    "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
];

const VALIDATOR: Keys = &[
    ("alg", Kind::Words(ALGORITHMS)),
    ("audience", Kind::Texts),
    ("auth_header_name", Kind::Text),
    ("cache", Kind::Flag),
    ("cache_duration", Kind::Whole),
    ("cipher_suites", Kind::Wholes),
    ("cookie_key", Kind::Text),
    ("cypher_key", Kind::Text),
    ("disable_jwk_security", Kind::Flag),
    ("failed_jwk_key_cooldown", Kind::Time),
    ("issuer", Kind::Text),
    ("jwk_fingerprints", Kind::Texts),
    ("jwk_local_ca", Kind::Text),
    ("jwk_local_path", Kind::Text),
    ("jwk_url", Kind::Text),
    ("key_identify_strategy", Kind::Words(&["kid", "x5t", "x5t#S256", "kid_x5t"])),
    ("leeway", Kind::Time),
    ("operation_debug", Kind::Flag),
    ("propagate_claims", Kind::Pairs),
    ("propagate_claims_preserve_array", Kind::Flag),
    ("roles", Kind::Texts),
    ("roles_key", Kind::Text),
    ("roles_key_is_nested", Kind::Flag),
    ("scopes", Kind::Texts),
    ("scopes_key", Kind::Text),
    ("scopes_matcher", Kind::Words(&["any", "all"])),
    ("secret_url", Kind::Text),
    ("shared_cache_duration", Kind::Whole),
];

const CORS: Keys = &[
    ("allow_credentials", Kind::Flag),
    ("allow_headers", Kind::Texts),
    ("allow_methods", Kind::Texts),
    ("allow_origins", Kind::Texts),
    ("allow_private_network", Kind::Flag),
    ("debug", Kind::Flag),
    ("expose_headers", Kind::Texts),
    ("max_age", Kind::Time),
    ("options_passthrough", Kind::Flag),
    ("options_success_status", Kind::Whole),
];

const BOT_DETECTOR: Keys = &[
    ("allow", Kind::Texts),
    ("cache_size", Kind::Whole),
    ("deny", Kind::Texts),
    ("empty_user_agent_is_bot", Kind::Flag),
    ("patterns", Kind::Texts),
];

/// Checks what is under a namespace, if it is one of these.
pub fn check(name: &str, field: &Field<'_>, report: &mut Report) {
    match name {
        "auth/validator" => check_keys(VALIDATOR, field, report),
        "security/cors" => check_keys(CORS, field, report),
        "security/bot-detector" => check_keys(BOT_DETECTOR, field, report),
        // A JSON schema has its own vocabulary; that it is an object is all that can be said here.
        "validation/json-schema" => drop(field.object(report)),
        _ => {}
    }
}

fn check_keys(keys: Keys, field: &Field<'_>, report: &mut Report) {
    let Some(object) = field.object(report) else { return };
    for (member, field) in object.members() {
        match keys.iter().find(|(known, _)| *known == member.name) {
            Some((_, kind)) => check_kind(kind, &field, report),
            None => {
                let known: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
                report.problem(member.at, &field.key, unknown("key", &member.name, &known));
            }
        }
    }
}

fn check_kind(kind: &Kind, field: &Field<'_>, report: &mut Report) {
    match kind {
        Kind::Text => drop(field.string("a text", report)),
        Kind::Texts => drop(field.strings("a list of texts", report)),
        Kind::Flag => drop(field.boolean(report)),
        Kind::Whole => drop(field.whole(0, u64::MAX, report)),
        Kind::Wholes => {
            for field in field.list("a list of numbers", report).unwrap_or_default() {
                field.whole(0, u64::MAX, report);
            }
        }
        Kind::Time => drop(field.duration(report)),
        Kind::Words(words) => {
            let words: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
            field.one_of(&words, report);
        }
        Kind::Pairs => {
            for pair in field.list("a list of pairs", report).unwrap_or_default() {
                match pair.strings("a pair of texts", report) {
                    Some(texts) if texts.len() != 2 => pair.expected("a pair of texts: claim, header", report),
                    _ => {}
                }
            }
        }
    }
}
