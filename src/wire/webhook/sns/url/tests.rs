use super::*;
use proptest::prelude::*;
use rstest::rstest;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:scaling";

/// What `x.pem` stands for below.
const FILE: &str = "SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";

fn topic() -> TopicArn {
    TOPIC.parse().unwrap()
}

fn of(topic: &str, host: &str) -> CertificateUrl {
    CertificateUrl::parse(&format!("https://{host}/{FILE}"), &topic.parse().unwrap()).unwrap()
}

#[rstest]
#[case(TOPIC, "sns.us-east-1.amazonaws.com")]
#[case("arn:aws-us-gov:sns:us-gov-east-1:123456789012:a", "sns.us-gov-east-1.amazonaws.com")]
#[case("arn:aws-cn:sns:cn-north-1:123456789012:a", "sns.cn-north-1.amazonaws.com.cn")]
fn a_certificate_is_on_the_host_of_sns_in_the_topics_region(#[case] topic: &str, #[case] host: &str) {
    assert_eq!(of(topic, host).to_string(), format!("https://{host}/{FILE}"));
}

#[rstest]
#[case("", "it is no URL")]
#[case("sns.us-east-1.amazonaws.com/x.pem", "it is no URL")]
#[case("//sns.us-east-1.amazonaws.com/x.pem", "it is no URL")]
#[case("https:///x.pem", "its host is not SNS's in the topic's region")]
#[case("http://sns.us-east-1.amazonaws.com/x.pem", "it is not https")]
#[case("ftp://sns.us-east-1.amazonaws.com/x.pem", "it is not https")]
#[case("file:///etc/x.pem", "it is not https")]
#[case("data:application/x-pem-file,x.pem", "it is not https")]
#[case("https://sns.us-east-1.amazonaws.com.evil.example/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.com@evil.example/x.pem", "it has a user in it")]
#[case("https://evil.example@sns.us-east-1.amazonaws.com/x.pem", "it has a user in it")]
#[case("https://:secret@sns.us-east-1.amazonaws.com/x.pem", "it has a user in it")]
#[case("https://@sns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://evil.example/sns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://evil.example#sns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://evil.example?sns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://evil.example\\sns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.com\\@evil.example/x.pem", "it is not written in the plainest way")]
#[case("https://xsns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://evil.sns.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1-amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.co/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.com.cn/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.com./x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.eu-west-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://s3.us-east-1.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.s3.amazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://169.254.169.254/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://[::1]/x.pem", "its host is not SNS's in the topic's region")]
#[case("https://sns.us-east-1.amazonaws.com:8443/x.pem", "it has a port")]
#[case("https://sns.us-east-1.amazonaws.com:443/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com:/x.pem", "it is not written in the plainest way")]
#[case("HTTPS://sns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://SNS.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws%2ecom/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us\u{ad}-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://\u{ff53}ns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://sns\u{3002}us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.\u{430}mazonaws.com/x.pem", "its host is not SNS's in the topic's region")]
#[case("https:/sns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https:\\\\sns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case(" https://sns.us-east-1.amazonaws.com/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com/x.pem\n", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazon\naws.com/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com/a/../x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com/%2e%2e/x.pem", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com/a.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/f3ecfb7224c7233fe7bb5f59f96de52f.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-.pem", "its path is not that of a certificate of SNS")]
#[case(
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52.pem",
    "its path is not that of a certificate of SNS"
)]
#[case(
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f0.pem",
    "its path is not that of a certificate of SNS"
)]
#[case(
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-F3ECFB7224C7233FE7BB5F59F96DE52F.pem",
    "its path is not that of a certificate of SNS"
)]
#[case(
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-g3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "its path is not that of a certificate of SNS"
)]
#[case("https://sns.us-east-1.amazonaws.com/a/x.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com//x.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x%2epem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x%00.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x.pem/", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x.PEM", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com", "it is not written in the plainest way")]
#[case("https://sns.us-east-1.amazonaws.com/x.pem?", "it has a query")]
#[case("https://sns.us-east-1.amazonaws.com/x.pem?a=.pem", "it has a query")]
#[case("https://sns.us-east-1.amazonaws.com/?Action=Publish&x=.pem", "its path is not that of a certificate of SNS")]
#[case("https://sns.us-east-1.amazonaws.com/x.pem#", "it has a fragment")]
#[case("https://sns.us-east-1.amazonaws.com/#x.pem", "it has a fragment")]
fn no_other_url_is_a_certificates(#[case] url: &str, #[case] why: &'static str) {
    let url = url.replace("x.pem", FILE);
    assert_eq!(CertificateUrl::parse(&url, &topic()).unwrap_err(), foreign(&url, why));
}

