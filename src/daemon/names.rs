//! By which names a listener that asks for no token is called. Whoever reaches it may read it; but what reaches it is also any page that an operator's
//! browser shows, if somebody else's DNS says that the page's own name means this machine (DNS rebinding). Such a page asks for that name, in `Host`, and is
//! refused.

use super::http::Known;
use crate::metrics::Page;
use crate::model::HostName;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Domains that nobody can have in the public DNS (RFC 6761 section 6.3; ICANN resolution 2024.07.29.06).
const OF_NOBODY: [&str; 2] = [".localhost", ".internal"];

/// Addresses, names of one label and names below [`OF_NOBODY`] are good: none of them is answered for by a stranger's DNS. Others have to be configured.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    configured: BTreeSet<HostName>,
    refused: AtomicU64,
}

impl Names {
    pub fn new(configured: BTreeSet<HostName>) -> Self {
        Self(Arc::new(Inner { configured, refused: AtomicU64::new(0) }))
    }

    /// Answers for these names only.
    pub fn guard(&self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self.clone(), admit))
    }

    pub fn metrics(&self, out: &mut Page) {
        let help = "Calls at the admin address that were for a name of somebody else";
        out.counter("portway_admin_refused", help, &[], self.0.refused.load(Relaxed));
    }

    /// `host`: as in a request, with or without a port.
    fn answer_to(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        let nobodys = || !name.contains('.') || OF_NOBODY.iter().any(|domain| name.ends_with(domain));
        let configured = || name.parse().is_ok_and(|name| self.0.configured.contains(&name));
        address.parse::<IpAddr>().is_ok() || !name.is_empty() && nobodys() || configured()
    }

    /// Browsers say whom they ask; who says nothing is none.
    fn are_meant(&self, headers: &HeaderMap, target: Option<&Authority>) -> bool {
        let hosts = headers.get_all(header::HOST).iter().all(|host| host.to_str().is_ok_and(|host| self.answer_to(host)));
        hosts && target.is_none_or(|target| self.answer_to(target.as_str()))
    }
}

async fn admit(State(names): State<Names>, request: Request, next: Next) -> Response {
    if names.are_meant(request.headers(), request.uri().authority()) {
        // Whoever asks again and again is not cut off in between.
        if let Some(known) = request.extensions().get::<Known>() {
            known.trust();
        }
        return next.run(request).await;
    }
    names.0.refused.fetch_add(1, Relaxed);
    let why = "this is asked for by a name that is not known here: ask for the address, or write the name in `admin_names`\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn names() -> Names {
        Names::new(["GW-1.example.com".parse().unwrap()].into())
    }

    #[test]
    fn nobodys_dns_answers_for_an_address_or_a_name_of_ours() {
        for good in [
            "127.0.0.1:9470",
            "10.9.0.1",
            "[::1]:9470",
            "[fd00::1]",
            "localhost:9470",
            "LOCALHOST.",
            "gw-1",
            "portway",
            "page.localhost",
            "ip-10-9-0-1.eu-west-1.compute.internal:9470",
            "gw-1.example.com:9470",
            "Gw-1.Example.Com.",
        ] {
            assert!(names().answer_to(good), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:9470",
            "127.0.0.1.nip.example",
            "gw-2.example.com",
            "a.gw-1.example.com",
            "localhost.evil.example",
            "internal.evil.example",
            "evilinternal.example",
            "",
            ".",
            "..",
            ":9470",
            "[::1",
            "user name",
            "127.0.0.1@evil.example",
        ] {
            assert!(!names().answer_to(bad), "{bad}");
        }
    }

    #[test]
    fn whoever_names_two_means_neither_unless_both_are_good() {
        let asked = |hosts: &[&str], target: Option<&str>| {
            let headers = hosts.iter().map(|host| (header::HOST, HeaderValue::from_str(host).unwrap())).collect();
            names().are_meant(&headers, target.map(|target| target.parse().unwrap()).as_ref())
        };
        assert!(asked(&[], None), "HTTP/1.0 without a name");
        assert!(asked(&["127.0.0.1:9470"], Some("localhost")));
        assert!(!asked(&["127.0.0.1:9470", "evil.example"], None) && !asked(&["127.0.0.1"], Some("evil.example")));
    }
}
