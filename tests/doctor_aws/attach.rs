//! A node of an Auto Scaling group, whose gateway attaches the tenant's interface by itself.

use super::{Bed, METADATA, PLATFORM_HAVIP, enis, id};
use portway::model::EniId;
use rstest::rstest;

const TAGS: [(&str, &str); 2] = [("portway:appliance", "prod"), ("portway:tenant", "acme")];

fn spare() -> EniId {
    id("eni-00000009")
}

/// Another of the zone is free.
fn bed() -> Bed {
    let tags: Vec<String> = TAGS.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
    let attach = format!("tenants: {{ acme: {{ attach: {{ device: 1, tags: {{ {} }} }} }} }}", tags.join(", "));
    let bed = Bed::with(&format!("metadata: \"http://{METADATA}\", {attach}"), PLATFORM_HAVIP);
    bed.cloud.spare(&spare(), "02:00:00:00:00:09", ("a", id("172.16.101.0/24")), id("172.16.101.9"), &TAGS);
    bed
}

impl Bed {
    fn ip(&self, args: &str) {
        let output = self.netns.command("ip").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The tenant's interface is one that is attached, at this index.
    fn attached(&self, device: u8) {
        let eni = &enis()[1];
        self.cloud.spare(eni, &self.mac("eni0"), ("a", id("172.16.101.0/24")), id("172.16.101.4"), &TAGS);
        self.cloud.plug_in(eni, "i-00000001", device);
    }
}

#[test]
fn an_interface_that_is_attached_is_well_and_stays() {
    let bed = bed();
    bed.attached(1);
    // It had it when it was another's.
    bed.cloud.assign(id("172.16.101.10"), &spare());
    let found = bed.doctor();
    found.are_well_with(
        "AssignPrivateIpAddresses, AttachNetworkInterface, DescribeNetworkInterfaces, DescribeSecurityGroups, DetachNetworkInterface",
    );
    found
        .find("ok", "eni-00000002 is attached as eni0 for acme; 1 more with the tags portway:appliance=prod, portway:tenant=acme are free");
    assert_eq!((bed.cloud.holder(&enis()[1]).as_deref(), bed.cloud.holder(&spare())), (Some("i-00000001"), None));
    for action in ["AttachNetworkInterface", "DetachNetworkInterface"] {
        bed.cloud.deny(action);
        let what = format!("the role portway-gateway may not call {action}");
        bed.doctor()
            .broken(&what, r#""Resource": ["arn:aws:ec2:eu-central-1:*:instance/*", "arn:aws:ec2:eu-central-1:*:network-interface/*"]"#);
        bed.cloud.permit(action);
    }
}

#[test]
fn one_that_the_gateway_is_yet_to_take_is_not_missed() {
    let bed = bed();
    bed.ip("link del eni0");
    let found = bed.doctor();
    assert_eq!(found.code, Some(0), "{:#?}", found.all);
    found.find(
        "note",
        "eni0 of acme is not attached: of 1 with the tags portway:appliance=prod, portway:tenant=acme in eu-central-1a, 1 are free",
    );
    found.find("ok", "lets this node call AssignPrivateIpAddresses, AttachNetworkInterface, Describe");
    found.says_nothing_of("can move");
    bed.cloud.deny("AttachNetworkInterface");
    bed.doctor().broken("may not call AttachNetworkInterface", "put-role-policy");
    // EC2 does not say what there is: then it is missing.
    bed.cloud.deny("DescribeNetworkInterfaces");
    bed.doctor().broken("there is no interface eni0", "describe-network-interfaces");
}

#[rstest]
#[case::all_are_others(|bed: &Bed| { bed.ip("link del eni0"); bed.cloud.plug_in(&spare(), "i-00000009", 1); }, "is free in eu-central-1a for eni0 of acme: 1 there have them", "autoscaling.spare_interfaces")]
#[case::of_another_zone(
    |bed: &Bed| { bed.ip("link del eni0"); bed.cloud.spare(&spare(), "02:00:00:00:00:09", ("b", id("172.16.101.0/24")), id("172.16.101.9"), &TAGS); },
    "no network interface with the tags portway:appliance=prod, portway:tenant=acme is free in eu-central-1a for eni0 of acme: 0 there have them", "--filters Name=availability-zone,Values=eu-central-1a 'Name=tag:portway:appliance,Values=prod' 'Name=tag:portway:tenant,Values=acme'"
)]
#[case::at_another_index(|bed: &Bed| bed.attached(2), "eni-00000002 of acme is attached here at the index 2, and `attach` has `device: 1`", "write `device: 2`")]
#[case::called_otherwise(
    |bed: &Bed| { bed.attached(1); bed.ip("link set dev eni0 down"); bed.ip("link set dev eni0 name ens9"); },
    "eni-00000002 is attached here for acme, and the kernel has no interface eni0", "ip -brief link | grep -i "
)]
#[case::without_tags(
    |_: &Bed| (), "eni0 is eni-00000002, which is none with the tags portway:appliance=prod, portway:tenant=acme in eu-central-1a",
    "aws ec2 create-tags --region eu-central-1 --resources eni-00000002 --tags 'Key=portway:appliance,Value=prod' 'Key=portway:tenant,Value=acme'"
)]
fn what_stands_in_the_way(#[case] spoil: fn(&Bed), #[case] what: &str, #[case] remedy: &str) {
    let bed = bed();
    spoil(&bed);
    bed.doctor().broken(what, remedy);
}
