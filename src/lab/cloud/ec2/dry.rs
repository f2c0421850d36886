//! What forms name, looked up; and calls that are no more than tried out (`DryRun`).

use super::{Ec2, Refusal, invalid, missing};
use crate::model::{AllocationId, EniId, RouteTableId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

type Form = BTreeMap<String, String>;

fn get<'f>(form: &'f Form, name: &str) -> Result<&'f str, Refusal> {
    form.get(name).map(String::as_str).ok_or_else(|| missing(name))
}

impl Ec2 {
    /// Never a good answer. What a form names has to be there and to fit; in what state it is, is no question of whether somebody may.
    pub(super) fn tried(&self, form: &Form) -> Refusal {
        let named = match get(form, "Action") {
            Ok("AssignPrivateIpAddresses") => self.assignment_in(form).map(drop),
            Ok("CreateRoute" | "ReplaceRoute") => self.route_in(form).map(drop),
            Ok("AssociateAddress") => self.association_in(form).map(drop),
            Ok("AttachNetworkInterface") => self.place_in(form).map(drop),
            Ok("DetachNetworkInterface") => self.attachment_in(form).map(drop),
            Ok(look) if look.starts_with("Describe") => Ok(()),
            Ok(other) => Err((400, "InvalidAction", format!("The action {other} is not valid for this web service."))),
            Err(refusal) => Err(refusal),
        };
        named.err().unwrap_or_else(|| (412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.".into()))
    }

    /// Addresses for an interface, and whether from another.
    pub(super) fn assignment_in(&self, form: &Form) -> Result<(EniId, Vec<IpAddr>, bool), Refusal> {
        let eni = self.known(get(form, "NetworkInterfaceId")?)?;
        let subnet = self.enis[&eni].subnet;
        let within = |text: &String| {
            let address: Option<IpAddr> = text.parse().ok().filter(|address| subnet.contains(address));
            address.ok_or_else(|| invalid(format!("Address {text} does not fall within the subnet's address range")))
        };
        let addresses =
            (1..).map_while(|number| form.get(&format!("PrivateIpAddress.{number}")).map(within)).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(missing("PrivateIpAddress.1"));
        }
        Ok((eni, addresses, get(form, "AllowReassignment")? == "true"))
    }

    pub(super) fn route_in(&self, form: &Form) -> Result<(RouteTableId, IpNet, EniId), Refusal> {
        let (table, to) = (get(form, "RouteTableId")?, get(form, "DestinationCidrBlock")?);
        let to = to.parse().map_err(|_| invalid(format!("Value ({to}) for parameter destinationCidrBlock is invalid")))?;
        let known = table.parse().ok().filter(|id: &RouteTableId| self.tables.contains_key(id));
        let known = known.ok_or_else(|| (400, "InvalidRouteTableID.NotFound", format!("The routeTable ID '{table}' does not exist")))?;
        Ok((known, to, self.known(get(form, "NetworkInterfaceId")?)?))
    }

    pub(super) fn association_in(&self, form: &Form) -> Result<(AllocationId, EniId, IpAddr), Refusal> {
        let (id, address) = (get(form, "AllocationId")?, get(form, "PrivateIpAddress")?);
        let known = id.parse().ok().filter(|id: &AllocationId| self.elastics.contains_key(id));
        let known = known.ok_or_else(|| (400, "InvalidAllocationID.NotFound", format!("The allocation ID '{id}' does not exist")))?;
        let address = address.parse().map_err(|_| invalid(format!("Value ({address}) for parameter privateIpAddress is invalid")))?;
        Ok((known, self.known(get(form, "NetworkInterfaceId")?)?, address))
    }
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    use super::*;
    use crate::lab::cloud::ec2::Eni;
    use crate::wire::ec2::Call;
    use rstest::rstest;

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn tried(call: Call<'_>) -> &'static str {
        let primary: IpAddr = id("10.9.0.1");
        let eni = Eni {
            instance: "i-00000001".into(),
            mac: "02:00:00:00:00:01".into(),
            subnet: id("10.9.0.0/24"),
            primary,
            addresses: [primary].into(),
        };
        let mut ec2 = Ec2::default();
        ec2.enis.insert(id("eni-00000001"), eni);
        ec2.tables.insert(id("rtb-00000001"), BTreeMap::new());
        ec2.elastics.insert(id("eipalloc-00000001"), None);
        let form = url::form_urlencoded::parse(call.form(true).as_bytes()).into_owned().collect();
        let (_, code, _) = ec2.answer(&form).expect_err("it is dry");
        assert!(ec2.history.is_empty() && ec2.elastics[&id::<AllocationId>("eipalloc-00000001")].is_none());
        code
    }

    #[rstest]
    #[case::well("eni-00000001", "10.9.0.50", "DryRunOperation")]
    #[case::no_interface("eni-00000002", "10.9.0.50", "InvalidNetworkInterfaceID.NotFound")]
    #[case::of_another_subnet("eni-00000001", "10.9.1.50", "InvalidParameterValue")]
    fn addresses_that_are_tried_are_looked_at(#[case] eni: &str, #[case] address: &str, #[case] code: &str) {
        assert_eq!(tried(Call::AssignPrivateIpAddresses { eni: &id(eni), addresses: &[id(address)] }), code);
        assert_eq!(tried(Call::AssignPrivateIpAddresses { eni: &id("eni-00000001"), addresses: &[] }), "MissingParameter");
    }

    #[test]
    fn what_a_trial_names_has_to_be_there() {
        let (eni, to, address) = (&id("eni-00000001"), id("198.18.0.50/32"), id("10.9.0.1"));
        for (table, code) in [("rtb-00000001", "DryRunOperation"), ("rtb-00000002", "InvalidRouteTableID.NotFound")] {
            let table = &id(table);
            assert_eq!(tried(Call::CreateRoute { table, to, eni }), code);
            assert_eq!(tried(Call::ReplaceRoute { table, to, eni }), code);
        }
        for (allocation, code) in [("eipalloc-00000001", "DryRunOperation"), ("eipalloc-00000002", "InvalidAllocationID.NotFound")] {
            assert_eq!(tried(Call::AssociateAddress { allocation: &id(allocation), eni, address }), code);
        }
        for (eni, code) in [("eni-00000001", "DryRunOperation"), ("eni-00000002", "InvalidNetworkInterfaceID.NotFound")] {
            assert_eq!(tried(Call::AttachNetworkInterface { eni: &id(eni), instance: &id("i-00000001"), device: 1 }), code);
        }
        assert_eq!(tried(Call::DetachNetworkInterface { attachment: "eni-attach-1" }), "InvalidAttachmentID.NotFound");
    }
}
