//! What the machine wants said, in EC2's words, and what EC2 says to it.

use crate::cloud::aws::{Caller, Refusal};
use crate::cloud::ec2::interfaces;
use crate::config;
use crate::gateway::ha::cloud::identity::Place;
use crate::model::{Failure, Why};
use crate::proto::attach::{Answer, Call, Eni, Stand};
use crate::wire::{arp, ec2};
use std::time::SystemTime;

/// Another took it between a look and the call, or it was deleted.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
const TAKEN: [&str; 2] = ["InvalidNetworkInterface.InUse", "InvalidNetworkInterfaceID.NotFound"];
/// It is detached already.
const DETACHED: &str = "InvalidAttachmentID.NotFound";
/// Of an InvalidParameterValue, which has no code of its own.
const OCCUPIED: &str = "already has an interface attached at device index";

/// Who calls, and about what.
pub struct At {
    pub place: Place,
    pub caller: Caller,
    pub attach: config::Attach,
}

impl At {
    pub async fn carry_out(&self, call: &Call) -> Result<Answer, Failure> {
        let Self { place, attach, .. } = self;
        match call {
            Call::Look => {
                // Not `status=available` alone: which are this node's is the same question.
                let of = ec2::Interfaces::Tagged { zone: &place.zone, tags: &attach.tags };
                let odd = |text: String| Refusal { code: String::new(), failure: Failure { why: Why::Unavailable, text, after: None } };
                let say = |form| self.caller.call(SystemTime::now(), "DescribeNetworkInterfaces", form);
                let all = interfaces(of, say, |unreadable| odd(unreadable.to_string())).await.map_err(|refusal| refusal.failure)?;
                let read = |one: &ec2::Interface| {
                    eni(one, place, attach.device).ok_or_else(|| odd(format!("{} has the MAC {:?}", one.id, one.mac_address)).failure)
                };
                all.iter().map(read).collect::<Result<_, _>>().map(Answer::Seen)
            }
            Call::Attach(eni) => {
                let called = self.said(ec2::Call::AttachNetworkInterface { eni, instance: &place.instance, device: attach.device }).await;
                attached(called, attach.device)
            }
            Call::Detach(attachment) => match self.said(ec2::Call::DetachNetworkInterface { attachment }).await {
                Ok(_) => Ok(Answer::Detached),
                Err(refusal) if refusal.code == DETACHED => Ok(Answer::Taken),
                Err(refusal) => Err(refusal.failure),
            },
        }
    }

    async fn said(&self, call: ec2::Call<'_>) -> Result<String, Refusal> {
        self.caller.call(SystemTime::now(), call.action(), call.form(false)).await
    }
}

fn attached(called: Result<String, Refusal>, device: u8) -> Result<Answer, Failure> {
    match called {
        Ok(xml) => {
            let attachment =
                ec2::attachment(&xml).map_err(|error| Failure { why: Why::Unavailable, text: error.to_string(), after: None })?;
            Ok(Answer::Attached(attachment))
        }
        Err(refusal) if TAKEN.contains(&refusal.code.as_str()) => Ok(Answer::Taken),
        Err(refusal) if refusal.code == "InvalidParameterValue" && refusal.failure.text.contains(OCCUPIED) => {
            let remedy = "detach what it is not to have, or write another `device`";
            Ok(Answer::Occupied(format!("another interface is attached at the device index {device} of this instance: {remedy}")))
        }
        Err(refusal) => Err(refusal.failure),
    }
}

/// `device`: where it belongs. None: it has no MAC.
fn eni(one: &ec2::Interface, place: &Place, device: u8) -> Option<Eni> {
    let mac = arp::read(&one.mac_address)?;
    let attachment = one.attachment.as_ref().filter(|attachment| attachment.instance_id == place.instance.as_str());
    let stand = match (attachment.filter(|attachment| attachment.status != "detached"), one.status.as_str()) {
        // The instance's own may have the tags too. It cannot be detached.
        (Some(attachment), _) if attachment.device_index == 0 => Stand::Elsewhere,
        (Some(attachment), _) if attachment.device_index != device => Stand::Misplaced(attachment.device_index),
        (Some(attachment), _) if attachment.status == "detaching" => Stand::Leaving(attachment.id.clone()),
        (Some(attachment), _) => Stand::Ours(attachment.id.clone()),
        (None, "available") => Stand::Free,
        (None, _) => Stand::Elsewhere,
    };
    Some(Eni { id: one.id.clone(), mac, stand })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ec2_says_of_an_interface_is_told_apart() {
        let place = Place { instance: "i-0a1b2c3d".parse().unwrap(), region: "eu-central-1".into(), zone: "eu-central-1a".into() };
        let stand = |status: &str, attachment: &str| {
            let xml = format!(
                "<A><networkInterfaceSet><item><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><status>{status}</status>\
                 <macAddress>02:00:00:00:00:0f</macAddress>{attachment}</item></networkInterfaceSet></A>"
            );
            let eni = eni(&ec2::interfaces(&xml).unwrap()[0], &place, 1).expect("a MAC");
            assert_eq!(eni.mac, [2, 0, 0, 0, 0, 15]);
            eni.stand
        };
        let attached = |instance: &str, device: u8, status: &str| {
            format!(
                "<attachment><attachmentId>eni-attach-1</attachmentId><instanceId>{instance}</instanceId>\
                 <deviceIndex>{device}</deviceIndex><status>{status}</status></attachment>"
            )
        };
        assert_eq!(stand("available", ""), Stand::Free);
        assert_eq!(stand("pending", ""), Stand::Elsewhere);
        for status in ["attaching", "attached"] {
            assert_eq!(stand("in-use", &attached("i-0a1b2c3d", 1, status)), Stand::Ours("eni-attach-1".into()));
            assert_eq!(stand("in-use", &attached("i-0a1b2c3d", 0, status)), Stand::Elsewhere);
            assert_eq!(stand("in-use", &attached("i-0a1b2c3d", 2, status)), Stand::Misplaced(2));
            assert_eq!(stand("in-use", &attached("i-0a1b2c3e", 1, status)), Stand::Elsewhere);
        }
        assert_eq!(stand("in-use", &attached("i-0a1b2c3d", 1, "detaching")), Stand::Leaving("eni-attach-1".into()));
        assert_eq!(stand("in-use", &attached("i-0a1b2c3d", 2, "detaching")), Stand::Misplaced(2));
        assert_eq!(stand("available", &attached("i-0a1b2c3d", 1, "detached")), Stand::Free);
    }

    #[test]
    fn why_none_is_attached_is_told_apart() {
        let refused = |code: &str, text: &str| {
            let failure = Failure { why: Why::Refused, text: text.into(), after: None };
            attached(Err(Refusal { code: code.into(), failure }), 1)
        };
        assert_eq!(refused("InvalidNetworkInterface.InUse", "in use"), Ok(Answer::Taken));
        let said = "AttachNetworkInterface is answered with 400: InvalidParameterValue: Instance 'i-0a1b2c3d' already has an interface attached at device index '1'.";
        let occupied = refused("InvalidParameterValue", said);
        assert!(matches!(&occupied, Ok(Answer::Occupied(text)) if text.contains("at the device index 1 of this instance")), "{occupied:?}");
        assert_eq!(refused("InvalidParameterValue", "no").map_err(|failure| failure.text), Err("no".into()));
        let xml = "<R><attachmentId>eni-attach-1</attachmentId></R>".to_owned();
        assert_eq!(attached(Ok(xml), 1), Ok(Answer::Attached("eni-attach-1".into())));
    }
}
