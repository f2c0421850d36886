use super::*;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

/// As the user guide shows it.
fn terminating() -> Value {
    json!({
        "Origin": "AutoScalingGroup", "LifecycleHookName": "portway-drain", "Destination": "EC2", "AccountId": "123456789012",
        "RequestId": "0f4d2a3e-6a1c-4f5a-a3cd-e3ae7b2c9b1d", "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "AutoScalingGroupName": "gateways of tenant 1", "Service": "AWS Auto Scaling", "Time": "2026-11-22T07:15:00.655Z",
        "EC2InstanceId": "i-0123456789abcdef0", "LifecycleActionToken": "71514b9d-6a40-4b26-8523-05e7ee35fa40"
    })
}

#[test]
fn an_instance_that_waits_is_named() {
    let transition = Transition {
        direction: Direction::Terminating,
        instance: "i-0123456789abcdef0".into(),
        group: "gateways of tenant 1".into(),
        hook: "portway-drain".into(),
        token: "71514b9d-6a40-4b26-8523-05e7ee35fa40".into(),
    };
    assert_eq!(Told::read(&terminating().to_string()), Ok(Told::Waiting(transition.clone())));
    let mut launching = terminating();
    launching["LifecycleTransition"] = "autoscaling:EC2_INSTANCE_LAUNCHING".into();
    let expected = Transition { direction: Direction::Launching, ..transition };
    assert_eq!(Told::read(&launching.to_string()), Ok(Told::Waiting(expected)));
}

#[rstest]
#[case(
    r#"{"AccountId": "1", "AutoScalingGroupName": "g", "Service": "AWS Auto Scaling", "Event": "autoscaling:TEST_NOTIFICATION"}"#,
    Told::Test
)]
#[case(r#"{"Event": "autoscaling:EC2_INSTANCE_LAUNCH", "EC2InstanceId": "i-0123456789abcdef0"}"#, Told::Other)]
#[case(r#"{"LifecycleTransition": "autoscaling:SOMETHING_NEW"}"#, Told::Other)]
#[case(r#"{"AlarmName": "load", "NewStateValue": "ALARM"}"#, Told::Other)]
#[case(r#"{"LifecycleTransition": 1}"#, Told::Other)]
#[case("Hello", Told::Other)]
#[case("", Told::Other)]
#[case("[]", Told::Other)]
fn all_else_is_noise(#[case] text: &str, #[case] expected: Told) {
    assert_eq!(Told::read(text), Ok(expected));
}

#[rstest]
#[case("EC2InstanceId", "")]
#[case("EC2InstanceId", "i-")]
#[case("EC2InstanceId", "i-0123456789ABCDEF0")]
#[case("EC2InstanceId", "i-0123456789abcdef0 ")]
#[case("EC2InstanceId", "vol-0123456789abcdef0")]
#[case("AutoScalingGroupName", "")]
#[case("AutoScalingGroupName", "a\nb")]
#[case("LifecycleHookName", "a b")]
#[case("LifecycleHookName", "../..?")]
#[case("LifecycleActionToken", "71514b9d")]
#[case("LifecycleActionToken", "71514b9d-6a40-4b26-8523-05e7ee35fa4&")]
fn an_instance_that_waits_and_cannot_be_named_is_told(#[case] name: &str, #[case] value: &str) {
    let mut odd = terminating();
    odd[name] = value.into();
    let refusal = Told::read(&odd.to_string()).unwrap_err();
    assert_eq!(refusal.label(), "invalid");
    assert!(refusal.to_string().contains(name), "{refusal}");
    odd.as_object_mut().unwrap().remove(name);
    assert!(Told::read(&odd.to_string()).unwrap_err().to_string().contains("is missing"));
}

#[rstest]
#[case(255, true)]
#[case(256, false)]
fn a_name_has_an_end(#[case] length: usize, #[case] good: bool) {
    let mut long = terminating();
    long["LifecycleHookName"] = "h".repeat(length).into();
    assert_eq!(Told::read(&long.to_string()).is_ok(), good);
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in ".*", name in "(LifecycleTransition|Event|EC2InstanceId|LifecycleHookName|[A-Z][a-z]*)", value in ".*") {
        let _ = Told::read(&text);
        let mut odd = terminating();
        odd[name] = value.into();
        let _ = Told::read(&odd.to_string());
    }
}
