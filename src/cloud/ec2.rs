//! What it takes more than one call of EC2 to know.

use crate::wire::ec2::{Interface, Interfaces, Pages, Unreadable};

/// All of these, page by page. `say` has EC2 answer a form; `odd` says that the answer is none.
pub async fn interfaces<S, E>(of: Interfaces<'_>, say: impl Fn(String) -> S, odd: impl Fn(Unreadable) -> E) -> Result<Vec<Interface>, E>
where
    S: Future<Output = Result<String, E>>,
{
    let (mut pages, mut next) = (Pages::default(), Some(Pages::first(of)));
    while let Some(form) = next {
        next = pages.take(of, &say(form).await?).map_err(&odd)?;
    }
    Ok(pages.all)
}
