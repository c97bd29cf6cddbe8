//! Which form a client wants (`Accept`, RFC 9110 section 12.5.1), where the endpoint leaves it to its clients.

use super::super::config::model::OutputEncoding;

/// What is offered, by its types. Where a client likes several equally, the first that it names counts; JSON where it says
/// nothing or likes none. `text/plain` is YAML, as in KrakenD.
const OFFERED: [(&str, OutputEncoding); 8] = [
    ("application/json", OutputEncoding::Json),
    ("application/xml", OutputEncoding::Xml),
    ("text/xml", OutputEncoding::Xml),
    ("application/yaml", OutputEncoding::Yaml),
    ("application/x-yaml", OutputEncoding::Yaml),
    ("text/yaml", OutputEncoding::Yaml),
    ("text/plain", OutputEncoding::Yaml),
    ("text/*", OutputEncoding::Yaml),
];

/// The form that the fields `Accept` ask for.
pub fn negotiated<'a>(accepted: impl Iterator<Item = &'a str>) -> OutputEncoding {
    let mut best = (OutputEncoding::Json, 0.0);
    for item in accepted.flat_map(|list| list.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // A weight that is none is nobody's wish.
        let weight = weight.map_or(1.0, |weight| weight.parse::<f64>().unwrap_or(0.0)).clamp(0.0, 1.0);
        let form = match &kind[..] {
            "*/*" | "application/*" => Some(OutputEncoding::Json),
            kind => OFFERED.iter().find(|(offered, _)| *offered == kind).map(|(_, form)| *form),
        };
        if let Some(form) = form
            && weight > best.1
        {
            best = (form, weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_form_that_they_like_best() {
        use OutputEncoding::{Json, Xml, Yaml};
        for (accepted, expected) in [
            (&[][..], Json),
            (&["*/*"], Json),
            (&["application/xml"], Xml),
            (&["text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8"], Xml),
            (&["application/json, application/xml"], Json),
            (&["application/xml, application/json"], Xml),
            (&["application/xml;q=0.5", "application/json"], Json),
            (&["Text/Plain"], Yaml),
            (&["application/yaml;q=0.5, text/xml;q=0.4"], Yaml),
            (&["application/xml;q=0"], Json),
            (&["application/xml;q=x"], Json),
            (&["image/png"], Json),
            (&["application/xml;q=NaN, text/yaml;q=0.1"], Yaml),
        ] {
            assert_eq!(negotiated(accepted.iter().copied()), expected, "{accepted:?}");
        }
    }
}
