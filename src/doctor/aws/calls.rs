//! Whether EC2 answers this node, and lets it do what it has to.

use super::{Instance, Refused, Seen};
use crate::cloud::aws::statement;
use crate::doctor::Finding;
use crate::model::Why;
use std::collections::BTreeMap;

pub fn findings(seen: &Seen, instance: &Instance) -> Vec<Finding> {
    let mut findings = vec![];
    if let Some(Err(why)) = &seen.credentials {
        let profile = format!("aws ec2 associate-iam-instance-profile --region {} --instance-id {}", instance.region, instance.id);
        findings.push(Finding::broken(why, format!("{profile} --iam-instance-profile Name=PROFILE")));
        return findings;
    }
    let mut denied: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut others: BTreeMap<(Why, &str), Vec<&Refused>> = BTreeMap::new();
    for refused in &seen.refused {
        if refused.refusal.is_denied() {
            denied.entry(refused.action).or_default().extend(refused.about.iter().map(String::as_str));
        } else if let Some(finding) = missing(refused, instance) {
            findings.push(finding);
        } else {
            others.entry((refused.refusal.failure.why, refused.refusal.code.as_str())).or_default().push(refused);
        }
    }
    for (action, mut about) in denied {
        about.sort_unstable();
        about.dedup();
        findings.push(lacking(action, &about, instance));
    }
    findings.extend(others.into_iter().map(|((why, _), all)| unanswered(why, &all, instance)));
    if findings.is_empty() && !seen.allowed.is_empty() {
        let all: Vec<&str> = seen.allowed.iter().copied().collect();
        findings.push(Finding::ok(format!("EC2 answers, and lets this node call {}", all.join(", "))));
    }
    findings
}

fn lacking(action: &str, about: &[&str], instance: &Instance) -> Finding {
    // No narrower way to look is known to AWS.
    let statement = if action.starts_with("Describe") { statement("ec2", action, &["*"]) } else { statement("ec2", action, about) };
    let (whose, remedy) = match &instance.role {
        Some(role) => {
            let document = format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#);
            let command =
                format!("aws iam put-role-policy --role-name {role} --policy-name portway-{action} --policy-document '{document}'");
            (format!("the role {role}"), command)
        }
        None => ("this node".into(), format!("add to the policy of whose credentials it has: {statement}")),
    };
    Finding::broken(format!("{whose} may not call {action}, and the gateway has to"), remedy)
}

/// Something that the configuration names and that is not there.
fn missing(refused: &Refused, Instance { region, .. }: &Instance) -> Option<Finding> {
    let is = |what: &str, remedy: String| {
        let about = refused.about.join(", ");
        Some(Finding::broken(format!("{what} {about} is not there, in this account and in {region}"), remedy))
    };
    match (refused.action, refused.refusal.code.as_str()) {
        ("DescribeRouteTables", "InvalidRouteTableID.NotFound") => {
            let list =
                format!("aws ec2 describe-route-tables --region {region} --query 'RouteTables[].[RouteTableId,VpcId]' --output text");
            is("the route table", format!("{list} names those that there are: write them in `route_tables`"))
        }
        ("DescribeAddresses", "InvalidAllocationID.NotFound") => {
            let allocate = format!("aws ec2 allocate-address --region {region} --domain vpc");
            is("the elastic address", format!("{allocate}, and write its AllocationId in `public`"))
        }
        _ => None,
    }
}

/// `all`: of one reason.
fn unanswered(why: Why, all: &[&Refused], Instance { region, .. }: &Instance) -> Finding {
    let mut actions: Vec<&str> = all.iter().map(|refused| refused.action).collect();
    actions.sort_unstable();
    actions.dedup();
    let text = all.first().map(|refused| refused.refusal.failure.text.as_str()).unwrap_or_default();
    let what = format!("{}: {text}", actions.join(", "));
    match why {
        Why::TimedOut | Why::Unreachable => {
            let endpoint = format!(
                "aws ec2 create-vpc-endpoint --region {region} --vpc-endpoint-type Interface --service-name com.amazonaws.{region}.ec2"
            );
            let remedy = format!(
                "let this machine out to https://ec2.{region}.amazonaws.com, port 443, or bring EC2 into its VPC: {endpoint} --vpc-id vpc-... --subnet-ids subnet-..."
            );
            Finding::broken(what, remedy)
        }
        Why::Throttled => {
            Finding::warning(format!("{what}: not judged"), "once more later; find out who else calls so often: CloudTrail says")
        }
        Why::Unavailable => Finding::broken(what, "once more later; https://health.aws.amazon.com says what is known"),
        // It looked at what it was told, and did not come to whether it is allowed.
        Why::Refused if all.iter().all(|refused| refused.dry) => Finding::note(format!("not tried out: {what}")),
        Why::Refused => Finding::broken(what, "mend what it says; docs/aws.md has the policy that the role needs"),
    }
}
