//! What AWS says when a call of its Query protocol did not do what was asked.

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    #[serde(default, alias = "Code")]
    pub code: String,
    #[serde(default, alias = "Message")]
    pub message: String,
}

/// What an answer of 4xx or 5xx says, if it is of AWS: EC2 wraps it in `Response` and `Errors`, others in `ErrorResponse`.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
pub fn fault(xml: &str) -> Option<Fault> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Error")]
        error: Option<Fault>,
        #[serde(rename = "Errors")]
        errors: Option<Errors>,
    }
    #[derive(Deserialize)]
    struct Errors {
        #[serde(rename = "Error")]
        error: Fault,
    }
    let answer: Answer = quick_xml::de::from_str(xml).ok()?;
    answer.error.or(answer.errors.map(|errors| errors.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let said = |code: &str, message: &str| Some(Fault { code: code.into(), message: message.into() });
        let of_ec2 = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error></Errors><RequestID>ea966190</RequestID></Response>";
        assert_eq!(fault(of_ec2), said("RequestLimitExceeded", "Request limit exceeded."));
        let others = "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(fault(others), said("Throttling", "Rate exceeded"));
        for other in ["", "<html>502</html>", "{}", "<Response/>"] {
            assert_eq!(fault(other), None);
        }
    }
}
