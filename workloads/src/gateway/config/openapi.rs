//! What a gateway offers, as an OpenAPI 3.1 document: for generators of clients, and pages for people.
//!
//! What the gateway does not know is not made up: bodies of answers are objects of whatever the backends say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::model::{Compat, Endpoint, Forward, Gateway, Method, OutputEncoding, Segment, Validator};

/// Fields that OpenAPI has other places for (section 4.8.12).
const NOT_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// The document, with a line's end.
pub fn openapi(gateway: &Gateway) -> String {
    let mut paths = BTreeMap::<String, Map<String, Value>>::new();
    let mut schemes = Map::new();
    // Paths that differ only in the names of their parameters are one (section 4.8.8): it has the first one's names.
    let mut written = BTreeMap::<String, String>::new();
    for endpoint in &gateway.endpoints {
        let (shape, path) = templates(endpoint);
        let first = written.entry(shape).or_insert(path);
        let operation = operation(gateway, endpoint, &names(first), &mut schemes);
        paths.entry(first.clone()).or_default().insert(endpoint.method.as_str().to_lowercase(), operation);
    }
    let name = if gateway.name.is_empty() { "annulus gateway" } else { &gateway.name };
    let scheme = if gateway.tls.is_some() { "https" } else { "http" };
    let address = std::net::SocketAddr::new(gateway.listen.ip, gateway.listen.port);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {"title": name, "version": "unversioned"},
        "servers": [{"url": format!("{scheme}://{address}")}],
        "paths": paths,
    });
    if !schemes.is_empty() {
        document["components"] = json!({"securitySchemes": schemes});
    }
    format!("{document:#}\n")
}

/// A path without and with the names of its parameters.
fn templates(endpoint: &Endpoint) -> (String, String) {
    let (mut shape, mut path) = (String::new(), String::new());
    for segment in &endpoint.path {
        match segment {
            Segment::Literal(text) => [&mut shape, &mut path].into_iter().for_each(|it| *it += &format!("/{text}")),
            Segment::Parameter(name) | Segment::Wildcard(name) => {
                shape += "/{}";
                path += &format!("/{{{name}}}");
            }
        }
    }
    if path.is_empty() { ("/".to_owned(), "/".to_owned()) } else { (shape, path) }
}

/// The names of a path's parameters.
fn names(path: &str) -> Vec<&str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect()
}

fn operation(gateway: &Gateway, endpoint: &Endpoint, names: &[&str], schemes: &mut Map<String, Value>) -> Value {
    let mut operation = Map::new();
    let parameters = parameters(endpoint, names);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), parameters.into());
    }
    if matches!(endpoint.method, Method::Post | Method::Put | Method::Patch) {
        operation.insert("requestBody".into(), request_body(endpoint));
    }
    if let Some(validator) = &endpoint.validator {
        operation.insert("security".into(), security(validator, schemes));
    }
    operation.insert("responses".into(), responses(gateway, endpoint));
    let anything = [(&endpoint.input_query_strings, "query parameters"), (&endpoint.input_headers, "fields")];
    let anything: Vec<&str> =
        anything.into_iter().filter(|(forward, _)| **forward == Forward::All).map(|(_, what)| what).collect();
    if !anything.is_empty() {
        operation.insert("description".into(), format!("Passes on {} of any name.", anything.join(" and ")).into());
    }
    operation.into()
}

fn parameters(endpoint: &Endpoint, names: &[&str]) -> Vec<Value> {
    let parameters = endpoint.path.iter().filter(|segment| segment.parameter().is_some());
    let in_path = parameters.zip(names).map(|(segment, name)| {
        let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        if matches!(segment, Segment::Wildcard(_)) {
            parameter["description"] = "The rest of the path, slashes included.".into();
        }
        parameter
    });
    let named = |forward: &Forward| match forward {
        Forward::All => Vec::new(),
        Forward::Only(names) => names.clone(),
    };
    let optional =
        |place: &'static str| move |name: String| json!({"name": name, "in": place, "schema": {"type": "string"}});
    let in_query = named(&endpoint.input_query_strings).into_iter().map(optional("query"));
    let fields = named(&endpoint.input_headers).into_iter().filter(|name| !NOT_PARAMETERS.contains(&&name[..]));
    in_path.chain(in_query).chain(fields.map(optional("header"))).collect()
}

