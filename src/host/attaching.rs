//! Attachments in the kernel, made and ended without a pass where one can be done without.

use super::{Node, api, resolve};
use crate::host::attachments::{Attach, Attachment, Refusal, Spec};
use crate::kernel::Kernel;
use crate::model::AttachmentName;
use crate::plan::host::Attached;
use crate::plan::{Step, flow_devices_fit};
use anyhow::Context;

impl Node {
    /// Binds a container to its tenant: one element, and the packets that carry it. `true` when it was made, `false`
    /// when it stood.
    pub async fn attach(&mut self, kernel: &Kernel, name: AttachmentName, spec: Spec) -> Result<(bool, Attachment), api::Failed> {
        let found = resolve::resolve(kernel, &spec).await?;
        self.forget_gone(kernel, &name).await?;
        let attachment = match self.attachments.decide(&self.config, &name, &spec, &found)? {
            Attach::Stands(attachment) => return Ok((false, attachment)),
            Attach::New(attachment) => attachment,
        };
        let attached = &attachment.attached;
        let mark = attached.mark(&self.slots).ok_or_else(|| Refusal::UnknownShard(attached.to.clone()))?;
        let (set, element) = attached.element();
        let whole = attached.port || self.lacks_throw(kernel, attached)?;
        self.store.save(attachment.name.as_str(), &attachment).context("cannot store the attachment: is `runtime_dir` writable?")?;
        self.attachments.insert(attachment.clone());
        self.origins.add(attached.who, &attachment.name);
        self.revision += 1;
        let made = if whole {
            // A bridge's port needs a hook of its own, which is a matter of the whole table; a container whose address lies
            // in the tenant's network, routes.
            self.settle(kernel).await
        } else {
            let setting = attached.sysctl().map(|(sysctl, value)| Step::SetSysctl(sysctl, value));
            let fits = self.flow_tables && flow_devices_fit(self.slots.count() + self.attachments.len());
            let short_way = (fits && self.takes_short_way(attached)).then(|| Step::AddFlowDevice(attached.interface.clone()));
            let steps: Vec<Step> = setting.into_iter().chain([Step::SetElement(set, element, Some(mark))]).collect();
            let made = kernel.apply(&steps).await.pop().map_or(Ok(()), |failure| Err(failure.into()));
            if made.is_ok() {
                // It does without until the next pass.
                kernel.apply(short_way.as_slice()).await.iter().for_each(|failure| tracing::warn!("{failure}"));
            }
            made
        };
        if let Err(error) = made {
            if let Some(gone) = self.forget(&name)
                && let Err(error) = self.undo(kernel, &gone.attached).await
            {
                tracing::error!("what was done of the attachment {name} is left to the next pass: {error:#}");
            }
            return Err(error.context("the kernel refused the attachment").into());
        }
        self.tell();
        Ok((true, attachment))
    }

    /// Ends an attachment: from now on its packets are nobody's, and its connections are gone.
    pub async fn detach(&mut self, kernel: &Kernel, name: &AttachmentName) -> Result<(), api::Failed> {
        let Some(gone) = self.forget(name) else { return Err(Refusal::Unknown(name.clone()).into()) };
        self.tell();
        Ok(self.undo(kernel, &gone.attached).await.context("the attachment is not altogether undone, the next pass goes on with it")?)
    }

    /// Ends an attachment whose interface has gone, if no pass has noticed that yet: its name may be asked for again.
    async fn forget_gone(&mut self, kernel: &Kernel, name: &AttachmentName) -> anyhow::Result<()> {
        let Some(attached) = self.attachments.get(name).map(|attachment| attachment.attached.clone()) else { return Ok(()) };
        if stands(kernel, &attached)? {
            return Ok(());
        }
        tracing::info!("attachment {name} is over: interface {} has gone", attached.interface);
        self.forget(name);
        self.tell();
        if let Err(error) = self.undo(kernel, &attached).await {
            tracing::error!("what the attachment {name} had is left to the next pass: {error:#}");
        }
        Ok(())
    }

    /// Takes out of the kernel what an attachment had there. What fails does not keep the rest, and is left to the next pass.
    async fn undo(&mut self, kernel: &Kernel, attached: &Attached) -> anyhow::Result<()> {
        self.over.who(attached.who);
        let mut failures: Vec<anyhow::Error> = Vec::new();
        if attached.port {
            failures.extend(self.settle(kernel).await.err());
        } else {
            let (set, element) = attached.element();
            // What goes by the name of an interface that has gone may be its successor's.
            let stands = stands(kernel, attached).unwrap_or_else(|error| {
                failures.push(error);
                false
            });
            let short_way =
                (stands && self.flow_tables && self.takes_short_way(attached)).then(|| Step::RemoveFlowDevice(attached.interface.clone()));
            let setting = attached.sysctl().filter(|_| stands && !self.attachments.uses(attached.index));
            let steps: Vec<Step> = short_way
                .into_iter()
                .chain([Step::RemoveElement(set, element)])
                .chain(setting.map(|(sysctl, _)| Step::RestoreSysctl(sysctl)))
                .collect();
            failures.extend(kernel.apply(&steps).await.into_iter().map(anyhow::Error::from));
        }
        failures.extend(self.over.end(kernel).await.err());
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn takes_short_way(&self, attached: &Attached) -> bool {
        attached.takes_short_way(self.carrier, self.config.platform.tunnel)
    }

    pub(super) fn forget(&mut self, name: &AttachmentName) -> Option<Attachment> {
        if let Err(error) = self.store.remove(name.as_str()) {
            tracing::error!("cannot remove the stored attachment {name}: {error}");
        }
        self.revision += 1;
        self.attachments.remove(name)
    }
}

/// Whether an attachment's interface is there.
fn stands(kernel: &Kernel, attached: &Attached) -> anyhow::Result<bool> {
    let named = kernel.link(&attached.interface).context("cannot tell whether the interface of an attachment has gone")?;
    Ok(attached.is_of(named.as_ref()))
}
