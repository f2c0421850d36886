//! Single values: addresses, networks, numbers, names, ports.

use super::decode::{At, Decoder, nearest};
use super::fault::Span;
use super::node::{Kind, Node};
use super::space::UNUSABLE;
use crate::model::{IfName, Invalid, PortRange};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const PORTS_EXAMPLE: &str = "[5432, \"8000-8099\"]";
impl Decoder {
    /// A name or another type of `model` that knows what is wrong with a text.
    pub fn parsed<T: FromStr<Err = Invalid>>(&mut self, node: &Node, what: &str, example: &str) -> Option<At<T>> {
        let text = self.text(node, what, example)?;
        self.valid(text, node.span, example)
    }

    /// The same of a text, such as a key.
    pub fn valid<T: FromStr<Err = Invalid>>(&mut self, text: &str, span: Span, example: &str) -> Option<At<T>> {
        match text.parse() {
            Ok(value) => Some(At { value, span }),
            Err(Invalid(message)) => {
                // The types of `model` say "what: remedy".
                let (problem, remedy) = message.rsplit_once(": ").unwrap_or((&message, example));
                self.fault(span, problem, remedy);
                None
            }
        }
    }

    /// An interface that the machine has, not one of ours.
    pub fn interface(&mut self, node: &Node) -> Option<At<IfName>> {
        let name: At<IfName> = self.parsed(node, "`interface`", "interface: eth0")?;
        if name.value.is_ours() {
            let what = format!("{} is a name that Portway gives its own interfaces", name.value);
            self.fault(node.span, what, format!("name an interface of the machine; none that begins with `{}`", IfName::OURS));
            return None;
        }
        Some(name)
    }

