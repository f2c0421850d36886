//! Parts without which the others would go on as if nothing had happened.

use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio_util::sync::CancellationToken;

/// Knows whether one has broken. A number of nodes that nobody thinks about any more looks like any other.
#[derive(Debug, Clone, Default)]
pub struct Parts(CancellationToken);

impl Parts {
    /// Runs a part to its end. What a panic has to say is in the log by then.
    pub async fn run(self, part: impl Future<Output = ()>) {
        if AssertUnwindSafe(part).catch_unwind().await.is_err() {
            self.0.cancel();
        }
    }

    pub async fn broken(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_whole_and_one_that_panics_is_broken() {
        let parts = Parts::default();
        parts.clone().run(async {}).await;
        assert_eq!(parts.broken().now_or_never(), None);
        parts.clone().run(async { panic!("of this test") }).await;
        assert_eq!(parts.broken().now_or_never(), Some(()));
    }
}
