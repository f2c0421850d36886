//! Headers that count once.

use super::Refusal;
use http::{HeaderMap, HeaderName};

/// The one value of a header. Of two, whoever stands between might have checked the other.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: HeaderName, form: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::DuplicateHeader(name));
    }
    value.to_str().map(Some).map_err(|_| Refusal::BadHeader { header: name, form })
}
