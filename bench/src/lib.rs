//! Open-loop load, honest percentiles, peers side by side.
