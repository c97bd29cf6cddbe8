//! Uploads: a form or raw bytes, streamed to the store while they are hashed and their head is read.
//!
//! ```text
//!   pieces ─► SHA-256 ─► head (in memory until it says what the image is) ─► limits, admission ─┬─► refused: nothing was written
//!                                                                                                └─► store ─► publish ─► queue ─► 202
//! ```
//!
//! What can be refused is refused as soon as it is known, before the rest has come: by a declared length, by the first
//! bytes, by the header, by the queue's length. What breaks off leaves nothing behind.

use std::time::Duration;

use annulus_protocols::Input;
use annulus_protocols::multipart::{self, Event, Multipart};
use serde_json::json;

use super::api::{Api, of_fault, of_store, private, told};
use super::asked::{Asked, Wishes};
use super::fault::{Fault, Kind};
use super::intake::{Entry, Intake, enter, judge};
use super::job::Tenant;
use super::keys::Caller;
use super::quotas::upload_begins;
use super::store::Direct;
use super::work::Idempotency;
use crate::serve::{Body, Problem, Reply, Request};

/// Bytes of a form beside its file: heads of parts and small fields. Beyond: 413.
pub const FORM_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a form's field. Beyond: 413.
const FIELD_BYTES_MAX: usize = 4 << 10;

/// `POST /v1/images`.
pub(super) async fn upload(
    api: &Api,
    request: &Request,
    body: &mut Body<'_>,
    tenant: Tenant,
) -> Result<Reply, Problem> {
    let idempotency_key = idempotency_key(request)?;
    let mut wishes = Wishes::default();
    let mut invited = None;
    for (name, value) in request.query() {
        if name == "upload" {
            invited = Some(value);
            continue;
        }
        if !wishes.add(&name, &value).map_err(|fault| of_fault(&fault))? {
            let detail = format!("The query says {name:?}. Known are preset, ops, priority and upload.");
            return Err(of_fault(&Fault::new(Kind::BadRequest, detail)));
        }
    }
    let arriving = upload_begins(api, &tenant, request.body_len().filter(|_| invited.is_none())).await?;
    // Before the first byte: who has to come back later need not send it all.
    judge(api.desk.gate.ask(None))?;
    let under_way = api.meters.upload_begins();
    let content_type = request.field("content-type").unwrap_or_default();
    let is_form = content_type.trim_start().to_ascii_lowercase().starts_with("multipart/");
    if let Some(len) = request.body_len().filter(|_| is_form) {
        api.config.limits.check_bytes(len.saturating_sub(FORM_BYTES_MAX)).map_err(|fault| of_fault(&fault))?;
    }
    let (intake, asked) = match (invited, is_form) {
        (Some(name), _) => collected(api, name, wishes).await?,
        (None, true) => form(api, content_type, body, wishes).await?,
        (None, false) => raw(api, request, body, wishes).await?,
    };
    let arrived = api.shard.precise_now();
    let (document, is_new) = enter(api, &tenant, intake, asked, idempotency_key).await?;
    api.meters.accepted(api.shard.precise_now().saturating_sub(arrived), document.source.bytes);
    drop((under_way, arriving));
    let location = format!("/v1/jobs/{}", document.id);
    let caller = Caller { tenant, is_admin: false };
    let waited = api.wait(request, body, &caller, document).await?;
    // A job that was there before and is done needs no polling either.
    let status = if waited.document.state.is_final() { 200 } else { 202 };
    let reply = private(Reply::json(status, &told(&waited.document))).with("location", location);
    let reply = if is_new { reply } else { reply.with("idempotency-replayed", "true") };
    Ok(waited.applied(reply))
}

/// The client's own name for this request.
pub(super) fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(key) = request.fields().get("idempotency-key") else { return Ok(None) };
    let most = Idempotency::KEY_BYTES_MAX;
    match std::str::from_utf8(key) {
        Ok(key) if (1..=most).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(400, format!("An Idempotency-Key has 1 to {most} bytes of text. A UUID is a good one."))),
    }
}

pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).max(1) as u64
}

/// A body that is the image itself, whatever type it claims.
async fn raw<'a>(
    api: &'a Api,
    request: &Request,
    body: &mut Body<'_>,
    wishes: Wishes,
) -> Result<(Intake<'a>, Asked), Problem> {
    let asked = asked(api, &wishes)?;
    let mut intake = Intake::new(api, &asked, request.body_len(), Entry::New)?;
    let arriving = async {
        while let Some(piece) = body.next().await? {
            intake.take(piece).await?;
        }
        intake.ends().await
    };
    match arriving.await {
        Ok(()) => Ok((intake, asked)),
        Err(problem) => Err(intake.give_up(problem).await),
    }
}

/// `POST /v1/uploads`: where a client may put an original itself.
pub(super) fn invite(api: &Api) -> Result<Reply, Problem> {
    judge(api.desk.gate.ask(None))?;
    let direct = api.shelf.direct().ok_or_else(no_direct_way)?;
    let invitation = direct.invite().map_err(of_store)?;
    let told = json!({
        "upload": invitation.name,
        "method": "PUT",
        "url": invitation.url,
        "expires_in": invitation.holds.as_secs(),
        "then": format!("/v1/images?upload={}", invitation.name),
    });
    Ok(private(Reply::json(201, &told)))
}

/// What is said where the store is a directory.
pub(super) fn no_direct_way() -> Problem {
    Problem::new(
        404,
        "This server's images are in a directory, which clients do not reach themselves. Upload to /v1/images, get from \
         /v1/images/KEY.",
    )
}

/// A body that the client has put into the store itself.
async fn collected<'a>(api: &'a Api, name: String, wishes: Wishes) -> Result<(Intake<'a>, Asked), Problem> {
    let asked = asked(api, &wishes)?;
    let direct = api.shelf.direct().ok_or_else(no_direct_way)?;
    let Some(object) = direct.collect(&name).await.map_err(of_store)? else {
        let detail = "There is no such upload. Put the image at the address that POST /v1/uploads told, then name it here, \
                      within the time that it told.";
        return Err(Problem::new(404, detail));
    };
    let len = object.meta().len;
    // Taken like a body that comes: the address is still the client's, who may put something else there at any moment, so what
    // was hashed and judged is written to where only we write. What lies there stays for the sweep: an answer that is lost can
    // be asked for again.
    let mut intake = match Intake::new(api, &asked, Some(len), Entry::New) {
        Ok(intake) => intake,
        Err(problem) => return Err(refused(direct, &name, problem).await),
    };
    match intake.take_all(&*object).await {
        Ok(()) => Ok((intake, asked)),
        Err(problem) => {
            let problem = intake.give_up(problem).await;
            Err(refused(direct, &name, problem).await)
        }
    }
}

/// What will never be an image is no use where it was put; the sweep finds what cannot be removed now. Passes on why.
async fn refused(direct: &dyn Direct, name: &str, problem: Problem) -> Problem {
    if (400..500).contains(&problem.status)
        && problem.status != 429
        && let Err(error) = direct.discard(name).await
    {
        crate::warn!("image: an upload that was refused: {error}");
    }
    problem
}

pub(super) fn asked(api: &Api, wishes: &Wishes) -> Result<Asked, Problem> {
    wishes.asked(&api.config.presets, &api.config.default_preset).map_err(|fault| of_fault(&fault))
}

/// A form: fields first, then one file.
async fn form<'a>(
    api: &'a Api,
    content_type: &str,
    body: &mut Body<'_>,
    wishes: Wishes,
) -> Result<(Intake<'a>, Asked), Problem> {
    let machine = Multipart::new(content_type).map_err(of_form)?;
    let mut form = Form { api, machine, wishes, at: At::Between, file: None, beside: 0 };
    let arriving = async {
        while let Some(piece) = body.next().await? {
            form.take(piece).await?;
        }
        form.machine.on_end_of_body().map_err(of_form)
    };
    let arrived = arriving.await;
    let Some((mut intake, asked)) = form.file else {
        return Err(arrived.err().unwrap_or_else(|| {
            Problem::new(400, "The form has no file. Send the image as a part with a file name: -F file=@photo.jpg.")
        }));
    };
    let ended = match arrived {
        Ok(()) => intake.ends().await,
        Err(problem) => Err(problem),
    };
    match ended {
        Ok(()) => Ok((intake, asked)),
        Err(problem) => Err(intake.give_up(problem).await),
    }
}

