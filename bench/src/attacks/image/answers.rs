//! What the image service is sent that is no picture or more than one, and addresses that nobody gave out.

use super::super::bombs;
use super::super::raw;
use super::super::spy::Spy;
use super::super::stage::{CANARY, Stage, VARIANT_KEY};
use super::super::tables::{Tried, asked, oversized, rebound, too_long};
use crate::image::server::{ended, upload};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use std::time::Duration;

/// Bytes of an upload (`bytes_max`).
const UPLOAD_BYTES_MAX: usize = 64 << 20;
/// How long a job of a bad picture, and what is told of one, may take.
const JOB_MAX: Duration = Duration::from_secs(30);
const TOLD_MAX: Duration = Duration::from_millis(2500);

/// Uploads a picture. Who is let in has a job, whose end is told.
fn sent(stage: &Stage<'_>, what: &str, picture: &[u8], expected: &[&str]) -> Result<Tried, String> {
    sent_for(stage, "preset=web", what, picture, expected)
}

/// The same with what is asked for.
fn sent_for(stage: &Stage<'_>, query: &str, what: &str, picture: &[u8], expected: &[&str]) -> Result<Tried, String> {
    let target = format!("/v1/images?{query}");
    let reply = raw::ask(stage.address, &raw::request("POST", &target, "Connection: close\r\n", picture))?;
    let answer = match reply.status {
        200 | 202 => {
            let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let id = document["id"].as_str().unwrap_or_default().to_owned();
            let end = ended(stage.address, &id, JOB_MAX)?;
            end["state"].as_str().unwrap_or("no state").to_owned()
        }
        0 => "closed".to_owned(),
        status => status.to_string(),
    };
    Ok(Tried { what: what.to_owned(), holds: expected.contains(&answer.as_str()), answer })
}

