//! Where a daemon's `admin` listener is to be asked from another machine.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address and a port that can be called over a network: never a name, nor what means this machine itself, a group, or a link (where clouds keep
/// the credentials of their machines).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdminAt(SocketAddr);

impl AdminAt {
    /// Of a listener at `listen` on a machine with the address `own`. None: it cannot be asked from elsewhere.
    pub fn of_listener(listen: SocketAddr, own: IpAddr) -> Option<Self> {
        let ip = if listen.ip().is_unspecified() { Some(own).filter(|own| listen.is_ipv6() || own.is_ipv4()) } else { Some(listen.ip()) };
        Self::try_from(SocketAddr::new(ip?, listen.port())).ok()
    }

    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<SocketAddr> for AdminAt {
    type Error = Invalid;
    fn try_from(at: SocketAddr) -> Result<Self, Invalid> {
        let ip = at.ip().to_canonical();
        let refused = |why: &str| Err(Invalid(format!("{at} {why}: give a node's own address and the port of its `admin`")));
        let (link, broadcast) = match ip {
            IpAddr::V4(ip) => (ip.is_link_local(), ip.is_broadcast()),
            IpAddr::V6(ip) => (ip.is_unicast_link_local(), false),
        };
        if at.port() == 0 {
            return refused("has no port");
        }
        if ip.is_unspecified() || ip.is_loopback() {
            return refused("is whoever calls it");
        }
        if ip.is_multicast() || broadcast || link {
            return refused("is no address of one node on a network");
        }
        Ok(Self(SocketAddr::new(ip, at.port())))
    }
}

impl FromStr for AdminAt {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed: Result<SocketAddr, _> = text.parse();
        parsed.map_err(|_| Invalid(format!("{text:?} is no address with a port: write one such as 10.9.0.1:9470"))).and_then(Self::try_from)
    }
}

impl TryFrom<String> for AdminAt {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<AdminAt> for String {
    fn from(at: AdminAt) -> String {
        at.to_string()
    }
}

impl fmt::Display for AdminAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_one_node_can_be_called_at_is_one() {
        for good in ["10.9.0.1:9470", "[2001:db8::1]:9470", "203.0.113.7:1"] {
            assert_eq!(good.parse::<AdminAt>().unwrap().to_string(), good);
        }
        assert_eq!("[::ffff:10.9.0.1]:9470".parse::<AdminAt>().unwrap().to_string(), "10.9.0.1:9470");
        for bad in [
            "127.0.0.1:9470",
            "[::1]:9470",
            "[::ffff:127.0.0.1]:9470",
            "0.0.0.0:9470",
            "[::]:9470",
            "10.9.0.1:0",
            "169.254.169.254:80",
            "[fe80::1]:9470",
            "[fe80::1%2]:9470",
            "224.0.0.18:9470",
            "[ff02::1]:9470",
            "255.255.255.255:9470",
            "gw-a1:9470",
            "http://10.9.0.1:9470/metrics",
            "10.9.0.1:9470/../x",
            "10.9.0.1",
            "010.9.0.1:9470",
            "10.9.0.1:9470@169.254.169.254",
            "",
        ] {
            assert!(bad.parse::<AdminAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_at_its_own_address() {
        let of = |listen: &str, own: &str| AdminAt::of_listener(listen.parse().unwrap(), own.parse().unwrap()).map(|at| at.to_string());
        assert_eq!(of("0.0.0.0:9470", "10.9.0.1").as_deref(), Some("10.9.0.1:9470"));
        assert_eq!(of("[::]:9470", "10.9.0.1").as_deref(), Some("10.9.0.1:9470"));
        assert_eq!(of("10.8.0.1:9470", "10.9.0.1").as_deref(), Some("10.8.0.1:9470"));
        for (listen, own) in [("127.0.0.1:9470", "10.9.0.1"), ("0.0.0.0:9470", "2001:db8::1"), ("[fe80::1]:9470", "2001:db8::1")] {
            assert_eq!(of(listen, own), None);
        }
    }

    proptest! {
        /// What is taken makes a URL of exactly that host and port.
        #[test]
        fn a_call_goes_there_and_nowhere_else(text in "(\\PC{0,30}|[0-9a-f.:\\[\\]]{0,30}|[0-9]{1,3}(\\.[0-9]{1,3}){3}:[0-9]{1,5})") {
            if let Ok(at) = text.parse::<AdminAt>() {
                let url = url::Url::parse(&format!("http://{at}/metrics")).unwrap();
                prop_assert_eq!((url.path(), url.query(), url.username()), ("/metrics", None, ""));
                prop_assert_eq!(url.socket_addrs(|| None).unwrap(), vec![at.address()]);
            }
        }
    }
}
