//! A key changes, and in the midst of it the Active dies.

use super::stranger_support::{TENANT, bound_ms};
use super::support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::lab::topology::Wiring;
use portway::lab::{Kill, Lab, Probe, directory, poll_until, secret};
use portway::model::PrivateKey;
use rstest::rstest;

const HOST: &str = "host-1";

/// From the host's initiation that nobody heard to its next one: half a second, and a fifteenth of it at most to be out of step.
const NEXT_ATTEMPT_MS: f64 = 534.0;
/// Nobody tells the new Active by which of a shard's keys a host was heard: it calls under both, and the route follows the answer. A pass on a busy machine.
const ROUTE_MS: f64 = 100.0;

/// When the Active dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// As soon as the host has the interface of its new session, whether anybody has heard of it or not.
    Begun,
    /// When there is a session under the new key.
    Agreed,
}

impl Moment {
    /// The longest that a host may wait then, in milliseconds.
    fn bound(self) -> f64 {
        match self {
            Moment::Begun => bound_ms(INTERVAL) + NEXT_ATTEMPT_MS,
            Moment::Agreed => bound_ms(INTERVAL) + ROUTE_MS,
        }
    }
}

/// Two gateways, a directory, and a host that has enrolled.
fn pair() -> Lab {
    let mut lab = directed(&[Wiring::Veth]);
    lab.attach_all().unwrap();
    lab
}

/// A probe from the host's container, for the gap to come.
fn marked(lab: &Lab) -> Probe {
    let probe = probe(lab);
    quiet(&probe);
    probe.mark();
    probe
}

/// What the host says of its one tunnel: the interface that traffic goes to, and whether there is one beside it.
fn interfaces(lab: &Lab) -> (String, bool) {
    let tunnel = &status(lab, HOST)["tenants"][0];
    (tunnel["tunnel"].as_str().unwrap().to_owned(), tunnel["coming"].is_string() || tunnel["former"].is_string())
}

/// The Active dies at that moment of the change. Nobody waits for longer than at any other time, and the change goes on to its end.
fn dies(mut lab: Lab, probe: Probe, moment: Moment, agreed: impl Fn(&Lab) -> bool) -> Lab {
    poll_until("the change", SOON, || Ok(interfaces(&lab).1 && (moment == Moment::Begun || agreed(&lab)))).unwrap();
    lab.fail("gw-1", Kill::Daemon).unwrap();
    lab.await_active("gw-2", TENANT, 0).unwrap();
    goes_on(&probe);
    poll_until("the end of the change", 2 * SOON, || Ok(interfaces(&lab) == ("pw-1-b".to_owned(), false))).unwrap();
    goes_on(&probe);
    let probed = probe.stop();
    println!("{moment:?}: {probed:?}; at most {:.0} ms", moment.bound());
    assert!(probed.gap_ms <= moment.bound() + probed.quiet_ms, "{probed:?}\n{}", log(&lab, "gw-2"));
    lab
}

#[rstest]
#[case(Moment::Begun)]
#[case(Moment::Agreed)]
fn serial_a_host_changes_its_key_while_its_gateway_dies(#[case] moment: Moment) {
    let lab = pair();
    let probe = marked(&lab);
    let runtime_dir = lab.dir().runtime(HOST);
    let mut enroll = lab.node(HOST).unwrap().command(program());
    enroll.args(["enroll", "--rotate", "--url", &directory::url(), "--ca"]).arg(directory::ca(&runtime_dir));
    let output = enroll.arg("--state").arg(directory::state_dir(&runtime_dir, HOST)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dies(lab, probe, moment, |lab| status(lab, "gw-1")["jit"]["peers"]["known"] == 2);
}

#[rstest]
#[case(Moment::Begun)]
#[case(Moment::Agreed)]
fn serial_a_shard_changes_its_key_while_its_gateway_dies(#[case] moment: Moment) {
    let mut lab = pair();
    let probe = marked(&lab);
    let file = lab.dir().path().join("next.key");
    secret(&file, &STANDARD.encode(PrivateKey::new([77; 32]).expose())).unwrap();
    let port = format!("port: {} }}", lab.topology.port(TENANT, 0));
    let next = port.replace(" }", &format!(", next: {{ private_key: {} }} }}", file.display()));
    // Whoever may take the shard must have the key before any host moves to it: the Backup's first.
    for node in ["gw-2", "gw-1"] {
        reload(&mut lab, node, |yaml| yaml.replacen(&port, &next, 1));
    }
    let heard = |lab: &Lab, node: &str| status(lab, node)["tenants"][0]["beside"]["heard"] == 1;
    let lab = dies(lab, probe, moment, |lab| heard(lab, "gw-1"));
    assert!(heard(&lab, "gw-2"), "the host answers there: {}", status(&lab, "gw-2"));
}
