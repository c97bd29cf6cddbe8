//! What is to be known of a store of objects: whether it lets us write, list and remove, and whether it keeps conditions.

use url::Url;

use super::Finding;
use crate::image::store::{S3, S3Settings};

/// The bucket of a URL, `https://HOST/BUCKET[/PREFIX]`; its keys are `variable`'s to tell.
///
/// # Errors
/// A sentence: what the URL lacks, or that there are no keys.
pub(super) fn named(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<S3Settings, String> {
    let wrong = || format!("--s3 {url}: expected https://HOST/BUCKET or https://HOST/BUCKET/PREFIX");
    let mut endpoint = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(wrong)?;
    let path = endpoint.path().trim_matches('/').to_owned();
    let (bucket, prefix) =
        path.split_once('/').map_or((path.as_str(), String::new()), |(bucket, prefix)| (bucket, format!("{prefix}/")));
    if bucket.is_empty() {
        return Err(wrong());
    }
    endpoint.set_path("/");
    let bucket = bucket.to_owned();
    let settings = S3Settings { bucket, prefix, endpoint: Some(endpoint), ..S3Settings::default() }.settle(variable);
    settings.check(0)?;
    Ok(settings)
}

/// Tries all of that, as the service does at its start.
pub(super) fn look(settings: S3Settings) -> Vec<Finding> {
    match S3::open(settings) {
        Err(error) => vec![Finding::no(
            error.to_string(),
            "see whether its endpoint can be reached from here, and whether the bucket is there and these keys may use it",
        )],
        Ok(store) => {
            let lets = Finding::yes("lets us write, list and remove");
            let once = match store.creates_once() {
                true => Finding::yes("creates an object once (If-None-Match: *)"),
                false => Finding::note(
                    "does not keep If-None-Match: *, so two nodes that make the same output in the same moment may both store it",
                    "nothing, unless that matters: the later one stays, and is as good",
                ),
            };
            vec![lets, once]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_an_address() {
        let keys = |name: &str| name.starts_with("AWS_").then(|| "key".to_owned());
        let settings = named("https://s3.example.com:9000/photos/a/b", &keys).unwrap();
        assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("photos", "a/b/"));
        assert_eq!(settings.endpoint.unwrap().as_str(), "https://s3.example.com:9000/");
        for wrong in ["photos", "ftp://a/b", "https://s3.example.com", "https://s3.example.com/"] {
            assert!(named(wrong, &keys).unwrap_err().contains("HOST/BUCKET"), "{wrong}");
        }
        assert!(named("https://a/b", &|_| None).unwrap_err().contains("AWS_ACCESS_KEY_ID"));
    }
}