pub fn pixel_bombs(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let refused = &["413", "422", "429", "503"];
    let sides = |width: u16, height: u16| {
        // Height and width in the frame's head (ITU-T T.81, B.2.2).
        let mut jpeg = stage.yard.photo.clone();
        if let Some(at) = memchr::memmem::find(&jpeg, &[0xff, 0xc0]) {
            jpeg[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
            jpeg[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
        }
        jpeg
    };
    let cases = [
        ("PNG of 60,000 x 60,000", bombs::png(60_000, 60_000)),
        ("PNG of 30,000 x 30,000", bombs::png(30_000, 30_000)),
        ("PNG of 15,000 x 15,000 in 2 KB", bombs::png(15_000, 15_000)),
        ("PNG of 2^31 x 1", bombs::png(0x7fff_ffff, 1)),
        ("PNG of 0 x 0", bombs::png(0, 0)),
        ("PNG with a profile of 64 MB", bombs::png_with_profile(64 << 20)),
        ("GIF of 5,000 frames", bombs::gif(5000)),
        ("JPEG that says 65,500 x 65,500", sides(65_500, 65_500)),
        ("JPEG that says 32,000 x 32,000", sides(32_000, 32_000)),
        ("JPEG that says 0 x 0", sides(0, 0)),
    ];
    let mut tried = Vec::new();
    for (what, picture) in &cases {
        // A profile may be dropped, and frames that nobody asked for are not looked at: then a picture is made, in its bounds.
        let also = matches!(*what, "PNG with a profile of 64 MB" | "GIF of 5,000 frames");
        let expected: Vec<&str> =
            refused.iter().copied().chain(also.then_some(["done", "failed"]).into_iter().flatten()).collect();
        tried.push(sent(stage, what, picture, &expected)?);
    }
    // So many frames are made as were asked for, in the memory of one (`maf`: 1,024 at most).
    let (moving, ends) = ("ops=a=maf:1000/f:webp", ["413", "failed", "done"]);
    tried.push(sent_for(stage, moving, "GIF of 5,000 frames, 1,000 asked for", &bombs::gif(5000), &ends)?);
    Ok(tried)
}

pub fn not_images(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let refused = &["400", "415", "422", "429", "503"];
    let late: Vec<&str> = refused.iter().copied().chain(["failed"]).collect();
    let entities = b"<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\
                     <svg xmlns=\"http://www.w3.org/2000/svg\"><text>&a;</text></svg>";
    let noise = bombs::noise(100_000);
    let magic = |magic: &[u8]| [magic, &noise].concat();
    let photo = &stage.yard.photo;
    let mut tried = vec![
        sent(stage, "a page", b"<html><script>alert(1)</script></html>", refused)?,
        sent(stage, "SVG with an entity", entities, refused)?,
        sent(stage, "MVG", b"push graphic-context\nfill 'url(https://127.0.0.1/)'\npop graphic-context", refused)?,
        sent(stage, "PostScript", b"%!PS\n(%pipe%id) (r) file\n", refused)?,
        sent(stage, "ZIP", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", refused)?,
        sent(stage, "noise", &noise, refused)?,
        sent(stage, "nothing but a JPEG's first bytes", b"\xff\xd8\xff", &late)?,
        sent(stage, "noise behind a JPEG's first bytes", &magic(b"\xff\xd8\xff\xe0"), &late)?,
        sent(stage, "noise behind a PNG's first bytes", &magic(b"\x89PNG\r\n\x1a\n"), &late)?,
        sent(stage, "noise behind a GIF's first bytes", &magic(b"GIF89a"), &late)?,
        sent(stage, "noise behind a WebP's first bytes", &magic(b"RIFF\x00\x80\x01\x00WEBPVP8 "), &late)?,
        sent(stage, "noise behind an AVIF's first bytes", &magic(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1"), &late)?,
    ];
    let mut torn = photo.clone();
    let half = torn.len() / 2;
    torn[half..].copy_from_slice(&bombs::noise(photo.len() - half));
    // A decoder makes what it can of scans.
    let made: Vec<&str> = late.iter().copied().chain(["done"]).collect();
    tried.push(sent(stage, "a photo whose second half is noise", &torn, &made)?);
    Ok(tried)
}

pub fn too_large(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    // A photo's header is soon known, and then only the size is against it.
    let mut tried = oversized(stage, "/v1/images", UPLOAD_BYTES_MAX, &stage.yard.photo)?;
    // Here it never comes: behind the first segment is no marker (ITU-T T.81, B.1.1.2). Who waited for it would keep all of it.
    let endless = too_long("/v1/images", b"\xff\xd8\xff\xe0", UPLOAD_BYTES_MAX);
    tried.push(asked(stage, "a JPEG whose header never comes", &endless, &[422])?);
    let form = |parts: &str| {
        let body = format!("{parts}--b--\r\n");
        raw::request("POST", "/v1/images", "Content-Type: multipart/form-data; boundary=b\r\n", body.as_bytes())
    };
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let refused = [400, 413, 422, 431];
    let many: String = (0..200).map(|number| part(&format!("field{number}"), "a")).collect();
    tried.push(asked(stage, "a form of 200 parts", &form(&many), &refused)?);
    tried.push(asked(stage, "a form with a field of 100 KB", &form(&part("preset", &"a".repeat(100_000))), &refused)?);
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\na\r\n", "a".repeat(100_000));
    tried.push(asked(stage, "a form with a name of 100 KB", &form(&head), &refused)?);
    let boundary = format!("Content-Type: multipart/form-data; boundary={}\r\n", "b".repeat(10_000));
    tried.push(asked(
        stage,
        "a boundary of 10 KB",
        &raw::request("POST", "/v1/images", &boundary, b"--b--\r\n"),
        &refused,
    )?);
    let key = format!("Idempotency-Key: {}\r\n", "k".repeat(5000));
    tried.push(asked(
        stage,
        "an idempotency key of 5,000 letters",
        &raw::request("POST", "/v1/images", &key, b"\xff\xd8\xff"),
        &refused,
    )?);
    let ops = "ops=a=rs:fit:10:10&".repeat(100);
    tried.push(asked(
        stage,
        "100 outputs",
        &raw::request("POST", &format!("/v1/images?{ops}"), "", b"\xff\xd8\xff"),
        &refused,
    )?);
    let size = "rs:fit:1000000:1000000/el:1";
    tried.push(asked(
        stage,
        "an output of 10^12 pixels",
        &raw::request("POST", &format!("/v1/images?ops=a={size}"), "", &stage.yard.photo),
        &refused,
    )?);
    let tus = |length: &str| {
        raw::request("POST", "/v1/tus", &format!("Tus-Resumable: 1.0.0\r\nUpload-Length: {length}\r\n"), b"")
    };
    tried.push(asked(stage, "a resumable upload of 10^12 bytes", &tus("1000000000000"), &[413])?);
    tried.push(asked(stage, "a resumable upload of 2^64 bytes", &tus("18446744073709551616"), &[400, 413])?);
    Ok(tried)
}

pub fn traversal(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let ups = [
        "..",
        "%2e%2e",
        "..%2f..",
        "%2e%2e%2f%2e%2e",
        "..%2f..%2f..",
        "..%252f..",
        "..%5c..",
        "....//..",
        "%c0%ae%c0%ae",
    ];
    let mut targets = Vec::new();
    for up in ups {
        for prefix in ["/v1/images/", "/v1/tus/", "/v1/jobs/", "/", "/v1/images/a/"] {
            targets.push(format!("{prefix}{up}/canary.txt"));
            targets.push(format!("{prefix}{up}%2fcanary.txt"));
        }
    }
    targets.extend(
        ["/v1/images//etc/passwd", "/v1/images/%2fetc%2fpasswd", "/v1/images/a%00.jpeg", "/v1/images/."]
            .map(str::to_owned),
    );
    let mut tried = Vec::new();
    for target in targets {
        let reply = raw::ask(stage.address, &raw::request("GET", &target, "Tus-Resumable: 1.0.0\r\n", b""))?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let leaks = text.contains(CANARY) || text.contains("root:");
        let answer = if leaks { "it was shown".to_owned() } else { reply.status.to_string() };
        tried.push(Tried { what: target, answer, holds: !leaks && (400..500).contains(&reply.status) });
    }
    // Names that clients give are not looked at, wherever they lead.
    let file = |name: &str| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        let body = [head.as_bytes(), &stage.yard.photo, b"\r\n--b--\r\n"].concat();
        raw::request("POST", "/v1/images", "Content-Type: multipart/form-data; boundary=b\r\n", &body)
    };
    for name in ["../../canary.txt", "/etc/cron.d/a", "a\\..\\b"] {
        tried.push(asked(stage, &format!("a file called {name}"), &file(name), &[200, 202])?);
    }
    for preset in ["../../canary", "%2e%2e%2fcanary", "web%00"] {
        let request = raw::request("POST", &format!("/v1/images?preset={preset}"), "", &stage.yard.photo);
        tried.push(asked(stage, &format!("a preset called {preset}"), &request, &[400, 404, 422])?);
    }
    Ok(tried)
}

pub fn origins(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let mut tried = Vec::new();
    for origin in
        ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "file://"]
    {
        let field = format!("Origin: {origin}\r\n");
        let request = raw::request("POST", "/v1/images", &field, &stage.yard.photo);
        tried.push(asked(stage, &format!("an upload of {origin}"), &request, &[403])?);
        let reply = raw::ask(stage.address, &raw::request("GET", "/v1/presets", &field, b""))?;
        let read = reply.field("access-control-allow-origin").is_some();
        let answer = if read { "may be read" } else { "may not be read" };
        tried.push(Tried { what: format!("GET of {origin}"), answer: answer.to_owned(), holds: !read });
    }
    // A page whose name was pointed at this machine after it was loaded (DNS rebinding) is of its own origin, by its name.
    for host in ["rebound.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
        let head = format!(
            "POST /v1/images HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 3\r\n\r\n\u{7f}ab"
        );
        tried.push(asked(stage, &format!("a page that calls this machine {host}"), head.as_bytes(), &[403])?);
    }
    tried.push(asked(stage, "no page", &raw::request("POST", "/v1/images", "", &stage.yard.photo), &[200, 202])?);
    Ok(tried)
}

pub fn variants(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let original = stage.output.clone().unwrap_or_default().1;
    let path = |options: &str| format!("/v1/images/{original}/{options}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, VARIANT_KEY.as_bytes());
    let sign = |path: &str| BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, path.as_bytes()));
    let small = path("rs:fill:30:20");
    let good = sign(&small);
    let other = hmac::Key::new(hmac::HMAC_SHA256, b"another key of at least 32 characters");
    let forged = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&other, small.as_bytes()));
    let past = path("rs:fill:30:20/exp:1600000000");
    let get = |target: &str| raw::request("GET", target, "", b"");
    let refused = [400, 403, 404, 422];
    let mut tried = vec![asked(stage, "the signed one", &get(&format!("{small}/sig:{good}")), &[200])?];
    for (what, target) in [
        ("no signature", small.clone()),
        ("an empty signature", format!("{small}/sig:")),
        ("another key's", format!("{small}/sig:{forged}")),
        ("half of it", format!("{small}/sig:{}", &good[..20])),
        ("one letter too many", format!("{small}/sig:{good}a")),
        ("with padding", format!("{small}/sig:{good}=")),
        ("of other options", format!("{}/sig:{good}", path("rs:fill:3000:2000"))),
        ("with an option more", format!("{small}/q:100/sig:{good}")),
        ("options behind it", format!("{small}/sig:{good}/q:100")),
        ("of another original", format!("/v1/images/{}.original/rs:fill:30:20/sig:{good}", "0".repeat(64))),
        ("encoded otherwise", format!("{}/sig:{good}", path("rs:fill:30%3A20"))),
        ("unsafe", format!("/v1/images/unsafe/{original}/rs:fill:30:20")),
        ("the original itself", format!("/v1/images/{original}")),
    ] {
        tried.push(asked(stage, what, &get(&target), &refused)?);
    }
    tried.push(asked(stage, "one whose time is over", &get(&format!("{past}/sig:{}", sign(&past))), &[410])?);
    Ok(tried)
}

