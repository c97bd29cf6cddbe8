//! The Centrifuge client protocol, JSON form.
