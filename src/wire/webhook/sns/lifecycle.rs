//! What EC2 Auto Scaling publishes (Amazon EC2 Auto Scaling User Guide, "Amazon EC2 Auto Scaling lifecycle hooks").

use crate::wire::webhook::{Refusal, shown};
use serde::Deserialize;

/// A notification's text, as far as it concerns the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Waiting(Transition),
    /// Sent when a hook is made, to see whether it arrives. Noise.
    Test,
    /// Something else was published: an alarm, a launch without a hook.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `autoscaling:EC2_INSTANCE_LAUNCHING`
    Launching,
    /// `autoscaling:EC2_INSTANCE_TERMINATING`
    Terminating,
}

/// An instance that waits for CompleteLifecycleAction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub direction: Direction,
    /// `i-` and 8 or 17 hexadecimal digits.
    pub instance: String,
    /// Of the Auto Scaling group, 1 to 255 characters.
    pub group: String,
    /// Of the lifecycle hook, 1 to 255 characters.
    pub hook: String,
    /// A UUID, which says which of the hook's waits is meant.
    pub token: String,
}

/// Unknown keys are ignored.
#[derive(Deserialize)]
struct Published {
    #[serde(rename = "LifecycleTransition")]
    transition: Option<String>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "EC2InstanceId", default)]
    instance: String,
    #[serde(rename = "AutoScalingGroupName", default)]
    group: String,
    #[serde(rename = "LifecycleHookName", default)]
    hook: String,
    #[serde(rename = "LifecycleActionToken", default)]
    token: String,
}

impl Told {
    /// Refused is only what says that an instance waits, and not which or where.
    pub fn read(text: &str) -> Result<Self, Refusal> {
        let Ok(published) = serde_json::from_str::<Published>(text) else { return Ok(Self::Other) };
        let direction = match (published.transition.as_deref(), published.event.as_deref()) {
            (Some("autoscaling:EC2_INSTANCE_LAUNCHING"), _) => Direction::Launching,
            (Some("autoscaling:EC2_INSTANCE_TERMINATING"), _) => Direction::Terminating,
            (None, Some("autoscaling:TEST_NOTIFICATION")) => return Ok(Self::Test),
            _ => return Ok(Self::Other),
        };
        let transition = Transition {
            direction,
            instance: good("EC2InstanceId", published.instance, is_instance)?,
            group: good("AutoScalingGroupName", published.group, |text| is_name(text, |c| !c.is_control()))?,
            hook: good("LifecycleHookName", published.hook, |text| {
                is_name(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/'))
            })?,
            token: good("LifecycleActionToken", published.token, |text| {
                text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            })?,
        };
        Ok(Self::Waiting(transition))
    }
}

fn good(name: &str, text: String, is_good: impl Fn(&str) -> bool) -> Result<String, Refusal> {
    if is_good(&text) {
        return Ok(text);
    }
    let told = if text.is_empty() { "is missing".into() } else { format!("is {:?}, which none can be", shown(&text)) };
    Err(Refusal::Invalid(format!("an instance waits for a lifecycle hook, and {name} {told}: see what is published to the topic")))
}

fn is_instance(text: &str) -> bool {
    let digits = text.strip_prefix("i-").unwrap_or_default();
    matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_name(text: &str, is_good: impl Fn(char) -> bool) -> bool {
    (1..=255).contains(&text.chars().count()) && text.chars().all(is_good)
}

#[cfg(test)]
mod tests;
