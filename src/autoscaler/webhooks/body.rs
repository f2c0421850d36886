//! Taking a body, not too much of it and not for too long.

use crate::wire::webhook::Refusal;
use axum::body::Body;
use futures::StreamExt;
use std::time::Duration;

/// For the whole of it.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn take(body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    within(PATIENCE, body, limit).await
}

async fn within(patience: Duration, body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let slow = |_| Err(Refusal::Truncated(format!("the rest did not come within {} s", patience.as_secs())));
    tokio::time::timeout(patience, all(body, limit)).await.unwrap_or_else(slow)
}

async fn all(body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::Truncated("the connection ended before it".into()))?;
        if bytes.len() + chunk.len() > limit {
            return Err(Refusal::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;
    use std::io;

    fn body(chunks: &[Result<&'static str, ()>]) -> Body {
        let chunks: Vec<io::Result<Bytes>> = chunks
            .iter()
            .map(|chunk| chunk.map(|text| Bytes::from_static(text.as_bytes())).map_err(|()| io::Error::other("gone")))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_is_taken_whole_or_not_at_all() {
        let label = |result: Result<Vec<u8>, Refusal>| result.map_err(|refusal| refusal.label());
        assert_eq!(label(take(body(&[Ok("ab"), Ok("c")]), 3).await), Ok(b"abc".to_vec()));
        assert_eq!(label(take(body(&[Ok("ab"), Ok("cd")]), 3).await), Err("too_large"));
        assert_eq!(label(take(body(&[Ok("ab"), Err(())]), 3).await), Err("truncated"));
    }

    #[tokio::test]
    async fn who_sends_no_end_is_not_waited_for() {
        let endless = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        assert_eq!(within(Duration::from_millis(1), endless, 3).await.map_err(|refusal| refusal.label()), Err("truncated"));
    }
}
