//! What a runtime calls for, by its environment ("Parameters").

use super::name::Container;
use super::{Args, Code, Error, Version};
use crate::model::IfName;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Add(Member),
    Check(Member),
    Del(Container),
    Status,
    Gc,
    Version,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub container: Container,
    /// Its network namespace.
    pub netns: PathBuf,
    pub args: Args,
}

impl Call {
    /// `variable` gives the value of one that is set.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut given = Given { variable, wrong: Vec::new() };
        let call = match given.text("CNI_COMMAND").as_str() {
            "ADD" => Call::Add(given.member()?),
            "CHECK" => Call::Check(given.member()?),
            "DEL" => Call::Del(given.container()),
            "STATUS" => Call::Status,
            "GC" => Call::Gc,
            "VERSION" => Call::Version,
            _ => {
                let why = "CNI_COMMAND is none of ADD, DEL, CHECK, STATUS, GC and VERSION: a container runtime calls this, not a person (docs/cni.md)";
                return Err(Error::new(Code::InvalidEnvironment, why));
            }
        };
        if given.wrong.is_empty() {
            return Ok(call);
        }
        Err(Error::new(Code::InvalidEnvironment, format!("{}: not set, or not as the specification wants it", given.wrong.join(", "))))
    }

    /// The version that brought this call.
    pub fn since(&self) -> Version {
        match self {
            Call::Add(_) | Call::Del(_) | Call::Version => Version::V0_3_1,
            Call::Check(_) => Version::V0_4_0,
            Call::Status | Call::Gc => Version::V1_1_0,
        }
    }
}

struct Given<V> {
    variable: V,
    /// Which are missing or wrong.
    wrong: Vec<&'static str>,
}

impl<V: Fn(&str) -> Option<String>> Given<V> {
    fn text(&self, name: &str) -> String {
        (self.variable)(name).unwrap_or_default()
    }

    fn checked(&mut self, name: &'static str, good: impl Fn(&str) -> bool) -> String {
        let text = self.text(name);
        if !good(&text) {
            self.wrong.push(name);
        }
        text
    }

    fn container(&mut self) -> Container {
        let id = self.checked("CNI_CONTAINERID", is_name);
        Container { id, ifname: self.checked("CNI_IFNAME", |text| text.parse::<IfName>().is_ok()) }
    }

    fn member(&mut self) -> Result<Member, Error> {
        let netns = |text: &str| !text.is_empty();
        Ok(Member { container: self.container(), netns: self.checked("CNI_NETNS", netns).into(), args: self.text("CNI_ARGS").parse()? })
    }
}

/// Of a container or a network: a letter or digit, then more of them, `_`, `.` or `-`.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}