fn of_form(fault: multipart::Fault) -> Problem {
    let detail = match fault {
        multipart::Fault::NotFormData => {
            "Send the image as multipart/form-data, or its bytes as they are with Content-Type: image/jpeg or similar."
                .to_owned()
        }
        fault => format!("The form cannot be read: {fault}."),
    };
    Problem::new(fault.status(), detail).of_kind("about:blank#bad-form", "The form cannot be read")
}

/// A form under way.
struct Form<'a> {
    api: &'a Api,
    machine: Multipart,
    wishes: Wishes,
    at: At,
    file: Option<(Intake<'a>, Asked)>,
    /// Bytes that are not the file's.
    beside: u64,
}

/// Inside which part.
enum At {
    Between,
    Field { name: String, value: Vec<u8> },
    File,
}

impl<'a> Form<'a> {
    async fn take(&mut self, piece: &mut [u8]) -> Result<(), Problem> {
        let mut input = Input::new(piece);
        loop {
            let before = input.len();
            let event = self.machine.next_event(&multipart::Limits::DEFAULT, &mut input).map_err(of_form)?;
            let is_content = matches!((&event, &self.at), (Event::Data(_), At::File));
            if !is_content {
                self.beside += (before - input.len()) as u64;
            }
            if self.beside > FORM_BYTES_MAX {
                let detail = format!("The form holds more than {FORM_BYTES_MAX} bytes beside its file.");
                return Err(Problem::new(413, detail));
            }
            match (event, &mut self.at) {
                (Event::NeedMore, _) => return Ok(()),
                (Event::Part(part), _) => self.begins(part)?,
                (Event::Data(bytes), At::Field { value, .. }) => {
                    if value.len() + bytes.len() > FIELD_BYTES_MAX {
                        return Err(Problem::new(413, format!("A field is longer than {FIELD_BYTES_MAX} bytes.")));
                    }
                    value.extend_from_slice(&bytes);
                }
                (Event::Data(bytes), At::File) => {
                    if let Some((intake, _)) = &mut self.file {
                        intake.take(&bytes).await?;
                    }
                }
                (Event::PartEnd, _) => self.ends()?,
                (Event::Data(_) | Event::End, _) => {}
            }
        }
    }

    fn begins(&mut self, part: multipart::Part) -> Result<(), Problem> {
        let bad =
            |detail: String| Err(Problem::new(400, detail).of_kind("about:blank#bad-form", "The form cannot be read"));
        let is_file = part.file_name.is_some() || matches!(&part.name[..], "file" | "image");
        match (is_file, self.file.is_some()) {
            (true, true) => bad("The form has more than one file. Send one image per request.".to_owned()),
            (false, true) => bad(format!("The field {:?} comes after the file. Put fields before it.", part.name)),
            (false, false) => {
                self.at = At::Field { name: part.name, value: Vec::new() };
                Ok(())
            }
            (true, false) => {
                let asked = asked(self.api, &self.wishes)?;
                self.file = Some((Intake::new(self.api, &asked, None, Entry::New)?, asked));
                self.at = At::File;
                Ok(())
            }
        }
    }

    fn ends(&mut self) -> Result<(), Problem> {
        let At::Field { name, value } = std::mem::replace(&mut self.at, At::Between) else { return Ok(()) };
        let value = String::from_utf8(value).unwrap_or_default();
        match self.wishes.add(&name, &value) {
            // Other fields are somebody else's business: forms carry tokens and the like.
            Ok(_is_ours) => Ok(()),
            Err(fault) => Err(of_fault(&fault)),
        }
    }
}