fn request_body(endpoint: &Endpoint) -> Value {
    match endpoint.body_schema.as_ref().and_then(|schema| serde_json::from_str::<Value>(schema).ok()) {
        Some(schema) => json!({"required": true, "content": {"application/json": {"schema": schema}}}),
        None => json!({"content": {"*/*": {}}}),
    }
}

/// A token in its field, or in its cookie.
fn security(validator: &Validator, schemes: &mut Map<String, Value>) -> Value {
    let (in_field, field) = match &validator.header[..] {
        "authorization" => ("bearer".to_owned(), json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})),
        name => (format!("field {name}"), json!({"type": "apiKey", "in": "header", "name": name})),
    };
    let in_cookie = format!("cookie {}", validator.cookie);
    let [in_field, in_cookie] = [in_field, in_cookie].map(|name| name.replace(' ', "_"));
    schemes.insert(in_field.clone(), field);
    schemes.insert(in_cookie.clone(), json!({"type": "apiKey", "in": "cookie", "name": validator.cookie}));
    json!([{in_field: []}, {in_cookie: []}])
}

fn responses(gateway: &Gateway, endpoint: &Endpoint) -> Value {
    if let Some(why) = &endpoint.unsupported {
        return json!({"501": {"description": why}});
    }
    if endpoint.websocket.is_some() {
        return json!({
            "101": {"description": "The connection is a WebSocket to the backend from now on."},
            "426": {"description": "The request asks for no WebSocket."},
            "default": {"description": "What the backend answers."},
        });
    }
    let object = || json!({"type": "object"});
    let content = |kinds: &[(&str, Value)]| -> Value {
        kinds.iter().map(|(kind, schema)| ((*kind).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
    };
    let kinds = match endpoint.output_encoding {
        OutputEncoding::Json => content(&[("application/json", object())]),
        OutputEncoding::JsonCollection => content(&[("application/json", json!({"type": "array"}))]),
        OutputEncoding::String => content(&[("text/plain", json!({"type": "string"}))]),
        OutputEncoding::Xml => content(&[("application/xml", object())]),
        OutputEncoding::Yaml => content(&[("application/yaml", object())]),
        OutputEncoding::Negotiate => {
            content(&[("application/json", object()), ("application/xml", object()), ("application/yaml", object())])
        }
        OutputEncoding::NoOp => return json!({"default": {"description": "What the backend answers."}}),
    };
    let mut responses = Map::new();
    let mut add = |status: &str, description: &str| {
        responses.insert(status.to_owned(), json!({"description": description}));
    };
    let problem = [
        (endpoint.body_schema.is_some(), "400", "The body is not as the schema has it."),
        (endpoint.validator.is_some(), "401", "There is no token, or it is not valid."),
        (
            endpoint.validator.is_some() || endpoint.bot_detector.is_some() || gateway.bot_detector.is_some(),
            "403",
            "The token, or the program, does not allow it.",
        ),
        (endpoint.rate_limit.as_ref().is_some_and(|limit| limit.client.is_some()), "429", "The client asks too often."),
        (true, "503", "There is too much to do; Retry-After says when to come again."),
        (gateway.compat == Compat::KrakenD, "500", "No backend gave an answer of use."),
        (gateway.compat == Compat::Annulus, "502", "A backend that is needed failed."),
        (gateway.compat == Compat::Annulus, "504", "A backend that is needed took too long."),
    ];
    problem.iter().filter(|(applies, ..)| *applies).for_each(|(_, status, description)| add(status, description));
    responses.insert("200".to_owned(), json!({"description": "What the backends answer.", "content": kinds}));
    responses.into()
}
