//! What is asked of clients: `auth/validator`, `security/cors`, `security/bot-detector`.

use std::time::Duration;

use super::model::{BotDetector, Cors, Demand, Endpoint, KeySource, Validator};
use super::path::dotted;
use super::read::{Field, Object};
use super::report::Report;
use crate::gateway::message::is_hop_by_hop;
use crate::jose::{Algorithm, Kind};
use crate::outbound;
use crate::schema::Schema;

/// How long a key set is fresh, where the file does not say: KrakenD's quarter of an hour.
const KEYS_FRESH: Duration = Duration::from_secs(15 * 60);
/// How long a token counts after its time, where the file does not say.
const LEEWAY: Duration = Duration::from_secs(1);
/// The longest that is still a leeway and not a mistake.
const LEEWAY_MAX: Duration = Duration::from_secs(3600);
/// `allow_methods`, where the file does not say.
const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// Patterns of a bot detector, at most.
const PATTERNS_MAX: usize = 1000;

/// `auth/validator` of an endpoint.
pub fn validator(mut object: Object<'_>, report: &mut Report) -> Option<Validator> {
    let algorithm = algorithm(object.take("alg"), report);
    let is_insecure = object.take("disable_jwk_security").and_then(|field| field.boolean(report)).unwrap_or(false);
    let keys = keys(&mut object, is_insecure, report);
    object.pass_over(&[("cache", "key sets are always kept, for cache_duration")], report);
    let seconds = object.take("cache_duration").and_then(|field| field.whole(1, 365 * 86_400, report));
    let roles = demand(&mut object, ["roles", "roles_key", "roles_key_is_nested"], report);
    let scopes = demand(&mut object, ["scopes", "scopes_key", "scopes_matcher"], report);
    let leeway = object.take("leeway").and_then(|field| {
        let leeway = field.duration(report)?;
        if leeway > LEEWAY_MAX {
            field.problem("expected an hour at most: longer, an expired token would be as good as a new one", report);
        }
        Some(leeway)
    });
    if let Some(field) = object.take("key_identify_strategy") {
        let strategies = [("kid", true), ("x5t", false), ("x5t#S256", false), ("kid_x5t", false)];
        if field.one_of(&strategies, report) == Some(false) {
            field.problem("keys are found by their kid only", report);
        }
    }
    for (name, why) in [
        ("cipher_suites", "the suites of TLS 1.2 and 1.3 that are safe are all used"),
        ("failed_jwk_key_cooldown", "a set is fetched every ten seconds at most, whatever keys tokens name"),
        ("shared_cache_duration", "endpoints with the same jwk_url share its set"),
    ] {
        object.pass_over(&[(name, why)], report);
    }
    for (name, why) in [
        ("jwk_fingerprints", "certificates are not pinned: put the authority into client_tls.ca_certs"),
        ("jwk_local_ca", "put it into client_tls.ca_certs"),
        ("secret_url", "encrypted key sets are not offered"),
        ("cypher_key", "encrypted key sets are not offered"),
    ] {
        if let Some(field) = object.take(name) {
            field.problem(format!("{name} is not offered: {why}"), report);
        }
    }
    if let (Some(algorithm), Some(KeySource::Url(_))) = (algorithm, &keys)
        && algorithm.kind() == Kind::Hmac
    {
        let says = format!("{} needs jwk_local_path: a secret is not published", algorithm.name());
        report.problem(object.at(), object.key(), says);
    }
    let text = |field: Option<Field<'_>>, report: &mut Report| {
        field.and_then(|field| field.string("a text", report)).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let validator = Validator {
        audience: texts(&mut object, "audience", report),
        issuer: text(object.take("issuer"), report),
        keys_fresh: seconds.map_or(KEYS_FRESH, Duration::from_secs),
        roles,
        scopes,
        propagated: object.take("propagate_claims").map_or(Vec::new(), |field| propagated(&field, report)),
        keeps_lists: object.flag("propagate_claims_preserve_array", report),
        header: text(object.take("auth_header_name"), report).map_or("authorization".into(), |it| it.to_lowercase()),
        cookie: text(object.take("cookie_key"), report).unwrap_or_else(|| "access_token".to_owned()),
        leeway: leeway.unwrap_or(LEEWAY),
        tells: object.flag("operation_debug", report),
        algorithm: algorithm?,
        keys: keys?,
    };
    object.finish(report);
    Some(validator)
}

