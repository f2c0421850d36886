//! What another server answers, of which nobody knows how long it is.

use reqwest::{Error, Response};

/// The whole body. None: it has more bytes than `most`.
pub async fn whole(mut answer: Response, most: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}
