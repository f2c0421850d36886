//! The first example from nothing to nothing.

use super::aws::Aws;
use super::modules::is_taken;
use super::{Scratch, told};
use serde_json::Value;

/// S3 has its buckets' names in paths where there is no DNS for them.
const SIMULATED: &str = "provider \"aws\" {\n  s3_use_path_style = true\n}\n";
/// One that moto has.
const IMAGE: &str = "ami-12c6146b";

#[test]
fn the_example_is_applied_has_nothing_left_to_do_and_goes_again() {
    let aws = Aws::start();
    let scratch = Scratch::new();
    let example = scratch.initialised("examples/single-tenant");
    std::fs::write(example.0.join("simulated_override.tf"), SIMULATED).unwrap();
    std::fs::write(example.0.join("portway.deb"), "a package").unwrap();
    let mut variables = aws.variables();
    let given = [
        ("TF_VAR_package", "portway.deb"),
        ("TF_VAR_image", IMAGE),
        ("TF_VAR_ssh_from", "198.51.100.7/32"),
        ("TF_VAR_ssh_key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILzaVqf6Fo4Gac3BzaHKeLhTQXxXG7Zb9H7HdLgvL4JX you@example"),
    ];
    variables.extend(given.map(|(name, value)| (name, value.to_owned())));

    example.done(&["apply", "-auto-approve", "-input=false", "-no-color"], &variables);
    let outputs: Value = serde_json::from_str(&example.done(&["output", "-json"], &variables)).unwrap();
    let of_nodes = outputs["gateway_yaml"]["value"].as_object().unwrap().values();
    let yamls: Vec<&str> = of_nodes.chain(outputs["host_yaml"]["value"].as_object().unwrap().values()).filter_map(Value::as_str).collect();
    assert_eq!(yamls.len(), 3);
    yamls.into_iter().for_each(is_taken);

    // Gateways move addresses meanwhile, which is no change.
    let interface = outputs["nodes"]["value"]["gw-2"]["tenants"]["acme"]["interface"].as_str().unwrap();
    aws.ec2(&format!(
        "Action=AssignPrivateIpAddresses&NetworkInterfaceId={interface}&PrivateIpAddress.1=172.16.101.10&AllowReassignment=true"
    ));
    let again = example.terraform(&["plan", "-detailed-exitcode", "-input=false", "-no-color"], &variables);
    assert_eq!(again.status.code(), Some(0), "the second time there is something to do: {}", told(&again));
    let again = example.terraform(&["apply", "-auto-approve", "-input=false", "-no-color"], &variables);
    assert!(told(&again).contains("Resources: 0 added, 0 changed, 0 destroyed."), "{}", told(&again));

    // The key that was made is 32 bytes, and stands nowhere but where it belongs.
    let key = aws.json("ssm", "AmazonSSM.GetParameter", &serde_json::json!({ "Name": "/portway/portway-try/ha", "WithDecryption": true }));
    let key = key["Parameter"]["Value"].as_str().unwrap();
    assert!(key.len() == 64 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{key}");
    let state = std::fs::read_to_string(example.0.join("terraform.tfstate")).unwrap();
    assert!(!state.contains(key));

    example.done(&["destroy", "-auto-approve", "-input=false", "-no-color"], &variables);
    let left = aws.ec2("Action=DescribeNetworkInterfaces&Filter.1.Name=tag-key&Filter.1.Value.1=portway:appliance");
    assert!(!left.contains("<networkInterfaceId>"), "{left}");
}