/// What the root may say of validators: nothing that matters here.
pub fn validators(mut object: Object<'_>, report: &mut Report) {
    object.pass_over(&[("shared_cache_duration", "endpoints with the same jwk_url share its set")], report);
    object.finish(report);
}

/// A list of texts; empty where there is none.
fn texts(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<String> {
    let texts = object.take(name).and_then(|field| field.strings("a list of texts", report));
    texts.unwrap_or_default().into_iter().map(|(_, text)| text.to_owned()).collect()
}

fn algorithm(field: Option<Field<'_>>, report: &mut Report) -> Option<Algorithm> {
    const NAMES: [&str; 13] = [
        "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384",
        "PS512",
    ];
    let Some(field) = field else { return Some(Algorithm::Rs256) };
    let name = field.one_of(&NAMES.map(|name| (name, name)), report)?;
    let known = Algorithm::named(name);
    if known.is_none() {
        field.problem(format!("{name} is not offered: P-521 is rare and slow. Use ES256 or ES384"), report);
    }
    known
}

fn keys(object: &mut Object<'_>, is_insecure: bool, report: &mut Report) -> Option<KeySource> {
    let (url, path) = (object.take("jwk_url"), object.take("jwk_local_path"));
    match (url, path) {
        (Some(url), None) => {
            let text = url.text("a URL such as \"https://example.com/.well-known/jwks.json\"", report)?;
            match outbound::Endpoint::read(text) {
                Err(why) => url.problem(why, report),
                Ok(endpoint) if !endpoint.origin.tls && !is_insecure => url.problem(
                    "whoever can change what comes over plain HTTP can sign tokens: use https, or set disable_jwk_security",
                    report,
                ),
                Ok(_) => {}
            }
            Some(KeySource::Url(text.to_owned()))
        }
        (None, Some(path)) => path.text("the path of a key set", report).map(|path| KeySource::File(path.into())),
        (Some(url), Some(_)) => {
            url.problem("jwk_local_path is there as well: a validator has one key set", report);
            None
        }
        (None, None) => {
            report.problem(object.at(), object.key(), "expected jwk_url or jwk_local_path: where are the keys?");
            None
        }
    }
}

/// `roles` or `scopes`, with the claim that holds them.
fn demand(object: &mut Object<'_>, [list, key, how]: [&'static str; 3], report: &mut Report) -> Option<Demand> {
    let wanted = object.take(list);
    let claim = object.take(key).and_then(|field| Some((field.clone(), field.text("the name of a claim", report)?)));
    let (mut all, mut is_nested) = (false, list == "scopes");
    if let Some(field) = object.take(how) {
        match list {
            "scopes" => all = field.one_of(&[("any", false), ("all", true)], report).unwrap_or(false),
            _ => is_nested = field.boolean(report).unwrap_or(false),
        }
    }
    let wanted = wanted.and_then(|field| Some((field.clone(), field.strings("a list of texts", report)?)));
    let (field, wanted) = wanted.filter(|(_, wanted)| !wanted.is_empty())?;
    let Some((at, claim)) = claim else {
        // KrakenD lets everybody in then.
        field.problem(format!("{list} are wanted and no {key} says in which claim they are"), report);
        return None;
    };
    // A claim whose name is a URL holds dots of its own.
    let path = if is_nested && !claim.starts_with("http") { dotted(claim) } else { Some(vec![claim.to_owned()]) };
    if path.is_none() {
        at.expected("names between dots, such as \"realm_access.roles\"", report);
    }
    Some(Demand { claim: path?, wanted: wanted.into_iter().map(|(_, text)| text.to_owned()).collect(), all })
}

fn propagated(field: &Field<'_>, report: &mut Report) -> Vec<(Vec<String>, String)> {
    let pairs = field.list("a list of pairs such as [\"sub\", \"x-user\"]", report).unwrap_or_default();
    let pairs = pairs.iter().filter_map(|pair| {
        let texts = pair.strings("a pair of texts: claim, header", report)?;
        let [(claim_at, claim), (header_at, header)] = &texts[..] else {
            pair.expected("a pair of texts: claim, header", report);
            return None;
        };
        if !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            header_at.expected("a field's name", report);
        }
        let name = header.to_lowercase();
        if is_hop_by_hop(&name) || matches!(&name[..], "host" | "content-length") {
            header_at.problem("this field frames requests: a claim does not belong into it", report);
        }
        let path = if claim.starts_with("http") { Some(vec![(*claim).to_owned()]) } else { dotted(claim) };
        if path.is_none() {
            claim_at.expected("a claim's name, with dots to those within others", report);
        }
        Some((path?, header.to_lowercase()))
    });
    pairs.collect()
}

