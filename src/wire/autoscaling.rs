//! Calls of EC2 Auto Scaling, in AWS's Query protocol: a form is posted, XML comes back.
//! <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/>, version 2011-01-01.

use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// Of the API, not of ours.
const VERSION: &str = "2011-01-01";

/// What is asked of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'c> {
    DescribeAutoScalingGroups,
    SetDesiredCapacity {
        nodes: u32,
    },
    /// An instance that waits in a hook may go on waiting for as long again.
    RecordLifecycleActionHeartbeat {
        hook: &'c str,
        instance: &'c str,
    },
    /// It need not wait any more.
    CompleteLifecycleAction {
        hook: &'c str,
        instance: &'c str,
    },
}

impl Call<'_> {
    pub fn action(&self) -> &'static str {
        match self {
            Call::DescribeAutoScalingGroups => "DescribeAutoScalingGroups",
            Call::SetDesiredCapacity { .. } => "SetDesiredCapacity",
            Call::RecordLifecycleActionHeartbeat { .. } => "RecordLifecycleActionHeartbeat",
            Call::CompleteLifecycleAction { .. } => "CompleteLifecycleAction",
        }
    }

    /// As application/x-www-form-urlencoded.
    pub fn form(&self, group: &str) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", self.action()).append_pair("Version", VERSION);
        match self {
            Call::DescribeAutoScalingGroups => form.append_pair("AutoScalingGroupNames.member.1", group),
            Call::SetDesiredCapacity { nodes } => {
                form.append_pair("AutoScalingGroupName", group);
                // Cooldowns are ours.
                form.append_pair("DesiredCapacity", &nodes.to_string()).append_pair("HonorCooldown", "false")
            }
            Call::RecordLifecycleActionHeartbeat { hook, instance } => {
                form.append_pair("AutoScalingGroupName", group).append_pair("LifecycleHookName", hook).append_pair("InstanceId", instance)
            }
            Call::CompleteLifecycleAction { hook, instance } => {
                form.append_pair("AutoScalingGroupName", group).append_pair("LifecycleHookName", hook);
                form.append_pair("InstanceId", instance).append_pair("LifecycleActionResult", "CONTINUE")
            }
        };
        form.finish()
    }
}

/// A group as it is described; what else is known of it is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Group {
    #[serde(rename = "AutoScalingGroupName")]
    pub name: String,
    #[serde(rename = "MinSize")]
    pub min: u32,
    #[serde(rename = "MaxSize")]
    pub max: u32,
    #[serde(rename = "DesiredCapacity")]
    pub desired: u32,
    #[serde(default)]
    instances: Members<Instance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    #[serde(rename = "InstanceId")]
    pub id: String,
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html>
    #[serde(rename = "LifecycleState")]
    pub state: String,
}

impl Group {
    pub fn instances(&self) -> &[Instance] {
        &self.instances.member
    }
}

impl Instance {
    pub fn is_in_service(&self) -> bool {
        self.state == "InService"
    }

    /// It is to go, and waits in a hook until that is completed or has lasted too long.
    pub fn waits_to_go(&self) -> bool {
        matches!(self.state.as_str(), "Terminating:Wait" | "Warmed:Terminating:Wait")
    }
}

/// How the Query protocol writes a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Members<T> {
    #[serde(default = "Vec::new")]
    member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { member: vec![] }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the answer is none of Auto Scaling's: {0}")]
    Xml(String),
    #[error("there is no Auto Scaling group {0:?} in this account and region: mend `group` or `region`, or make it")]
    NoGroup(String),
}

/// The group of this name, in the answer to [`Call::DescribeAutoScalingGroups`].
pub fn group(xml: &str, name: &str) -> Result<Group, Unreadable> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "DescribeAutoScalingGroupsResult")]
        result: Described,
    }
    #[derive(Deserialize)]
    struct Described {
        #[serde(rename = "AutoScalingGroups", default)]
        groups: Members<Group>,
    }
    let answer: Answer = quick_xml::de::from_str(xml).map_err(|error| Unreadable::Xml(error.to_string()))?;
    let mut groups = answer.result.groups.member.into_iter();
    groups.find(|group| group.name == name).ok_or_else(|| Unreadable::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests;
