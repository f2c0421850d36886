//! How many attachments lead to each shard, told to the directory, which shows it to operators and decides nothing by it.

use super::Shared;
use crate::directory::types::HostReport;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Attachments that come and go together are told of together, and so are those of so long after.
const GATHER: Duration = Duration::from_millis(200);
const APART: Duration = Duration::from_secs(5);
/// What has not changed is told again after this long, or when the directory is back: a new process of it knows nothing. It forgets a host that is silent for
/// much longer.
const EVERY: Duration = Duration::from_secs(120);

impl Shared {
    /// To the end.
    pub(super) async fn report(self: Arc<Self>) {
        let mut attachments = self.attachments.subscribe();
        while attachments.wait_for(Option::is_some).await.is_ok() {
            sleep(GATHER).await;
            let told = attachments.borrow_and_update().clone().unwrap_or_default();
            // Whether it is back is found out by who follows it.
            if !self.session.is_away() {
                let report = &HostReport { version: env!("CARGO_PKG_VERSION").into(), attachments: told };
                // It is told anew soon, whatever this comes to.
                if let Err(error) = self.session.ask(|client| async move { client.report_host(report).await }).await {
                    tracing::debug!("the directory does not hear of attachments: {error}");
                }
            }
            sleep(APART).await;
            tokio::select! {
                () = sleep(EVERY - APART) => {}
                () = self.back.notified() => {}
                changed = attachments.changed() => if changed.is_err() { return },
            }
        }
    }
}
