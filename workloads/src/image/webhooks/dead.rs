//! Dead letters, for those who run the server: which there are, and that they are told again.

use serde_json::{Value, json};

use super::sender::shown;
use crate::image::api::{Api, of_queue, private};
use crate::image::outbox::{Letter, Outbox, Place};
use crate::serve::{Problem, Reply, Request};

/// Dead letters in one answer, unless fewer are asked for.
const LETTERS_MAX: usize = 100;

/// `GET /v1/webhooks/dead`.
pub(in crate::image) async fn list(api: &Api, request: &Request) -> Result<Reply, Problem> {
    let outbox = outbox(api, request)?;
    let wrong = || Problem::new(400, "before is a letter's name, and limit a whole number.");
    let before = request.query_value("before").map(|text| text.parse::<Place>()).transpose();
    let limit = request.query_value("limit").map(|text| text.parse::<u64>()).transpose();
    let (before, limit) = (before.map_err(|_not_a_place| wrong())?, limit.map_err(|_not_a_number| wrong())?);
    let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LETTERS_MAX).clamp(1, LETTERS_MAX);
    let letters = outbox.letters(before, most).await.map_err(of_queue)?;
    let next = letters.last().filter(|_| letters.len() == most).map(|letter| letter.noted.place.to_string());
    let letters: Vec<Value> = letters.iter().map(told).collect();
    Ok(private(Reply::json(200, &json!({"letters": letters, "next_before": next}))))
}

/// `POST /v1/webhooks/dead/LETTER/retry`, and without a letter: the oldest of all.
pub(in crate::image) async fn again(api: &Api, request: &Request, letter: Option<&str>) -> Result<Reply, Problem> {
    let outbox = outbox(api, request)?;
    let none = || Problem::new(404, "There is no such dead letter. It may have been told again already.");
    let letter = letter.map(|text| text.parse::<Place>()).transpose().map_err(|_not_a_place| none())?;
    match (outbox.again(letter).await.map_err(of_queue)?, letter) {
        (0, Some(_)) => Err(none()),
        (count, _) => Ok(private(Reply::json(202, &json!({"told_again": count})))),
    }
}

fn told(letter: &Letter) -> Value {
    json!({
        "letter": letter.noted.place.to_string(),
        "given_up_ms": letter.given_up_ms,
        "why": letter.why,
        "event": shown(&letter.noted, None),
    })
}

fn outbox<'a>(api: &'a Api, request: &Request) -> Result<&'a dyn Outbox, Problem> {
    api.admin(request)?;
    let webhooks = api.desk.webhooks.as_ref();
    webhooks.map(|telling| &*telling.outbox).ok_or_else(|| {
        Problem::new(404, "This server tells nobody how jobs end: there is no [image.webhooks] in its configuration.")
    })
}
