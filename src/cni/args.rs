//! `CNI_ARGS`: what a runtime says of one container alone.

use super::{Code, Error};
use crate::model::{PoolName, TenantName};
use std::fmt::Display;
use std::str::FromStr;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// `PORTWAY_TENANT`
    pub tenant: Option<TenantName>,
    /// `PORTWAY_EGRESS`
    pub egress: Option<PoolName>,
}

/// `KEY=VALUE;KEY=VALUE`. Keys that are not ours are refused unless `IgnoreUnknown` is `1` or `true`, as the reference library has it
/// (`LoadArgs` in containernetworking/cni, pkg/types/args.go).
impl FromStr for Args {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (mut args, mut others_pass, mut others) = (Self::default(), false, Vec::new());
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong(format!("{pair:?} is not KEY=VALUE")))?;
            match key {
                "PORTWAY_TENANT" => set(&mut args.tenant, key, value)?,
                "PORTWAY_EGRESS" => set(&mut args.egress, key, value)?,
                "IgnoreUnknown" => others_pass = truth(value)?,
                _ => others.push(key),
            }
        }
        if !others_pass && !others.is_empty() {
            let others = others.join(", ");
            return Err(wrong(format!(
                "{others}: not known here, where PORTWAY_TENANT and PORTWAY_EGRESS are; IgnoreUnknown=1 lets others pass"
            )));
        }
        Ok(args)
    }
}

fn wrong(why: impl Display) -> Error {
    Error::new(Code::InvalidEnvironment, format!("CNI_ARGS: {why}"))
}

fn set<T: FromStr<Err: Display>>(slot: &mut Option<T>, key: &str, value: &str) -> Result<(), Error> {
    match slot.replace(value.parse().map_err(|error| wrong(format!("{key}: {error}")))?) {
        None => Ok(()),
        Some(_) => Err(wrong(format!("{key} is there twice: leave one of them"))),
    }
}

fn truth(value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(wrong(format!("IgnoreUnknown={value}: write 1 or 0"))),
    }
}