/// Says which claims do not reach backends, because `input_headers` does not let their fields through.
pub fn check_propagated(field: Option<&Field<'_>>, endpoint: &Endpoint, report: &mut Report) {
    let (Some(field), Some(validator)) = (field, &endpoint.validator) else { return };
    for (_, header) in validator.propagated.iter().filter(|(_, header)| !endpoint.input_headers.allows(header)) {
        let says = format!("{header} is not among the endpoint's input_headers: the claim does not reach backends");
        field.note(says, report);
    }
}

/// `validation/json-schema`, as JSON.
pub fn body_schema(field: &Field<'_>, report: &mut Report) -> Option<String> {
    field.object(report)?;
    let json = field.node.value.to_json();
    if let Err(why) = Schema::compile(json.as_bytes()) {
        field.problem(why, report);
        return None;
    }
    Some(json)
}

/// `security/cors`.
pub fn cors(mut object: Object<'_>, report: &mut Report) -> Cors {
    let (at, origins_at) = (object.at(), object.key_of("allow_origins"));
    // KrakenD's: without a list all origins are let in.
    let or_else = |texts: Vec<String>, usual: &[&str]| match texts.is_empty() {
        true => usual.iter().map(|text| (*text).to_owned()).collect(),
        false => texts,
    };
    let max_age = object.take("max_age").and_then(|field| field.duration(report));
    let status = object.take("options_success_status").and_then(|field| field.whole(200, 299, report));
    let headers = texts(&mut object, "allow_headers", report);
    let cors = Cors {
        origins: or_else(texts(&mut object, "allow_origins", report), &["*"]),
        methods: or_else(texts(&mut object, "allow_methods", report), &METHODS),
        headers: headers.iter().map(|name| name.to_lowercase()).collect(),
        exposed: texts(&mut object, "expose_headers", report),
        credentials: object.flag("allow_credentials", report),
        max_age: max_age.unwrap_or_default(),
        private_network: object.flag("allow_private_network", report),
        preflight_status: status.unwrap_or(204) as u16,
    };
    object.pass_over(
        &[
            ("debug", "the access log has every preflight"),
            ("options_passthrough", "no endpoint answers OPTIONS, so preflights are answered here"),
        ],
        report,
    );
    object.finish(report);
    for origin in &cors.origins {
        if origin.matches('*').count() > 1 {
            report.problem(at, &origins_at, format!("{origin:?} has more than one *"));
        }
        if origin == "*" && cors.credentials {
            let says = "all origins and allow_credentials: browsers refuse that, and any page could act for its visitors. \
                        Name the origins";
            report.problem(at, &origins_at, says);
        }
    }
    cors
}

/// `security/bot-detector`.
pub fn bot_detector(mut object: Object<'_>, report: &mut Report) -> BotDetector {
    let patterns = object.take("patterns").and_then(|field| {
        let patterns = field.strings("a list of regular expressions", report)?;
        if patterns.len() > PATTERNS_MAX {
            field.problem(format!("expected {PATTERNS_MAX} patterns at most, found {}", patterns.len()), report);
        }
        for (at, pattern) in &patterns {
            if let Err(error) = regex::bytes::Regex::new(pattern) {
                let says = error.to_string();
                at.problem(format!("no regular expression: {}", says.lines().last().unwrap_or_default()), report);
            }
        }
        Some(patterns.into_iter().map(|(_, text)| text.to_owned()).collect())
    });
    object.pass_over(&[("cache_size", "all patterns are one automaton, which is as quick as a cache")], report);
    let detector = BotDetector {
        allow: texts(&mut object, "allow", report),
        deny: texts(&mut object, "deny", report),
        patterns: patterns.unwrap_or_default(),
        denies_empty: object.flag("empty_user_agent_is_bot", report),
    };
    object.finish(report);
    detector
}
