//! JSON without a tree: validation and spans.
