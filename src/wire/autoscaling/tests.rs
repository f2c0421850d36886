use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// As the API reference shows such answers, cut to what differs.
const GROUPS: &str = r#"<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
  <DescribeAutoScalingGroupsResult>
    <AutoScalingGroups>
      <member>
        <AutoScalingGroupARN>arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:1:autoScalingGroupName/other</AutoScalingGroupARN>
        <AutoScalingGroupName>other</AutoScalingGroupName>
        <MinSize>0</MinSize><MaxSize>0</MaxSize><DesiredCapacity>0</DesiredCapacity>
        <Instances/>
      </member>
      <member>
        <HealthCheckType>EC2</HealthCheckType>
        <DesiredCapacity>3</DesiredCapacity>
        <AvailabilityZones><member>eu-central-1a</member><member>eu-central-1b</member></AvailabilityZones>
        <AutoScalingGroupName>gateways</AutoScalingGroupName>
        <Instances>
          <member><InstanceId>i-0a</InstanceId><HealthStatus>Healthy</HealthStatus><LifecycleState>InService</LifecycleState></member>
          <member><LifecycleState>Terminating:Wait</LifecycleState><InstanceId>i-0b</InstanceId></member>
          <member><LifecycleState>Pending</LifecycleState><InstanceId>i-0c</InstanceId></member>
        </Instances>
        <MinSize>2</MinSize>
        <MaxSize>10</MaxSize>
      </member>
    </AutoScalingGroups>
  </DescribeAutoScalingGroupsResult>
  <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata>
</DescribeAutoScalingGroupsResponse>"#;

#[rstest]
#[case(Call::DescribeAutoScalingGroups, "Action=DescribeAutoScalingGroups&Version=2011-01-01&AutoScalingGroupNames.member.1=a+b%26c")]
#[case(
    Call::SetDesiredCapacity { nodes: 4 },
    "Action=SetDesiredCapacity&Version=2011-01-01&AutoScalingGroupName=a+b%26c&DesiredCapacity=4&HonorCooldown=false"
)]
#[case(
    Call::RecordLifecycleActionHeartbeat { hook: "h", instance: "i-0a" },
    "Action=RecordLifecycleActionHeartbeat&Version=2011-01-01&AutoScalingGroupName=a+b%26c&LifecycleHookName=h&InstanceId=i-0a"
)]
#[case(
    Call::CompleteLifecycleAction { hook: "h", instance: "i-0a" },
    "Action=CompleteLifecycleAction&Version=2011-01-01&AutoScalingGroupName=a+b%26c&LifecycleHookName=h&InstanceId=i-0a&LifecycleActionResult=CONTINUE"
)]
fn a_call_is_a_form(#[case] call: Call<'_>, #[case] form: &str) {
    assert_eq!(call.form("a b&c"), form);
}

#[test]
fn of_all_groups_ours_is_read() {
    let group = group(GROUPS, "gateways").unwrap();
    assert_eq!((group.min, group.max, group.desired), (2, 10, 3));
    let states: Vec<_> = group.instances().iter().map(|one| (one.id.as_str(), one.is_in_service(), one.waits_to_go())).collect();
    assert_eq!(states, [("i-0a", true, false), ("i-0b", false, true), ("i-0c", false, false)]);
    assert!(super::group(GROUPS, "other").unwrap().instances().is_empty());
}

#[test]
fn what_is_no_answer_is_said() {
    assert_eq!(group(GROUPS, "gateway"), Err(Unreadable::NoGroup("gateway".into())));
    let none = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups/></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";
    assert_eq!(group(none, "gateways"), Err(Unreadable::NoGroup("gateways".into())));
    for other in ["", "ok", "<html><body>502</body></html>", &GROUPS[..GROUPS.len() / 2], &GROUPS.replace("<MinSize>2", "<MinSize>-2")] {
        assert!(matches!(group(other, "gateways"), Err(Unreadable::Xml(_))), "{other}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in ".*", cut in 0..GROUPS.len()) {
        let cut = (0..=cut).rev().find(|at| GROUPS.is_char_boundary(*at)).unwrap();
        for text in [&text, &GROUPS[..cut]] {
            let _ = (group(text, "gateways").is_ok(), crate::wire::aws::fault(text));
        }
    }
}
