//! Interfaces that are described page by page.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html>

use super::{Call, Interface, Interfaces, Items, Unreadable, read};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// Interfaces of a page at most: 5 to 1,000. Without it, EC2 refuses to answer whoever has very many.
pub(super) const PAGE: &str = "1000";
/// A region has 5,000 interfaces unless the quota was raised, and pages may be empty.
const MOST: usize = 200;

/// What has been read.
#[derive(Debug, Default)]
pub struct Pages {
    pub all: Vec<Interface>,
    read: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    network_interface_set: Items<Interface>,
    #[serde(default)]
    next_token: String,
}

impl Pages {
    /// The form that asks for the first.
    pub fn first(of: Interfaces<'_>) -> String {
        Call::DescribeNetworkInterfaces { of }.form(false)
    }

    /// Takes an answer: the form that asks for the next page, if there is one.
    pub fn take(&mut self, of: Interfaces<'_>, xml: &str) -> Result<Option<String>, Unreadable> {
        let page: Page = read(xml)?;
        self.all.extend(page.network_interface_set.item);
        self.read += 1;
        match page.next_token.as_str() {
            "" => Ok(None),
            _ if self.read >= MOST => Err(Unreadable(format!("there are more than {MOST} pages"))),
            token => Ok(Some(Serializer::new(Self::first(of)).append_pair("NextToken", token).finish())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn page(item: &str, token: &str) -> String {
        format!("<R><networkInterfaceSet>{item}</networkInterfaceSet>{token}</R>")
    }

    /// Filters are EC2's business after the page is made: one may be empty, and not the last.
    #[test]
    fn pages_are_read_to_the_last() {
        let tags = BTreeMap::from([("portway:tenant".to_owned(), "acme".to_owned())]);
        let of = Interfaces::Tagged { zone: "eu-central-1a", tags: &tags };
        let (mut pages, first) = (Pages::default(), Pages::first(of));
        let next = pages.take(of, &page("", "<nextToken>a+b==</nextToken>")).unwrap();
        assert_eq!(next, Some(format!("{first}&NextToken=a%2Bb%3D%3D")));
        let item = "<item><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId></item>";
        assert_eq!(pages.take(of, &page(item, "<nextToken>c</nextToken>")), Ok(Some(format!("{first}&NextToken=c"))));
        assert_eq!(pages.take(of, &page(&item.replace("eni-0a", "eni-0e"), "<nextToken/>")), Ok(None));
        assert_eq!(pages.all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["eni-0a1b2c3d", "eni-0e1b2c3d"]);
    }

    #[test]
    fn whoever_has_no_end_is_no_cloud() {
        let mut pages = Pages::default();
        let read: Vec<_> = (0..MOST).map(|_| pages.take(Interfaces::Having(&[]), &page("", "<nextToken>a</nextToken>"))).collect();
        assert!(read[MOST - 2].is_ok() && read[MOST - 1].is_err());
        assert!(pages.take(Interfaces::Having(&[]), "<html/>").is_err());
    }
}
