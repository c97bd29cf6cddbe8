//! What the switch `compat` changes, for this configuration and no other.

use super::model::{Compat, Endpoint, Gateway, MergeOrder, Output, OutputEncoding};
use super::ours::Defaults;

/// What switching `compat` to its other value would change, one sentence each. Empty: nothing.
pub fn compat_differences(gateway: &Gateway) -> Vec<String> {
    let other = match gateway.compat {
        Compat::KrakenD => Compat::Annulus,
        Compat::Annulus => Compat::KrakenD,
    };
    gateway.endpoints.iter().flat_map(|endpoint| of_endpoint(endpoint, other)).collect()
}

fn of_endpoint(endpoint: &Endpoint, other: Compat) -> Vec<String> {
    let name = format!("{} {}", endpoint.method.as_str(), endpoint.pattern);
    if endpoint.unsupported.is_some() {
        return Vec::new();
    }
    let failure = match other {
        Compat::Annulus => "502 or 504 with a problem document instead of 500",
        Compat::KrakenD => "500 instead of 502 or 504 with a problem document",
    };
    let mut differences = vec![format!("{name}: when no backend succeeds, {failure}")];
    if endpoint.output_encoding == OutputEncoding::NoOp {
        return differences;
    }
    let defaults = Defaults::of(other);
    let several = endpoint.answering().count() > 1 && !endpoint.sequential;
    if several && !endpoint.merge_order_is_set && endpoint.merge_order != defaults.merge_order {
        let winner = match defaults.merge_order {
            MergeOrder::Declared => "the later backend in the file wins instead of the later to answer",
            MergeOrder::Arrival => "the later backend to answer wins instead of the later in the file",
        };
        differences.push(format!("{name}: when two backends answer the same member, {winner}"));
    }
    if !endpoint.output_is_set && endpoint.output != defaults.output {
        let output = match defaults.output {
            Output::Fast => "members stay in the backends' order and form instead of being sorted and escaped",
            Output::Canonical => "members are sorted and escaped instead of staying in the backends' order and form",
        };
        differences.push(format!("{name}: {output}"));
    }
    differences
}