    pub fn number(&mut self, node: &Node, what: &str, range: std::ops::RangeInclusive<u64>, unit: &str) -> Option<At<u64>> {
        let (low, high) = (range.start(), range.end());
        let text = self.text(node, what, &format!("{low}"))?;
        // 010 is eight to some YAML readers and ten to others.
        let digits = text.chars().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        match text.parse::<u64>().ok().filter(|_| digits) {
            Some(value) if range.contains(&value) => Some(At { value, span: node.span }),
            Some(value) => {
                self.fault(node.span, format!("{what} {value} is out of range"), format!("write {low} to {high}{unit}"));
                None
            }
            None => {
                self.fault(node.span, format!("{what} {text:?} is not a number"), format!("write {low} to {high}{unit}, in decimal"));
                None
            }
        }
    }

    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match self.text(node, what, &format!("{what}: true"))? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            other => {
                let remedy = match other.to_lowercase().as_str() {
                    "yes" | "on" | "y" => "write true",
                    "no" | "off" | "n" => "write false",
                    _ => "write true or false",
                };
                self.fault(node.span, format!("`{what}` must be true or false, not {other:?}"), remedy);
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what, words[0].0)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let remedy = match nearest(text, names.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write {}", names.join(" or ")),
        };
        self.fault(node.span, format!("`{what}` cannot be {text:?}"), remedy);
        None
    }

    /// An address that one machine can have.
    pub fn address(&mut self, node: &Node, what: &str) -> Option<At<IpAddr>> {
        let text = self.text(node, what, "10.9.0.1")?;
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                if let Some((_, kind)) = UNUSABLE.iter().find(|(net, _)| net.contains(&IpAddr::V4(address))) {
                    self.fault(node.span, format!("{what} {address} is {kind}"), "write an address that an interface of one machine has");
                    return None;
                }
                Some(At { value: IpAddr::V4(address), span: node.span })
            }
            Ok(IpAddr::V6(address)) => {
                self.fault(node.span, format!("{what} {address} is IPv6, which is not supported yet"), "write an IPv4 address");
                None
            }
            Err(_) => {
                let remedy = match text.parse::<IpNet>() {
                    Ok(net) => format!("write one address without the prefix length: {}", net.addr()),
                    Err(_) => "write an IPv4 address such as 10.9.0.1".into(),
                };
                self.fault(node.span, format!("{what} {text:?} is not an address"), remedy);
                None
            }
        }
    }

    /// A network with its prefix length; with `bare`, an address alone stands for itself (/32).
    pub fn network(&mut self, node: &Node, what: &str, bare: bool) -> Option<At<IpNet>> {
        let text = self.text(node, what, "172.16.0.0/16")?;
        let single = text.parse::<IpAddr>().ok();
        let net = match (text.parse::<IpNet>(), single) {
            (Ok(net), _) => net,
            (Err(_), Some(address)) if bare => IpNet::from(address),
            (Err(_), Some(address)) => {
                let remedy = format!("write {} for this address alone", IpNet::from(address));
                self.fault(node.span, format!("{what} {text:?} has no prefix length"), remedy);
                return None;
            }
            (Err(_), None) => {
                let remedy = match text.split_once('/') {
                    Some((address, _)) if address.parse::<Ipv4Addr>().is_ok() => "a prefix length is 0 to 32",
                    _ => "write a network such as 172.16.0.0/16",
                };
                self.fault(node.span, format!("{what} {text:?} is not a network"), remedy);
                return None;
            }
        };
        if net.addr().is_ipv6() {
            let remedy = "write an IPv4 network";
            self.fault(node.span, format!("{what} {net} is IPv6, which is not supported yet"), remedy);
            return None;
        }
        if net != net.trunc() {
            let what = format!("{what} {net} is not a network: it has bits behind its prefix");
            let host = IpNet::from(net.addr());
            self.fault(node.span, what, format!("write {}, or {host} for the address alone", net.trunc()));
            return None;
        }
        Some(At { value: net, span: node.span })
    }

    /// `all`, one port, one range, or a list of them. Ranges come out sorted and disjoint.
    pub fn ports(&mut self, node: &Node, what: &str) -> Option<Vec<PortRange>> {
        let one = |d: &mut Self, node: &Node| d.parsed::<PortRange>(node, what, PORTS_EXAMPLE);
        let ports = match &node.kind {
            Kind::Scalar { text, .. } if text == "all" => return Some(vec![PortRange { first: 1, last: u16::MAX }]),
            Kind::List(items) => {
                let good: Vec<PortRange> = items.iter().filter_map(|item| one(self, item).map(|at| at.value)).collect();
                if good.len() < items.len() {
                    return None;
                }
                good
            }
            Kind::Map(_) => {
                self.fault(
                    node.span,
                    format!("`{what}` must be a list of ports, not a map"),
                    format!("write `{what}: {PORTS_EXAMPLE}` or `{what}: all`"),
                );
                return None;
            }
            Kind::Scalar { .. } => vec![one(self, node)?.value],
        };
        Some(merged(ports))
    }

    pub fn path(&mut self, node: &Node, what: &str) -> Option<PathBuf> {
        // sockaddr_un has 108 bytes, and a file name is still to follow.
        const LONGEST: usize = 80;
        let At { value: path, span } = self.absolute(node, what, "/run/portway")?;
        let len = path.as_os_str().len();
        if len > LONGEST {
            let what = format!("`{what}` is {len} bytes long, too long for the name of a socket in it");
            self.fault(span, what, format!("write a path of at most {LONGEST} bytes"));
            return None;
        }
        Some(path)
    }

    /// A path from the root.
    pub fn absolute(&mut self, node: &Node, what: &str, example: &str) -> Option<At<PathBuf>> {
        let text = self.text(node, what, example)?;
        let path = PathBuf::from(text);
        if !path.is_absolute() || text.contains('\0') {
            let remedy = format!("write a path from the root, such as {example}");
            self.fault(node.span, format!("`{what}` {text:?} is not an absolute path"), remedy);
            return None;
        }
        Some(At { value: path, span: node.span })
    }

    /// A number and its unit: ms, s, m or h.
    pub fn duration(&mut self, node: &Node, what: &str, example: &str) -> Option<At<Duration>> {
        let text = self.text(node, what, example)?;
        let Some(value) = duration(text) else {
            let remedy = format!("write a number and its unit (ms, s, m or h), such as {example}");
            self.fault(node.span, format!("`{what}` {text:?} is not a time"), remedy);
            return None;
        };
        Some(At { value, span: node.span })
    }

    /// The same, from one to another, both included.
    pub fn time_in(&mut self, node: &Node, what: &str, example: &str, (least, most): (Duration, Duration)) -> Option<Duration> {
        let time = self.duration(node, what, example)?.value;
        if !(least..=most).contains(&time) {
            self.fault(node.span, format!("`{what}` {time:?} is out of range"), format!("write {least:?} to {most:?}"));
            return None;
        }
        Some(time)
    }

    /// A number of bytes and its unit, KiB, MiB, GiB or TiB; from one to another, both included.
    pub fn size(&mut self, node: &Node, what: &str, example: &str, (least, most): (u64, u64)) -> Option<u64> {
        let text = self.text(node, what, example)?;
        let Some(bytes) = size(text) else {
            let remedy = format!("write a whole number and its unit (KiB, MiB, GiB or TiB), such as {example}");
            self.fault(node.span, format!("`{what}` {text:?} is not a size"), remedy);
            return None;
        };
        if !(least..=most).contains(&bytes) {
            self.fault(node.span, format!("`{what}` {text} is out of range"), format!("write {} to {}", in_words(least), in_words(most)));
            return None;
        }
        Some(bytes)
    }

    pub fn socket(&mut self, node: &Node, what: &str) -> Option<SocketAddr> {
        let text = self.text(node, what, "127.0.0.1:9470")?;
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() != 0 => Some(socket),
            Ok(_) => {
                self.fault(node.span, format!("`{what}` has port 0"), "write a port from 1 to 65535, such as 127.0.0.1:9470");
                None
            }
            Err(_) => {
                let what = format!("`{what}` {text:?} is not an address and port");
                self.fault(node.span, what, "write both, such as 127.0.0.1:9470 or [::1]:9470");
                None
            }
        }
    }
}

/// Binary prefixes (IEC 80000-13), the largest first.
const SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

fn in_words(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A number with its unit: `100ms`, `1.5s`, `2m`, `1h`. Exact, unlike a floating-point number: 40.95s is a multiple of 10ms.
pub fn duration(text: &str) -> Option<Duration> {
    // With hours, as many digits as the multiplication leaves room for.
    const FRACTION_DIGITS: usize = 6;
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let nanoseconds: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let scale = fraction.bytes().fold(1, |scale: u64, _| scale * 10);
    let fraction = fraction.parse::<u64>().ok()? * nanoseconds / scale;
    let whole = whole.parse::<u64>().ok()?.checked_mul(nanoseconds)?;
    whole.checked_add(fraction).map(Duration::from_nanos)
}

fn merged(mut ports: Vec<PortRange>) -> Vec<PortRange> {
    ports.sort();
    let mut out: Vec<PortRange> = Vec::with_capacity(ports.len());
    for range in ports {
        match out.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => last.last = last.last.max(range.last),
            _ => out.push(range),
        }
    }
    out
}
