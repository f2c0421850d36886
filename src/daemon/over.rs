//! Connections that belong to nobody any more.

use crate::kernel::Kernel;
use crate::model::{Mark, SLOT_MASK, Slot, WHO_MASK, Who};
use anyhow::Context;

/// Whose connections are still to be ended, as marks and masks.
#[derive(Debug, Default)]
pub struct Over(Vec<(Mark, u32)>);

impl Over {
    pub fn slots(&mut self, freed: impl IntoIterator<Item = Slot>) {
        self.0.extend(freed.into_iter().map(|slot| (Mark::new(None, Some(slot)), SLOT_MASK)));
    }

    pub fn who(&mut self, who: Who) {
        self.0.push((Mark::new(Some(who), None), WHO_MASK));
    }

    pub fn add(&mut self, more: &Over) {
        self.0.extend(more.0.iter().filter(|one| !self.0.contains(one)).copied().collect::<Vec<_>>());
    }

    /// Ends the connections of all; what cannot be ended now stays on the list.
    pub async fn end(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        while let Some((mark, mask)) = self.0.last() {
            kernel.delete_conntrack_by_mark(*mark, *mask).await.context("cannot end the connections of what is over")?;
            self.0.pop();
        }
        Ok(())
    }
}
