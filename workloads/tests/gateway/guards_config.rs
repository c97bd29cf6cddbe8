//! What a file says of who is let in: tokens, origins, programs, bodies.

use super::*;

#[test]
fn what_is_asked_of_clients_is_checked() {
    let at_the_root = |extra: &str| with(&format!(", \"extra_config\": {{{extra}}}"), "", "");
    let validator = |more: &str| format!("\"auth/validator\": {{\"alg\": \"RS256\"{more}}}");
    let with_keys = |more: &str| validator(&format!(", \"jwk_url\": \"https://id.example/jwks\"{more}"));
    let at_the_endpoint = |extra: &str| with("", &format!(", \"extra_config\": {{{extra}}}"), "");
    for (text, says) in [
        (at_the_endpoint(&with_keys(", \"algo\": 1")), "there is no key \"algo\": did you mean \"alg\"?"),
        (at_the_endpoint(&with_keys("").replace("RS256", "RS255")), "did you mean \"RS256\"?"),
        (at_the_endpoint(&with_keys("").replace("RS256", "ES512")), "ES512 is not offered"),
        (at_the_endpoint(&validator("")), "expected jwk_url or jwk_local_path"),
        (at_the_endpoint(&validator(", \"jwk_url\": \"http://id.example\"")), "use https, or set disable_jwk_security"),
        (at_the_endpoint(&with_keys(", \"jwk_local_path\": \"a\"")), "jwk_local_path is there as well"),
        (at_the_endpoint(&with_keys("").replace("RS256", "HS256")), "HS256 needs jwk_local_path"),
        (at_the_endpoint(&with_keys(", \"propagate_claims\": [[\"a\", \"Host\"]]")), "this field frames requests"),
        (at_the_endpoint(&with_keys(", \"roles\": [\"a\"]")), "roles are wanted and no roles_key says"),
        (at_the_endpoint(&with_keys(", \"leeway\": \"2h\"")), "an hour at most"),
        (at_the_endpoint(&with_keys(", \"jwk_fingerprints\": [\"a\"]")), "certificates are not pinned"),
        (at_the_endpoint(&with_keys(", \"key_identify_strategy\": \"x5t\"")), "keys are found by their kid only"),
        (
            at_the_endpoint(&with_keys(", \"propagate_claims\": [[\"a\"]]")),
            "propagate_claims[0]: expected a pair of texts",
        ),
        (at_the_root("\"security/cors\": {\"max_age\": 3600}"), "[\"security/cors\"].max_age: expected a duration"),
        (at_the_root("\"security/cors\": {\"allow_credentials\": true}"), "Name the origins"),
        (at_the_root("\"security/cors\": {\"allow_origins\": [\"https://*.*\"]}"), "more than one *"),
        (at_the_endpoint("\"security/cors\": {}"), "security/cors belongs to the root"),
        (at_the_endpoint("\"security/bot-detector\": {\"deny\": \"x\"}"), ".deny: expected a list of texts"),
        (at_the_root("\"security/bot-detector\": {\"patterns\": [\"(\"]}"), "patterns[0]: no regular expression"),
        (at_the_endpoint("\"validation/json-schema\": []"), "expected an object"),
        (at_the_endpoint("\"validation/json-schema\": {\"type\": \"house\"}"), "it is no JSON Schema"),
    ] {
        let problems = problems(json(&text));
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{text}: {problems:#?}");
    }
    // A claim that goes nowhere is told of.
    let (_, notes) = json(&at_the_endpoint(&with_keys(", \"propagate_claims\": [[\"sub\", \"X-User\"]]"))).unwrap();
    assert!(
        notes.len() == 1 && notes[0].says.contains("x-user is not among the endpoint's input_headers"),
        "{notes:?}"
    );
}

#[test]
fn what_is_asked_of_clients_is_printed_as_it_was_read() {
    let root = ", \"extra_config\": {\"security/cors\": {\"allow_origins\": [\"https://a\"], \"max_age\": \"1h\"}, \
                \"security/bot-detector\": {\"patterns\": [\"a|b\"]}}";
    let endpoint = ", \"input_headers\": [\"X-User\"], \"extra_config\": {\"auth/validator\": {\"alg\": \"EdDSA\", \"jwk_url\": \
                    \"http://a/b\", \"disable_jwk_security\": true, \"audience\": [\"a\"], \"issuer\": \"i\", \"roles_key\": \
                    \"a.b\", \"roles_key_is_nested\": true, \"roles\": [\"r\"], \"scopes_key\": \"s\", \"scopes\": [\"x\"], \
                    \"propagate_claims\": [[\"sub\", \"X-User\"]], \"leeway\": \"5s\"}, \"security/bot-detector\": {\"deny\": \
                    [\"c\"]}, \"validation/json-schema\": {\"type\": \"object\"}}";
    let (gateway, _) = json(&with(root, endpoint, "")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let printed = print_effective(&gateway);
    let (again, _) = json(&printed).unwrap_or_else(|problems| panic!("{printed}: {problems:#?}"));
    assert_eq!(print_effective(&again), printed);
    // What it was read as, but for what the printed file says of everything.
    let [read, again] = [gateway, again].map(|gateway| {
        let endpoint = gateway.endpoints.into_iter().next().unwrap();
        (gateway.cors, gateway.bot_detector, endpoint.validator, endpoint.bot_detector, endpoint.body_schema)
    });
    assert_eq!(read, again);
}
