//! Answers that come in pages.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html>

use super::{Ec2, invalid};
use crate::lab::cloud::{Cloud, Refusal};
use std::collections::BTreeMap;

impl Cloud {
    /// The account has very many interfaces: they are described so many at a time, after a page that is empty, and not at all to whoever asks for no pages.
    pub fn page(&self, interfaces: usize) {
        self.account().ec2.page = Some(interfaces);
    }
}

impl Ec2 {
    /// One page of these interfaces, and the token of the next.
    pub(super) fn paged(&self, form: &BTreeMap<String, String>, interfaces: &[String]) -> Result<String, Refusal> {
        let is_by_id = form.contains_key("NetworkInterfaceId.1");
        let good = |text: &String| text.parse().ok().filter(|most| (5..=1000).contains(most));
        let bad = |text: &String| invalid(format!("Value ({text}) for parameter maxResults is invalid. Expecting a value of 5 to 1000."));
        let most = form.get("MaxResults").map(|text| good(text).ok_or_else(|| bad(text))).transpose()?;
        let size: usize = match (most, self.page) {
            (Some(_), _) if is_by_id => {
                return Err((
                    400,
                    "InvalidParameterCombination",
                    "The parameter maxResults cannot be used with networkInterfaceIds".into(),
                ));
            }
            (Some(most), size) => size.unwrap_or(most).min(most),
            // How it fails AWS does not say.
            (None, Some(_)) if !is_by_id => return Err((400, "OperationNotPermitted", "Ask for pages: there are too many.".into())),
            (None, _) => usize::MAX,
        };
        let empty = self.page.filter(|_| !is_by_id).map(|_| -> &[String] { &[] });
        let pages: Vec<&[String]> = empty.into_iter().chain(interfaces.chunks(size)).collect();
        let unknown = |token: &String| invalid(format!("The token '{token}' is invalid"));
        let at = form.get("NextToken").map(|token| token.parse::<usize>().map_err(|_| unknown(token))).transpose()?.unwrap_or(0);
        let items = pages.get(at).copied().unwrap_or_default().concat();
        let next = if at + 1 < pages.len() { format!("<nextToken>{}</nextToken>", at + 1) } else { String::new() };
        Ok(format!("<networkInterfaceSet>{items}</networkInterfaceSet>{next}"))
    }
}
