//! From what a caller names to the interface that its packets come out of.

use super::api::Failed;
use super::attachments::{Found, Refusal, Spec};
use crate::kernel::Kernel;
use crate::model::IfName;
use crate::plan::facts::LinkFacts;
use std::os::fd::AsFd;
use std::path::Path;

/// Finds the interface of a [`Spec`], by name (one look-up) or by the namespace behind it.
pub async fn resolve(kernel: &Kernel, spec: &Spec) -> Result<Found, Failed> {
    match (&spec.interface, &spec.netns) {
        (Some(name), None) => {
            let link = kernel.link(name).map_err(|error| Failed::Kernel(error.to_string()))?;
            let link = link.ok_or_else(|| {
                Refusal::NoInterface(format!("there is no interface {name} here: name the host's end of the container's link"))
            })?;
            found(kernel, name.clone(), &link).await
        }
        (None, Some(path)) => {
            let (name, link) = behind(kernel, path).await?;
            found(kernel, name, &link).await
        }
        _ => Err(Refusal::Invalid("give either `interface` or `netns`, and not both".into()).into()),
    }
}

async fn found(kernel: &Kernel, interface: IfName, link: &LinkFacts) -> Result<Found, Failed> {
    if interface.is_ours() {
        return Err(Refusal::Invalid(format!("{interface} is a tunnel of Portway's own: name the container's interface")).into());
    }
    if link.kind.as_deref() == Some("bridge") {
        let remedy = format!(
            "{interface} is a bridge, and all its ports' packets seem to come from it: attach the container's port (`bridge link` lists them) or give `netns`"
        );
        return Err(Refusal::Invalid(remedy).into());
    }
    let port = match link.master {
        Some(master) => kernel
            .link_at(master)
            .map_err(|error| Failed::Kernel(error.to_string()))?
            .is_some_and(|master| master.kind.as_deref() == Some("bridge")),
        None => false,
    };
    Ok(Found { interface, index: link.index, port })
}

/// The interface here whose other end is in the namespace at `path`.
async fn behind(kernel: &Kernel, path: &Path) -> Result<(IfName, LinkFacts), Failed> {
    let shown = path.display();
    let namespace =
        std::fs::File::open(path).map_err(|error| Refusal::NoInterface(format!("cannot open the network namespace {shown}: {error}")))?;
    let number = kernel.namespace_number(namespace.as_fd()).map_err(|error| Failed::Kernel(error.to_string()))?;
    let none = || {
        Refusal::NoInterface(format!(
            "no interface here has its other end in {shown}: is the container's link a veth pair into this namespace?"
        ))
    };
    let number = number.ok_or_else(none)?;
    let facts = kernel.facts().await.map_err(|error| Failed::Kernel(error.to_string()))?;
    let mut ends = facts.links.into_iter().filter(|(_, link)| link.peer_namespace == Some(number));
    let end = ends.next().ok_or_else(none)?;
    match ends.next() {
        None => Ok(end),
        Some((other, _)) => {
            Err(Refusal::Invalid(format!("both {} and {other} lead into {shown}: name the one to attach with `interface`", end.0)).into())
        }
    }
}
