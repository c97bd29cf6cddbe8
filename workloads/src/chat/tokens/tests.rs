//! Tokens of the standards, tokens that others made, and every way to be refused.

use std::hint::black_box;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

use super::*;
use crate::jose::vectors::{self, NAMED, NOW, PAYLOAD, SECRET, TOKENS};
use crate::jose::{Algorithm, HEADER_BYTES_MAX, KEY_ID_BYTES_MAX, TOKEN_BYTES_MAX, Weight};

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// A token by our own hand: for what it says, not for how it is signed.
fn token(header: &str, payload: &[u8]) -> String {
    let message = format!("{}.{}", encode(header.as_bytes()), encode(payload));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", encode(mac.as_ref()))
}

fn saying(payload: &str) -> String {
    token(r#"{"alg":"HS256"}"#, payload.as_bytes())
}

/// Every kind of key.
fn settings() -> Settings {
    Settings {
        hmac_secret_key: SECRET.into(),
        rsa_public_key: vectors::RSA.into(),
        ecdsa_public_key: vectors::P256.into(),
        ed25519_public_key: vectors::ED25519.into(),
        ..Settings::default()
    }
}

fn verifier() -> Verifier {
    Verifier::new(settings()).unwrap()
}

/// What is said against a token whose payload this is, at [`NOW`].
fn connection_says(payload: &str) -> TokenError {
    verifier().verify_connection(&saying(payload), NOW).expect_err(payload)
}

fn subscription_says(payload: &str) -> TokenError {
    verifier().verify_subscription(&saying(payload), NOW).expect_err(payload)
}

mod standards {
    use super::*;

    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    /// A second before `exp`.
    const THEN: u64 = 1_300_819_379;

    fn verify_by(key: PublicKey, token: &str) -> Result<ConnectionClaims, TokenError> {
        let keys = Keys::Fixed(Box::new(Fixed { public: vec![Arc::new(key)], ..Fixed::default() }));
        by(keys).verify_connection(token, THEN)
    }

    fn by(keys: Keys) -> Verifier {
        let signatures = Arc::new(Signatures::new(keys, 8));
        Verifier { signatures, policy: Policy::default(), warnings: Vec::new() }
    }

    fn expect(claims: ConnectionClaims) {
        let exp = Some(1_300_819_380);
        assert_eq!(claims, ConnectionClaims { exp, expires_at: exp, ..ConnectionClaims::default() });
    }

    #[test]
    fn rfc_7515_a_1_hs256() {
        let key = decode_url("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
        let fixed = Fixed { secret: Some(Secret::new(&key.unwrap())), ..Fixed::default() };
        let verifier = by(Keys::Fixed(Box::new(fixed)));
        let token =
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        expect(verifier.verify_connection(&token, THEN).unwrap());
        assert_eq!(verifier.verify_connection(&token, THEN + 1), Err(TokenError::Expired));
    }

    #[test]
    fn rfc_7515_a_2_rs256() {
        let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4\
            QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KX\
            BdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8\
            q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let key = PublicKey::rsa(&decode_url(modulus).unwrap(), &[1, 0, 1]).unwrap();
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5ju\
            jGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_\
            eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIh\
            WkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        expect(verify_by(key, &format!("eyJhbGciOiJSUzI1NiJ9.{JOE}.{signature}")).unwrap());
    }

    #[test]
    fn rfc_7515_a_3_es256() {
        let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let [x, y] = [x, y].map(|text| decode_url(text).unwrap());
        let key = PublicKey::point(Kind::P256, &[&[4], &x[..], &y].concat()).unwrap();
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        expect(verify_by(key, &format!("eyJhbGciOiJFUzI1NiJ9.{JOE}.{signature}")).unwrap());
    }

    #[test]
    fn rfc_8037_a_4_eddsa() {
        // What is signed is no JSON, so it is verified here and refused as a token.
        let key = decode_url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = PublicKey::point(Kind::Ed25519, &key).unwrap();
        let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let mut bytes = decode_url(signature).unwrap();
        assert!(key.verifies(Algorithm::EdDsa, message.as_bytes(), &bytes));
        let says = verify_by(key.clone(), &format!("{message}.{signature}"));
        assert_eq!(says, Err(TokenError::Invalid("its payload is no JSON object")));
        bytes[0] ^= 1;
        assert!(!key.verifies(Algorithm::EdDsa, message.as_bytes(), &bytes));
    }

    #[test]
    fn rfc_7515_a_5_unsecured() {
        let keys = Keys::Fixed(Box::new(Fixed { secret: Some(Secret::new(b"")), ..Fixed::default() }));
        let says = by(keys).verify_connection(&format!("eyJhbGciOiJub25lIn0.{JOE}."), THEN);
        assert_eq!(says, Err(TokenError::Invalid("its header's alg is none that is accepted")));
    }
}

mod signatures {
    use super::*;

    fn expected() -> ConnectionClaims {
        ConnectionClaims {
            user: "42".into(),
            exp: Some(2_000_000_000),
            expires_at: Some(2_000_000_000),
            info: Some(Payload::Json(br#"{"name":"Ada"}"#.to_vec())),
            channels: vec!["news".into()],
            ..ConnectionClaims::default()
        }
    }

    #[test]
    fn what_others_signed_is_accepted() {
        let p384 = Verifier::new(Settings { ecdsa_public_key: vectors::P384.into(), ..Settings::default() }).unwrap();
        let others = verifier();
        for (name, token) in TOKENS {
            let (ours, without) = if name == "ES384" { (&p384, &others) } else { (&others, &p384) };
            let twice = [ours.verify_connection(token, NOW), ours.verify_connection(token, NOW)];
            assert_eq!(twice, [Ok(expected()), Ok(expected())], "{name}");
            let says = without.verify_connection(token, NOW);
            assert_eq!(says, Err(TokenError::Invalid("there is no key for its alg")), "{name}");
        }
    }

    #[test]
    fn an_rsa_key_is_no_secret() {
        // The attack: an HMAC by the text of the public key, which everybody has.
        let settings = Settings { rsa_public_key: vectors::RSA.into(), ..Settings::default() };
        let verifier = Verifier::new(settings).unwrap();
        let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(PAYLOAD.as_bytes()));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, vectors::RSA.as_bytes()), message.as_bytes());
        let says = verifier.verify_connection(&format!("{message}.{}", encode(mac.as_ref())), NOW);
        assert_eq!(says, Err(TokenError::Invalid("there is no key for its alg")));
    }

    #[test]
    fn a_signature_of_another_token_is_wrong() {
        let verifier = verifier();
        for (name, token) in TOKENS.iter().filter(|(name, _)| *name != "ES384") {
            let (message, signature) = token.rsplit_once('.').unwrap();
            let (header, _) = message.split_once('.').unwrap();
            for other in [format!("{header}.{}.{signature}", encode(b"{}")), format!("{message}.")] {
                let says = verifier.verify_connection(&other, NOW);
                assert_eq!(says, Err(TokenError::Invalid("its signature is wrong")), "{name}");
            }
        }
    }

    #[test]
    fn a_secret_is_followed_by_another() {
        let until = NOW + 10;
        let rotated = |hmac_secret_key: &str, hmac_previous_secret_key_valid_until| {
            Verifier::new(Settings {
                hmac_secret_key: hmac_secret_key.into(),
                hmac_previous_secret_key: SECRET.into(),
                hmac_previous_secret_key_valid_until,
                ..Settings::default()
            })
            .unwrap()
        };
        let token = saying("{}");
        for now_secret in ["another", ""] {
            let bounded = rotated(now_secret, until);
            assert!(bounded.verify_connection(&token, until).is_ok());
            let says = bounded.verify_connection(&token, until + 1);
            assert_eq!(says, Err(TokenError::Invalid("its signature is wrong")));
            assert!(rotated(now_secret, 0).verify_connection(&token, u64::MAX).is_ok());
        }
    }

    /// One byte changed, taken out or added anywhere in a token: never accepted, never a panic.
    #[test]
    fn mutations_are_refused() {
        let verifier = verifier();
        let mut text = Vec::new();
        for (name, token) in TOKENS.iter().filter(|(name, _)| matches!(*name, "HS256" | "RS256" | "ES256" | "EdDSA")) {
            assert!(verifier.verify_connection(token, NOW).is_ok());
            for at in 0..token.len() {
                for change in 0..6 {
                    text.clear();
                    text.extend_from_slice(token.as_bytes());
                    match change {
                        0 => text[at] = if text[at] == b'A' { b'B' } else { b'A' },
                        1 => text[at] = b'.',
                        2 => text[at] = b'=',
                        3 => _ = text.remove(at),
                        4 => text.insert(at, b'A'),
                        _ => text.truncate(at),
                    }
                    if text == token.as_bytes() {
                        continue;
                    }
                    let changed = std::str::from_utf8(&text).unwrap();
                    assert!(verifier.verify_connection(changed, NOW).is_err(), "{name} {at} {change}");
                    let _: Weight = verifier.signatures.weight(changed, NOW);
                }
            }
        }
    }
}

mod headers {
    use super::*;

    fn says(header: &str) -> Option<TokenError> {
        verifier().verify_connection(&token(header, b"{}"), NOW).err()
    }

    #[test]
    fn what_a_header_may_say() {
        for header in [
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"HS256","typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"jwt","kid":"1","cty":"x","x5t":"y"}"#,
            r#"{"alg":"HS256","typ":"application/jwt"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#" { "typ" : null , "alg" : "HS\u003256" } "#,
        ] {
            assert_eq!(says(header), None, "{header}");
        }
    }

    #[test]
    fn what_it_may_not() {
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(KEY_ID_BYTES_MAX + 1));
        for (header, expected) in [
            (r#"{}"#, "its header has no alg"),
            (r#"{"alg":null}"#, "its header has no alg"),
            (r#"{"alg":256}"#, "its header's alg is no string"),
            (r#"{"alg":"none"}"#, "its header's alg is none that is accepted"),
            (r#"{"alg":"hs256"}"#, "its header's alg is none that is accepted"),
            (r#"{"alg":"ES512"}"#, "its header's alg is none that is accepted"),
            (r#"{"alg":"HS256","alg":"HS256"}"#, "its header has a member twice"),
            (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, "its header's typ is not JWT"),
            (r#"{"alg":"HS256","typ":1}"#, "its header's typ is not JWT"),
            (r#"{"alg":"HS256","crit":[]}"#, "its header has crit, of which nothing is supported"),
            (r#"{"alg":"HS256","b64":false}"#, "its header has b64, which is not supported"),
            (r#"{"alg":"HS256","kid":1}"#, "its header's kid is no string of at most 256 bytes"),
            (&long, "its header's kid is no string of at most 256 bytes"),
            (r#"["alg"]"#, "its header is no JSON object"),
            (r#"{"alg":"HS256"} "x""#, "its header is no JSON object"),
            ("", "its header is no JSON object"),
        ] {
            assert_eq!(says(header), Some(TokenError::Invalid(expected)), "{header}");
        }
    }

    #[test]
    fn forms_and_sizes() {
        let verifier = verifier();
        let says = |token: &str| verifier.verify_connection(token, NOW).unwrap_err();
        for token in ["", ".", "a.b", "a.b.c.d", "a.b.c.d.e"] {
            assert_eq!(says(token), TokenError::Invalid("it does not have three parts"), "{token}");
        }
        let good = saying("{}");
        assert_eq!(says(&format!("={good}")), TokenError::Invalid("its header is no strict base64url"));
        assert_eq!(says(&format!("{good}=")), TokenError::Invalid("its signature is no strict base64url"));
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!(says(&long), TokenError::Invalid("it is longer than 16 KiB"));
        let header = format!(r#"{{"alg":"HS256","x5c":["{}"]}}"#, "c".repeat(HEADER_BYTES_MAX));
        assert_eq!(says(&token(&header, b"{}")), TokenError::Invalid("its header is longer than 2 KiB"));
        // The payload is read only after its signature: an unsigned one is refused for that.
        let unsigned = good.replace(&format!(".{}.", encode(b"{}")), ".!.");
        assert_eq!(says(&unsigned), TokenError::Invalid("its signature is wrong"));
        let largest = saying(&format!(r#"{{"sub":"{}"}}"#, "u".repeat(12_200)));
        assert!(largest.len() > TOKEN_BYTES_MAX - 128 && largest.len() <= TOKEN_BYTES_MAX, "{}", largest.len());
        assert_eq!(verifier.verify_connection(&largest, NOW).unwrap().user.len(), 12_200);
    }

    #[test]
    fn errors_tell_nothing_of_the_token() {
        let shown = TokenError::UnknownKey("attacker's text".into()).to_string();
        assert!(!shown.contains("attacker"), "{shown}");
        assert_eq!(
            TokenError::Invalid("its signature is wrong").to_string(),
            "the token is invalid: its signature is wrong"
        );
    }
}

mod connections {
    use super::*;

    fn claims(payload: &str) -> ConnectionClaims {
        verifier().verify_connection(&saying(payload), NOW).expect(payload)
    }

    #[test]
    fn an_anonymous_user_without_end() {
        for payload in
            [r#"{}"#, r#"{"iat":1}"#, r#"{"sub":"","exp":null,"info":null,"channel":""}"#, r#"{"x":{"sub":1}}"#]
        {
            assert_eq!(claims(payload), ConnectionClaims::default(), "{payload}");
        }
    }

    #[test]
    fn all_that_it_may_say() {
        let claims = claims(
            r#"{"sub":"42","jti":"j","aud":["a"],"iss":"i","nbf":1,"iat":1.5,"exp":1800000001,"expire_at":1900000000,
                "info":{"a":
                [1]},"meta":[1,
                2],"channels":["a","b","a"],
                "subs":{"x":{"info":1,"data":"d","override":{"presence":{"value":true},"join_leave":{"value":false},
                "force_push_join_leave":{},"force_recovery":null,"other":{"value":true}}},
                "\u0079":{"b64info":"eyJhIjoKMX0=","b64data":"AP8=","info":2}}}"#,
        );
        let x = SubOptions {
            info: Some(Payload::Json(b"1".to_vec())),
            data: Some(Payload::Json(br#""d""#.to_vec())),
            overrides: Overrides {
                presence: Some(true),
                join_leave: Some(false),
                force_push_join_leave: Some(false),
                force_recovery: None,
                force_positioning: None,
            },
        };
        let y = SubOptions {
            info: Some(Payload::Json(br#"{"a":1}"#.to_vec())),
            data: Some(Payload::Binary(vec![0, 0xFF])),
            overrides: Overrides::default(),
        };
        let info = claims.info.as_ref().unwrap();
        assert!(info.json().is_some_and(|json| json == info.bytes() && !json.contains(&b'\n')), "{info:?}");
        assert!(!claims.meta.as_ref().unwrap().contains(&b'\n'));
        assert_eq!(y.data.as_ref().unwrap().json(), None);
        let ConnectionClaims { user, exp, expires_at, channels, subs, jti, .. } = claims;
        assert_eq!((user.as_str(), jti.as_deref()), ("42", Some("j")));
        assert_eq!((exp, expires_at), (Some(1_800_000_001), Some(1_900_000_000)));
        assert_eq!(subs, [("x".to_owned(), x), ("y".to_owned(), y)]);
        assert!(channels.is_empty(), "subs count instead");
    }

    #[test]
    fn channels_each_once() {
        assert_eq!(claims(r#"{"channels":["b","a","b"],"subs":{}}"#).channels, ["b", "a"]);
    }

    #[test]
    fn when_the_connection_ends() {
        for (payload, exp, expires_at) in [
            (r#"{"exp":1800000001}"#, Some(1_800_000_001), Some(1_800_000_001)),
            (r#"{"exp":1800000001.9}"#, Some(1_800_000_001), Some(1_800_000_001)),
            (r#"{"exp":1800000001,"expire_at":0}"#, Some(1_800_000_001), None),
            (r#"{"exp":1800000001,"expire_at":null}"#, Some(1_800_000_001), Some(1_800_000_001)),
            (r#"{"expire_at":1.9e9}"#, None, Some(1_900_000_000)),
            (r#"{"expire_at":5}"#, None, Some(5)),
            (r#"{"nbf":1800000000}"#, None, None),
        ] {
            let claims = claims(payload);
            assert_eq!((claims.exp, claims.expires_at), (exp, expires_at), "{payload}");
        }
    }

    #[test]
    fn tokens_that_do_not_count_now() {
        for payload in [
            r#"{"exp":1800000000}"#,
            r#"{"exp":1800000000.9}"#,
            r#"{"exp":0}"#,
            r#"{"exp":-1}"#,
            r#"{"nbf":1800000001}"#,
            r#"{"exp":1700000000,"expire_at":0}"#,
        ] {
            assert_eq!(connection_says(payload), TokenError::Expired, "{payload}");
        }
    }

    #[test]
    fn what_it_may_not_say() {
        for (payload, expected) in [
            (r#"[]"#, "its payload is no JSON object"),
            (r#"{"sub":"42","sub":"43"}"#, "its payload has a claim twice"),
            (r#"{"sub":"42","\u0073ub":"43"}"#, "its payload has a claim twice"),
            (r#"{"sub":42}"#, "its sub is no string"),
            (r#"{"iss":1}"#, "its iss is no string"),
            (r#"{"jti":1}"#, "its jti is no string"),
            (r#"{"aud":1}"#, "its aud is neither string nor list of strings"),
            (r#"{"aud":[1]}"#, "its aud is neither string nor list of strings"),
            (r#"{"exp":"1900000000"}"#, "its exp is no time"),
            (r#"{"exp":1e300}"#, "its exp is no time"),
            (r#"{"nbf":true}"#, "its nbf is no time"),
            (r#"{"iat":[]}"#, "its iat is no time"),
            (r#"{"expire_at":"0"}"#, "its expire_at is no time"),
            (r#"{"expire_at":-1}"#, "its expire_at is below zero"),
            (r#"{"b64info":1}"#, "its b64info is no string"),
            (r#"{"b64info":"e30"}"#, "its b64info is no base64"),
            (r#"{"channels":"news"}"#, "its channels are no list"),
            (r#"{"channels":[1]}"#, "one of its channels is no string"),
            (r#"{"channels":["a",""]}"#, "one of its channels is empty"),
            (r#"{"subs":[]}"#, "its subs are no object"),
            (r#"{"subs":{"a":{},"a":{}}}"#, "its subs have a channel twice"),
            (r#"{"subs":{"":{}}}"#, "one of its subs is of an empty channel"),
            (r#"{"subs":{"a":1}}"#, "one of its subs is no object"),
            (r#"{"subs":{"a":{"info":1,"info":2}}}"#, "one of its subs has a member twice"),
            (r#"{"subs":{"a":{"b64info":"!"}}}"#, "a b64info is no base64"),
            (r#"{"subs":{"a":{"b64data":"!"}}}"#, "a b64data is no base64"),
            (r#"{"subs":{"a":{"b64info":1}}}"#, "a b64info is no string"),
            (r#"{"subs":{"a":{"b64data":1}}}"#, "a b64data is no string"),
            (r#"{"subs":{"a":{"override":1}}}"#, "an override is no object"),
            (r#"{"subs":{"a":{"override":{"presence":true}}}}"#, "an override is no object"),
            (r#"{"subs":{"a":{"override":{"presence":{},"presence":{}}}}}"#, "an override has a member twice"),
            (
                r#"{"subs":{"a":{"override":{"presence":{"value":1}}}}}"#,
                "an override's value is neither true nor false",
            ),
            (r#"{"channel":1}"#, "its channel is no string"),
            (r#"{"sub":"42","channel":"news"}"#, "it is a subscription token: it has a channel"),
        ] {
            assert_eq!(connection_says(payload), TokenError::Invalid(expected), "{payload}");
        }
        let says = verifier().verify_connection(&token(r#"{"alg":"HS256"}"#, b"{\"sub\":\"\xFF\"}"), NOW);
        assert_eq!(says, Err(TokenError::Invalid("its payload is no JSON object")));
    }

    #[test]
    fn audience_issuer_and_user_are_the_deployments_choice() {
        let choosing = |audience: &str, issuer: &str, user_id_claim: &str| {
            let [audience, issuer, user_id_claim] = [audience, issuer, user_id_claim].map(str::to_owned);
            Verifier::new(Settings { audience, issuer, user_id_claim, ..settings() }).unwrap()
        };
        let (aud, iss) = ("its aud is not ours", "its iss is not ours");
        for (audience, issuer, payload, says) in [
            ("a", "", r#"{"aud":"a"}"#, None),
            ("a", "", r#"{"aud":["b","a"]}"#, None),
            ("a", "", r#"{"aud":["b"]}"#, Some(aud)),
            ("a", "", r#"{"aud":"A"}"#, Some(aud)),
            ("a", "", r#"{"aud":[]}"#, Some(aud)),
            ("a", "", r#"{}"#, Some(aud)),
            ("", "i", r#"{"iss":"i","aud":"any"}"#, None),
            ("", "i", r#"{"iss":"j"}"#, Some(iss)),
            ("", "i", r#"{}"#, Some(iss)),
        ] {
            let result = choosing(audience, issuer, "").verify_connection(&saying(payload), NOW).map(|_| ());
            assert_eq!(result, says.map_or(Ok(()), |says| Err(TokenError::Invalid(says))), "{payload}");
        }
        let user = |payload: &str| choosing("", "", "user_id").verify_connection(&saying(payload), NOW);
        for (payload, id) in [
            (r#"{"sub":"s","user_id":"u"}"#, "u"),
            (r#"{"user_id":42}"#, "42"),
            (r#"{"sub":"s"}"#, ""),
            (r#"{"sub":"s","user_id":null}"#, ""),
        ] {
            assert_eq!(user(payload).unwrap().user, id, "{payload}");
        }
        for payload in [r#"{"user_id":1.5}"#, r#"{"user_id":true}"#, r#"{"user_id":["u"]}"#] {
            let says = TokenError::Invalid("its user id is neither string nor integer");
            assert_eq!(user(payload), Err(says), "{payload}");
        }
    }

    /// Signed rubbish: refused or read, never a panic.
    #[test]
    fn payloads_of_any_bytes() {
        let (verifier, mut state) = (verifier(), 1u64);
        let full = br#"{"sub":"42","exp":1.9e9,"aud":["a"],"info":{},"b64info":"e30=",
            "subs":{"a":{"override":{"presence":{"value":true}}}}}"#;
        let mut accepted = 0;
        for _ in 0..20_000 {
            let mut payload = full.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (at, with) = ((state >> 40) as usize % payload.len(), (state >> 33) as usize);
                payload[at] = if with.is_multiple_of(2) { full[with / 2 % full.len()] } else { with as u8 };
            }
            let token = token(r#"{"alg":"HS256"}"#, &payload);
            accepted += verifier.verify_connection(&token, NOW).is_ok() as u32;
            assert!(verifier.verify_subscription(&token, NOW).is_err(), "without a channel");
        }
        assert!((10..19_000).contains(&accepted), "{accepted}");
    }
}

mod subscriptions {
    use super::*;

    fn claims(payload: &str) -> SubscriptionClaims {
        verifier().verify_subscription(&saying(payload), NOW).expect(payload)
    }

    #[test]
    fn only_a_channel_is_needed() {
        let expected = SubscriptionClaims { channel: "news".into(), ..SubscriptionClaims::default() };
        assert_eq!(claims(r#"{"channel":"news"}"#), expected);
        assert_eq!(claims(r#"{"channel":"news","iat":1700000000,"client":""}"#), expected);
    }

    #[test]
    fn all_that_it_may_say() {
        let claims = claims(
            r#"{"sub":"42","channel":"news","client":"c","exp":1800000001,"expire_at":0,"jti":"j","b64info":"MQ==",
                "data":{"a":1},"override":{"force_recovery":{"value":true},"force_positioning":{"value":false}}}"#,
        );
        let overrides =
            Overrides { force_recovery: Some(true), force_positioning: Some(false), ..Overrides::default() };
        let expected = SubscriptionClaims {
            user: "42".into(),
            channel: "news".into(),
            client: Some("c".into()),
            exp: Some(1_800_000_001),
            expires_at: None,
            options: SubOptions {
                info: Some(Payload::Json(b"1".to_vec())),
                data: Some(Payload::Json(br#"{"a":1}"#.to_vec())),
                overrides,
            },
            jti: Some("j".into()),
        };
        assert_eq!(claims, expected);
        assert!(claims.is_for("42", "c", "news"));
        for (user, client, channel) in
            [("43", "c", "news"), ("42", "d", "news"), ("42", "c", "other"), ("", "c", "news")]
        {
            assert!(!claims.is_for(user, client, channel), "{user} {client} {channel}");
        }
        assert!(super::subscriptions::claims(r#"{"channel":"a"}"#).is_for("", "any", "a"));
    }

    #[test]
    fn what_it_may_not_say() {
        for (payload, expected) in [
            (r#"{"sub":"42"}"#, "it is no subscription token: it has no channel"),
            (r#"{"channel":""}"#, "it is no subscription token: it has no channel"),
            (r#"{"channel":null}"#, "it is no subscription token: it has no channel"),
            (r#"{"channel":["a"]}"#, "its channel is no string"),
            (r#"{"channel":"a","client":1}"#, "its client is no string"),
            (r#"{"channel":"a","channel":"b"}"#, "its payload has a claim twice"),
            (r#"{"channel":"a","b64data":"e30"}"#, "a b64data is no base64"),
            (r#"{"channel":"a","override":[]}"#, "an override is no object"),
            (r#"{"channel":"a","expire_at":-1}"#, "its expire_at is below zero"),
        ] {
            assert_eq!(subscription_says(payload), TokenError::Invalid(expected), "{payload}");
        }
        assert_eq!(subscription_says(r#"{"channel":"a","exp":1}"#), TokenError::Expired);
    }
}

mod configured {
    use super::*;

    #[test]
    fn settings_that_are_refused_name_their_key() {
        let base = Settings::default;
        for (settings, says) in [
            (Settings { audience_regex: "a".into(), ..base() }, "audience_regex is not supported; set audience"),
            (Settings { issuer_regex: "a".into(), ..base() }, "issuer_regex is not supported; set issuer"),
            (Settings { rsa_public_key: vectors::P256.into(), ..base() }, "rsa_public_key is a key of another kind"),
            (Settings { ecdsa_public_key: vectors::RSA.into(), ..base() }, "ecdsa_public_key is a key of another kind"),
            (Settings { ecdsa_public_key: vectors::P521.into(), ..base() }, "ecdsa_public_key is on P-521"),
            (Settings { rsa_public_key: "x".into(), ..base() }, "rsa_public_key holds no PEM"),
            (Settings { ed25519_public_key: vectors::P256.into(), ..base() }, "ed25519_public_key is a key of another"),
            (Settings { jwks: Jwks::Set(b"{}".to_vec()), ..base() }, "the JWKS file has no list of keys"),
            (
                Settings { jwks: Jwks::Endpoint(Times { interval_seconds: 0, ..Times::default() }), ..base() },
                "the JWKS endpoint's interval",
            ),
            (
                Settings { jwks: Jwks::Endpoint(Times { stale_seconds_max: 1, ..Times::default() }), ..base() },
                "the JWKS endpoint's keys must count",
            ),
        ] {
            let error = Verifier::new(settings).err().expect(says);
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn without_keys_everything_is_refused() {
        let verifier = Verifier::new(Settings::default()).unwrap();
        for (name, token) in TOKENS {
            let says = verifier.verify_connection(token, NOW);
            assert_eq!(says, Err(TokenError::Invalid("there is no key for its alg")), "{name}");
        }
    }

    #[test]
    fn warnings_tell_what_should_be_known() {
        let short = Settings { hmac_secret_key: "secret".into(), ..Settings::default() };
        let warnings = Verifier::new(short).unwrap().warnings().join("\n");
        assert_eq!(warnings, "hmac_secret_key has fewer than 32 bytes and could be guessed");
        let both = Settings { jwks: Jwks::Set(vectors::jwks().into_bytes()), ..settings() };
        let warnings = Verifier::new(both).unwrap().warnings().join("\n");
        assert!(warnings.starts_with("hmac_secret_key is not used, since a JWKS is set\nrsa_public_key"), "{warnings}");
        assert!(verifier().warnings().is_empty());
    }

    fn is_shared<T: Send + Sync + 'static>(_: &T) {}

    #[test]
    fn a_verifier_is_for_all_threads() {
        is_shared(&verifier());
    }
}

mod sets {
    use super::*;

    fn of_file() -> Verifier {
        let jwks = Jwks::Set(vectors::jwks().into_bytes());
        Verifier::new(Settings { jwks, hmac_secret_key: SECRET.into(), ..Settings::default() }).unwrap()
    }

    #[test]
    fn keys_by_their_ids() {
        let verifier = of_file();
        for (id, token) in NAMED {
            assert_eq!(verifier.verify_connection(token, NOW).unwrap().user, "42", "{id}");
        }
        let refused = |token: &str| verifier.verify_connection(token, NOW).unwrap_err();
        // The key is for RS256 only, and the signature is otherwise good.
        assert_eq!(refused(vectors::RS512_NAMED), TokenError::Invalid("there is no key for its alg"));
        assert_eq!(refused(TOKENS[3].1), TokenError::Invalid("its header has no kid"));
        // The secret is not used besides a set.
        assert_eq!(refused(TOKENS[0].1), TokenError::Invalid("there is no key for its alg"));
        let unknown = token(r#"{"alg":"RS256","kid":"other"}"#, b"{}");
        assert_eq!(refused(&unknown), TokenError::UnknownKey("other".into()));
        let crossed = token(r#"{"alg":"ES256","kid":"rsa"}"#, b"{}");
        assert_eq!(refused(&crossed), TokenError::Invalid("there is no key for its alg"));
    }

    #[test]
    fn an_endpoint_is_fetched_when_a_token_needs_it() {
        let jwks = Jwks::Endpoint(Times { interval_seconds: 10, ..Times::default() });
        let verifier = Verifier::new(Settings { jwks, ..Settings::default() }).unwrap();
        let (cache, token) = (verifier.signatures.jwks().unwrap(), NAMED[0].1);
        assert_eq!(verifier.signatures.weight(token, NOW), Weight::Inline, "nothing to verify yet");
        assert_eq!(verifier.verify_connection(token, NOW), Err(TokenError::KeyPending));
        let flight = cache.begin_fetch(NOW).unwrap();
        assert_eq!(verifier.verify_connection(token, NOW), Err(TokenError::KeyPending));
        cache.on_fetched(flight, NOW, Err(())).unwrap_err();
        assert_eq!(verifier.verify_connection(token, NOW), Err(TokenError::KeysUnavailable));
        assert_eq!(verifier.verify_connection(token, NOW + 10), Err(TokenError::KeyPending));
        let flight = cache.begin_fetch(NOW + 10).unwrap();
        let landed = cache.on_fetched(flight, NOW + 10, Ok(vectors::jwks().as_bytes())).unwrap();
        assert_eq!((landed.keys, landed.skipped), (4, Skipped::default()));
        assert_eq!(verifier.signatures.weight(token, NOW + 10), Weight::Compute);
        assert!(verifier.verify_connection(token, NOW + 10).is_ok());
        assert_eq!(verifier.signatures.weight(token, NOW + 10), Weight::Inline);
        // A secret is never looked for there, so nobody can have it fetched for one.
        let secret = super::token(r#"{"alg":"HS256","kid":"x"}"#, b"{}");
        let says = verifier.verify_connection(&secret, NOW + 20);
        assert_eq!(says, Err(TokenError::Invalid("there is no key for its alg")));
    }

    #[test]
    fn a_withdrawn_key_is_not_remembered() {
        let times = Times::default();
        let verifier = Verifier::new(Settings { jwks: Jwks::Endpoint(times), ..Settings::default() }).unwrap();
        let (cache, token) = (verifier.signatures.jwks().unwrap(), NAMED[1].1);
        let fetch = |now: u64, body: &str| {
            let flight = cache.begin_fetch(now).unwrap();
            cache.on_fetched(flight, now, Ok(body.as_bytes())).unwrap()
        };
        fetch(NOW, &vectors::jwks());
        assert!(verifier.verify_connection(token, NOW).is_ok());
        assert_eq!(verifier.signatures.weight(token, NOW), Weight::Inline);
        let later = NOW + 100;
        // Another key of the same id: what was verified by the one before counts no longer.
        fetch(later, &vectors::jwks().replace("\"p256\"", "\"was\"").replace("\"ed\"", "\"p256\""));
        let says = verifier.verify_connection(token, later);
        assert_eq!(says, Err(TokenError::Invalid("there is no key for its alg")));
        fetch(later + 100, &vectors::jwks().replace("\"p256\"", "\"was\""));
        let says = verifier.verify_connection(token, later + 100);
        assert_eq!(says, Err(TokenError::UnknownKey("p256".into())));
        // Another of the same kind: the one of RFC 7515, appendix A.3.
        let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = format!(r#"{{"kty":"EC","kid":"p256","crv":"P-256","x":"{x}","y":"{y}"}}"#);
        fetch(later + 200, &format!(r#"{{"keys":[{key}]}}"#));
        assert_eq!(verifier.signatures.weight(token, later + 200), Weight::Compute);
        let says = verifier.verify_connection(token, later + 200);
        assert_eq!(says, Err(TokenError::Invalid("its signature is wrong")));
    }
}

#[test]
fn weights_follow_the_signature_and_the_memory() {
    let verifier = verifier();
    for (name, token) in TOKENS.iter().filter(|(name, _)| *name != "ES384") {
        let is_hmac = name.starts_with("HS");
        let before = if is_hmac { Weight::Inline } else { Weight::Compute };
        assert_eq!(verifier.signatures.weight(token, NOW), before, "{name}");
        assert!(verifier.verify_connection(token, NOW).is_ok());
        assert_eq!(verifier.signatures.weight(token, NOW), Weight::Inline, "{name}");
        // What is remembered is the signature only: times are looked at again.
        assert_eq!(verifier.verify_connection(token, 2_000_000_000), Err(TokenError::Expired), "{name}");
    }
    for wrong in ["", "a.b.c", TOKENS[10].1] {
        assert_eq!(verifier.signatures.weight(wrong, NOW), Weight::Inline, "refused at once");
    }
    let forgetful = Verifier::new(Settings { verified_tokens_max: 0, ..settings() }).unwrap();
    assert!(forgetful.verify_connection(TOKENS[3].1, NOW).is_ok());
    assert_eq!(forgetful.signatures.weight(TOKENS[3].1, NOW), Weight::Compute);
}

/// Nanoseconds per token, by hand and optimised: `cargo test --release tokens::tests::what_it_costs -- --ignored
/// --nocapture`. Fails where a token that is verified inline takes longer than a shard's turn has for it.
#[test]
#[ignore = "a measurement"]
fn what_it_costs() {
    const INLINE_NANOSECONDS_MAX: u128 = 20_000;
    let cost = |name: &str, what: &str, work: &dyn Fn()| {
        let best = (0..9).map(|_| {
            let begin = Instant::now();
            (0..200).for_each(|_| work());
            begin.elapsed().as_nanos() / 200
        });
        let best = best.min().unwrap();
        println!("{name:6} {what:28} {best:7} ns");
        best
    };
    let at_p256 = settings();
    let at_p384 = Settings { ecdsa_public_key: vectors::P384.into(), ..settings() };
    for (name, token) in TOKENS {
        let settings = if name == "ES384" { &at_p384 } else { &at_p256 };
        let forgetful = Verifier::new(Settings { verified_tokens_max: 0, ..settings.clone() }).unwrap();
        let remembering = Verifier::new(settings.clone()).unwrap();
        assert!(remembering.verify_connection(token, NOW).is_ok());
        let verify = cost(name, "verify", &|| _ = black_box(forgetful.verify_connection(token, NOW)));
        let weight = cost(name, "weight", &|| _ = black_box(forgetful.signatures.weight(token, NOW)));
        if name.starts_with("HS") {
            assert!(verify + weight < INLINE_NANOSECONDS_MAX, "{name}: {verify} ns");
            continue;
        }
        let again = cost(name, "verify, remembered", &|| _ = black_box(remembering.verify_connection(token, NOW)));
        let weight = cost(name, "weight, remembered", &|| _ = black_box(remembering.signatures.weight(token, NOW)));
        assert!(again + weight < INLINE_NANOSECONDS_MAX, "{name}: {again} ns");
    }
}
