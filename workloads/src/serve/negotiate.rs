//! Which of several media types a client likes best (RFC 9110 section 12.5.1).

/// The first of `offered` among those that `accept` weighs highest; `None` if it accepts none. Without the field
/// everything is accepted alike.
pub fn best<'o>(accept: Option<&str>, offered: &[&'o str]) -> Option<&'o str> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return offered.first().copied() };
    let weighed = offered.iter().map(|kind| (weight(accept, kind), *kind)).filter(|(weight, _)| *weight > 0);
    // The first of the heaviest: what is offered comes in the order of our preference.
    weighed.rev().max_by_key(|(weight, _)| *weight).map(|(_, kind)| kind)
}

/// As [`best`], among those that the client names itself: a range such as `*/*` is a habit also of programs that can show
/// little of it.
pub fn best_named<'o>(accept: Option<&str>, offered: &[&'o str]) -> Option<&'o str> {
    let accept = accept?;
    let is_named = |kind: &str| {
        let mut ranges = accept.split(',').filter_map(|element| element.split(';').next());
        ranges.any(|range| range.trim().eq_ignore_ascii_case(kind))
    };
    let named: Vec<&str> = offered.iter().copied().filter(|kind| is_named(kind)).collect();
    if named.is_empty() { None } else { best(Some(accept), &named) }
}

/// What the most specific range that matches says, in thousandths.
fn weight(accept: &str, kind: &str) -> u16 {
    let ranges = accept.split(',').filter_map(|element| {
        let mut parts = element.split(';');
        let range = parts.next()?.trim();
        let specific = match range.split_once('/')? {
            ("*", "*") => 0,
            (main, "*") if kind.split('/').next().is_some_and(|of_kind| of_kind.eq_ignore_ascii_case(main)) => 1,
            _ if range.eq_ignore_ascii_case(kind) => 2,
            _ => return None,
        };
        let quality =
            parts.find_map(|parameter| parameter.trim().strip_prefix("q=").or(parameter.trim().strip_prefix("Q=")));
        Some((specific, quality.map_or(1000, thousandths)))
    });
    ranges.max_by_key(|(specific, _)| *specific).map_or(0, |(_, weight)| weight)
}

/// `0.8` as 800; what is no weight counts as 1.
fn thousandths(text: &str) -> u16 {
    let weight = text.trim().parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    weight.map_or(1000, |weight| (weight * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_like_best() {
        let offered = ["image/avif", "image/webp", "image/jpeg"];
        for (accept, kind) in [
            (None, Some("image/avif")),
            (Some(""), Some("image/avif")),
            (Some("image/avif,image/webp,image/apng,image/*,*/*;q=0.8"), Some("image/avif")),
            (Some("image/webp,*/*;q=0.8"), Some("image/webp")),
            (Some("image/*;q=0.5, image/jpeg"), Some("image/jpeg")),
            (Some("image/avif;q=0, */*"), Some("image/webp")),
            (Some("IMAGE/JPEG; Q=0.1"), Some("image/jpeg")),
            (Some("text/html"), None),
            (Some("*/*;q=0"), None),
            (Some("nonsense"), None),
        ] {
            assert_eq!(best(accept, &offered), kind, "{accept:?}");
        }
    }

    #[test]
    fn what_is_new_goes_to_those_who_name_it() {
        let offered = ["image/avif", "image/webp"];
        for (accept, kind) in [
            (None, None),
            (Some(""), None),
            (Some("*/*"), None),
            (Some("image/*, image/jpeg"), None),
            (Some("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"), Some("image/avif")),
            (Some("image/webp,*/*"), Some("image/webp")),
            (Some("image/avif;q=0.1, Image/WebP"), Some("image/webp")),
            (Some("image/avif;q=0, */*"), None),
        ] {
            assert_eq!(best_named(accept, &offered), kind, "{accept:?}");
        }
        assert_eq!(best_named(Some("image/avif"), &[]), None);
    }
}
