//! Every scenario in small: that they run, not how well.

use crate::report::{Row, Target};
use crate::scenario::{Settings, ws_broadcast, ws_echo, ws_idle};
use crate::{chat, gateway};

/// Every scenario in small, to see that they run.
///
/// # Errors
/// As the scenarios.
pub fn smoke(settings: &Settings) -> Result<Vec<Row>, String> {
    let tiny = Settings { sockets: Some(20), seconds: 1.0, rounds: 1, rate: Some(2000.0), ..settings.clone() };
    let mut rows = ws_echo(&tiny)?.rows;
    rows.extend(ws_broadcast(&tiny)?);
    rows.extend(ws_idle(&tiny, false)?);
    rows.extend(ws_idle(&tiny, true)?);
    rows.extend(chat::smoke(&Settings { rate: Some(200.0), ..tiny.clone() })?.rows);
    rows.extend(gateway::smoke(&Settings { rate: Some(200.0), ..tiny })?.rows);
    // A few sockets for a second say that it works, not how well.
    rows.iter_mut().for_each(|row| row.target = Target::Fact);
    Ok(rows)
}
