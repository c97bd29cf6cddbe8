//! The pages, in the binary: uploading, and the console.

use crate::serve::Reply;

/// A page needs its own script and style, pictures from here or from the user's own disk, and the API; nothing inline, and
/// nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/upload.html")),
    ("/console", "text/html; charset=utf-8", include_str!("page/console.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/common.js", "text/javascript; charset=utf-8", include_str!("page/common.js")),
    ("/upload.js", "text/javascript; charset=utf-8", include_str!("page/upload.js")),
    ("/console.js", "text/javascript; charset=utf-8", include_str!("page/console.js")),
];

/// The page at this path.
pub(super) fn page(path: &str) -> Option<Reply> {
    let (_, kind, text) = PAGES.iter().find(|(at, ..)| *at == path)?;
    Some(
        Reply::fixed(kind, text)
            .with("content-security-policy", POLICY)
            .with("cache-control", "no-cache")
            .with("referrer-policy", "no-referrer")
            .with("x-content-type-options", "nosniff"),
    )
}