#[test]
fn a_url_without_end_is_not_looked_at() {
    let long = format!("https://sns.us-east-1.amazonaws.com/{}.pem", "x".repeat(LONGEST));
    assert_eq!(CertificateUrl::parse(&long, &topic()).unwrap_err(), foreign(&long, "it is too long"));
}

const SUBSCRIBE: &str =
    "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:123456789012:scaling&Token=23";

#[test]
fn a_subscription_is_to_the_topic_that_asks() {
    assert_eq!(SubscribeUrl::parse(SUBSCRIBE, &topic(), "23").map(|url| url.as_str().to_owned()), Ok(SUBSCRIBE.to_owned()));
    let encoded = SUBSCRIBE.replace(':', "%3A").replacen("%3A", ":", 1);
    assert!(SubscribeUrl::parse(&encoded, &topic(), "23").is_ok());
    let refusal = SubscribeUrl::parse(SUBSCRIBE, &topic(), "24").unwrap_err().to_string();
    assert!(refusal.contains("amazonaws.com/ is not followed") && !refusal.contains("Token"), "{refusal}");
    assert_eq!(format!("{:?}", SubscribeUrl::parse(SUBSCRIBE, &topic(), "23")), "Ok(SubscribeUrl(..))");
}

#[rstest]
#[case("https://", "http://")]
#[case("https://", "https://user@")]
#[case("amazonaws.com/", "amazonaws.com.evil.example/")]
#[case("amazonaws.com/", "amazonaws.com:8443/")]
#[case("sns.us-east-1.", "sns.us-east-2.")]
#[case("/?", "/x?")]
#[case("ConfirmSubscription", "Unsubscribe")]
#[case("ConfirmSubscription", "ConfirmSubscription&Action=Publish")]
#[case("Token=23", "Token=23&Token=23")]
#[case("Token=23", "Token=23&Message=x")]
#[case("Token=23", "Token=23#")]
#[case("&Token=23", "")]
#[case(":scaling", ":another")]
fn no_other_url_is_a_subscriptions(#[case] part: &str, #[case] instead: &str) {
    let url = SUBSCRIBE.replacen(part, instead, 1);
    assert_ne!(url, SUBSCRIBE);
    assert_eq!(SubscribeUrl::parse(&url, &topic(), "23").unwrap_err().label(), "foreign_url");
}

#[test]
fn the_names_of_a_certificate_are_those_of_its_region() {
    assert!(of(TOPIC, "sns.us-east-1.amazonaws.com").names().contains(&"sns.amazonaws.com".to_owned()));
    let far = of("arn:aws:sns:af-south-1:123456789012:a", "sns.af-south-1.amazonaws.com").names();
    assert!(far.contains(&"sns-signing.af-south-1.amazonaws.com".to_owned()));
    let china = of("arn:aws-cn:sns:cn-north-1:123456789012:a", "sns.cn-north-1.amazonaws.com.cn").names();
    assert!(china.contains(&"sns-cn-north-1.amazonaws.com.cn".to_owned()));
    let gov = of("arn:aws-us-gov:sns:us-gov-east-1:123456789012:a", "sns.us-gov-east-1.amazonaws.com").names();
    assert!(gov.contains(&"sns-us-gov-west-1.amazonaws.com".to_owned()));
}

proptest! {
    /// What is accepted is what it looks like, to whoever reads it.
    #[test]
    fn whatever_is_accepted_begins_with_the_host(url in "https?:/{0,3}(sns|evil|[@:?#\\\\%.a-z/]{0,6})\\.?us-east-1\\.amazonaws\\.com[@:?#\\\\%.a-z/]{0,8}(/(SimpleNotificationService-)?[0-9a-f]{31,33})?(\\.pem)?|.*") {
        if let Ok(good) = CertificateUrl::parse(&url, &topic()) {
            let rest = good.as_str().strip_prefix("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-").expect("the host");
            prop_assert!(rest.len() == 36 && rest.ends_with(".pem") && rest.trim_end_matches(".pem").bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        let _ = SubscribeUrl::parse(&url, &topic(), "23");
    }
}