/// Services of their own whose webhooks are to go where they must not.
pub fn webhooks(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let yard = stage.yard;
    let webhook = |url: &str, more: &str| {
        format!("[image.webhooks]\nurl = {url:?}\nkeys = [\"0123456789abcdef0123456789abcdef\"]\n{more}")
    };
    let mut tried = Vec::new();
    let mut told_where = |what: &str, text: &str, watched: &Spy, may: bool| -> Result<(), String> {
        watched.take();
        let answer = match yard.image(text) {
            Err(_) => "refused at the start".to_owned(),
            Ok(server) => {
                let answer = upload(server.address, "web", &yard.photo)?;
                let document = answer.document();
                ended(server.address, document["id"].as_str().unwrap_or_default(), JOB_MAX)?;
                std::thread::sleep(TOLD_MAX);
                if watched.take().is_empty() { "not told".to_owned() } else { "told".to_owned() }
            }
        };
        tried.push(Tried { what: what.to_owned(), holds: (answer == "told") == may, answer });
        Ok(())
    };
    let secret = yard.secret.address;
    let port = secret.port();
    told_where("this machine", &webhook(&format!("http://{secret}/"), ""), &yard.secret, false)?;
    told_where("localhost", &webhook(&format!("http://localhost:{port}/"), ""), &yard.secret, false)?;
    told_where(
        "this machine in IPv6",
        &webhook(&format!("http://[::ffff:127.0.0.1]:{port}/"), ""),
        &yard.secret,
        false,
    )?;
    if let Some(name) = rebound() {
        told_where(
            "a name that means this machine when it is asked",
            &webhook(&format!("http://{name}:{port}/"), ""),
            &yard.secret,
            false,
        )?;
    }
    let allowed = webhook(&format!("http://{}/redirect", yard.spy.address), "allow_private = true\n");
    told_where("this machine where that is allowed", &allowed, &yard.spy, true)?;
    told_where("where that one redirects", &allowed, &yard.secret, false)?;
    Ok(tried)
}
