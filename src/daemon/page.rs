//! `/`: what a daemon knows of itself, for people. A few files that are part of the program; they ask `/v1/status` of the daemon that they came from, and
//! nobody else. docs/status.md says what is seen.
//!
//! | file | |
//! |---|---|
//! | `main.js` | asks every second, and shows what is answered |
//! | `views.js`, `fleet.js` | a status of each role as tiles, charts, tables, warnings |
//! | `rates.js` | counters of two answers as rates |
//! | `draw.js`, `chart.js`, `format.js` | elements, and numbers as text: all text is set as text, never as markup |

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Path, type, content.
const FILES: [(&str, &str, &str); 10] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/views.js", SCRIPT, include_str!("page/views.js")),
    ("/page/fleet.js", SCRIPT, include_str!("page/fleet.js")),
    ("/page/format.js", SCRIPT, include_str!("page/format.js")),
    ("/page/rates.js", SCRIPT, include_str!("page/rates.js")),
    ("/page/draw.js", SCRIPT, include_str!("page/draw.js")),
    ("/page/chart.js", SCRIPT, include_str!("page/chart.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere, nothing inline, no frame around it, and no form that goes anywhere: a token must not come into an address.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Another program's page has other files: they are looked at again each time.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page. It shows what `/v1/status` beside it answers to whoever looks, and opens nothing else.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| router.route(path, get(async move || answer(kind, content))))
}

fn answer(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let mut response = content.into_response();
    for (name, value) in HEADERS.into_iter().chain([(header::CONTENT_TYPE, kind)]) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever would ask another machine, or run what is not a file of ours.
    #[test]
    fn nothing_comes_from_elsewhere_and_no_text_is_taken_for_markup() {
        for (path, _, content) in FILES {
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for word in
                ["http:", "https:", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "@import", "style="]
            {
                assert!(!content.contains(word), "{path}: {word}");
            }
            assert!(content.lines().count() < 400, "{path} is longer than a person can hold in the head");
        }
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        let there: Vec<&str> = FILES.iter().map(|(path, ..)| *path).collect();
        for (path, _, content) in FILES {
            let quoted = content.split(['"', '\'']).filter(|text| text.starts_with("/page/") || text.starts_with("./"));
            for named in quoted.map(|text| text.replacen("./", "/page/", 1)) {
                assert!(there.contains(&named.as_str()), "{path} names {named}");
            }
        }
    }
}
