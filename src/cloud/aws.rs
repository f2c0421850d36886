//! Calls of AWS's Query protocol, signed (version 4), of one service in one region.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html>

use super::metadata::Metadata;
use crate::model::{Failure, Why};
use crate::wire::aws::fault;
use aws_config::Region;
use aws_config::default_provider::credentials::{Builder as DefaultCredentialsBuilder, DefaultCredentialsChain};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::{Client, Method, redirect};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use url::Url;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Bytes of an answer: of a group of 1,000 instances it is some 500,000.
const LONGEST: usize = 4 << 20;
/// Characters of what AWS says that are told.
const LONGEST_SAID: usize = 400;
/// Credentials that end sooner are got anew by [`Caller::warm`],
const FRESH: Duration = Duration::from_secs(300);
/// and no call is made with those that end sooner than this while there are others.
const SPARE: Duration = Duration::from_secs(60);

/// To whoever asked only whether he may.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
const ALLOWED: &str = "DryRunOperation";
const DENIED: [&str; 3] = ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"];
/// Of credentials that were taken back or have ended, or of another clock.
const VOID: [&str; 7] = [
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Calls one service of AWS.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    /// As it stands in signatures, policies and names of machines.
    service: &'static str,
    region: String,
    endpoint: Url,
    timeout: Duration,
    /// None: where AWS's own tools look for an instance's.
    metadata: Option<Arc<Metadata>>,
    chain: OnceCell<DefaultCredentialsChain>,
    credentials: Mutex<Option<Known>>,
    /// One asks for all.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    credentials: Credentials,
    /// They lack a permission. The instance may have another role by now, of which they are not: [`Caller::warm`] asks.
    is_doubtful: bool,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .failure.text)]
pub struct Refusal {
    /// As AWS writes it; empty if it said nothing.
    pub code: String,
    pub failure: Failure,
}

impl Refusal {
    /// Whether the role lacks the permission.
    pub fn is_denied(&self) -> bool {
        DENIED.contains(&self.code.as_str())
    }

    fn new(why: Why, text: String) -> Self {
        Self { code: String::new(), failure: Failure { why, text, after: None } }
    }
}

/// Why there is nobody to call.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("the region {region:?} makes no address")]
    Region { region: String, source: url::ParseError },
    #[error("cannot set up TLS")]
    Tls(#[from] reqwest::Error),
}

impl Caller {
    /// `endpoint`: None is AWS's own of the region. `timeout`: of a call, and of credentials.
    pub fn new(service: &'static str, region: &str, endpoint: Option<&Url>, timeout: Duration) -> Result<Self, Unusable> {
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(timeout).build()?;
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = || format!("https://{service}.{region}.amazonaws.com{china}/").parse();
        let endpoint = endpoint.cloned().map_or_else(own, Ok).map_err(|source| Unusable::Region { region: region.to_owned(), source })?;
        let (chain, credentials, renewal) = (OnceCell::new(), Mutex::new(None), tokio::sync::Mutex::new(()));
        Ok(Self { client, service, region: region.to_owned(), endpoint, timeout, metadata: None, chain, credentials, renewal })
    }

    /// An instance's role is asked for there.
    pub fn with_metadata(self, metadata: Arc<Metadata>) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The XML of a good answer. `form` holds the action, and all that belongs to it.
    pub async fn call(&self, now: SystemTime, action: &str, form: String) -> Result<String, Refusal> {
        let credentials = self.credentials(now).await?;
        let request = self.signed(now, form, &credentials)?;
        let response = self.client.execute(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = text(response).await?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let (code, message) = fault(&text).map_or((String::new(), "nothing that AWS would say".into()), |said| (said.code, said.message));
        let (why, remedy) = self.meaning(action, status, &code);
        self.doubt(&credentials, &code);
        let said: String = format!("{code}: {message}").chars().filter(|c| !c.is_control()).take(LONGEST_SAID).collect();
        let text = format!("{action} is answered with {status}{remedy}: {said}");
        Err(Refusal { code, failure: Failure { why, text, after: None } })
    }

    /// Whether a call would be allowed. `form` asks for no more than that (`DryRun`).
    pub async fn try_out(&self, now: SystemTime, action: &str, form: String) -> Result<(), Refusal> {
        match self.call(now, action, form).await {
            Err(refusal) if refusal.code == ALLOWED => Ok(()),
            other => other.map(drop),
        }
    }

    /// Has credentials at hand for the calls to come, which do not wait for this while those that are known are good. Fails with why there are none.
    pub async fn warm(&self, now: SystemTime) -> Result<(), Refusal> {
        let is_fresh = |known: &Known| !known.is_doubtful && lasts(known, now + FRESH);
        if self.known().as_ref().is_some_and(is_fresh) { Ok(()) } else { self.renew(is_fresh).await.map(drop) }
    }

    fn signed(&self, now: SystemTime, body: String, credentials: &Credentials) -> Result<reqwest::Request, Refusal> {
        let identity = credentials.clone().into();
        let unsigned = |error: &dyn Error| Refusal::new(Why::Refused, format!("the call cannot be signed: {error}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = [("content-type", FORM)];
        let signable = SignableRequest::new("POST", self.endpoint.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes()));
        let (signature, _) = sign(signable.map_err(|error| unsigned(&error))?, &params).map_err(|error| unsigned(&error))?.into_parts();
        let mut request = self.client.request(Method::POST, self.endpoint.clone()).header("content-type", FORM);
        for (name, value) in signature.headers() {
            request = request.header(name, value);
        }
        request.body(body).build().map_err(|error| unsigned(&error))
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a call: those that are known, to the last if nobody gives others.
    async fn credentials(&self, now: SystemTime) -> Result<Credentials, Refusal> {
        let known = |until| self.known().clone().filter(|known| lasts(known, until)).map(|known| known.credentials);
        match known(now + SPARE) {
            Some(credentials) => Ok(credentials),
            None => match self.renew(|known| lasts(known, now + SPARE)).await {
                Err(refusal) => known(now).ok_or(refusal),
                renewed => renewed,
            },
        }
    }

    /// As AWS's own tools find them: environment, profile, web identity, container, instance. `is_good`: of what another has got meanwhile.
    async fn renew(&self, is_good: impl Fn(&Known) -> bool) -> Result<Credentials, Refusal> {
        // All calls wait for these.
        let remedy = "give this machine a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        let none = |why: String| Refusal::new(Why::Unavailable, format!("no credentials ({why}): {remedy}"));
        let renewed = async {
            let _one = self.renewal.lock().await;
            if let Some(known) = self.known().clone().filter(|known| is_good(known)) {
                return Ok(known.credentials);
            }
            let imds = self.metadata.as_ref().and_then(|metadata| metadata.client().ok());
            let builder = DefaultCredentialsChain::builder().region(Region::new(self.region.clone()));
            let builder = imds.into_iter().fold(builder, DefaultCredentialsBuilder::imds_client);
            let chain = self.chain.get_or_init(|| builder.build()).await;
            let credentials = chain.provide_credentials().await.map_err(|error| none(told(&error)))?;
            *self.known() = Some(Known { credentials: credentials.clone(), is_doubtful: false });
            Ok(credentials)
        };
        let late = |_| none(format!("nobody answers within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, renewed).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    /// What an error says of those that the call was signed with; whoever has got others meanwhile keeps them.
    fn doubt(&self, credentials: &Credentials, code: &str) {
        let mut known = self.known();
        let Some(used) = known.as_mut().filter(|known| known.credentials == *credentials) else { return };
        used.is_doubtful |= DENIED.contains(&code);
        if VOID.contains(&code) {
            *known = None;
        }
    }

    /// Where its policy is written.
    fn document(&self) -> &'static str {
        if self.service == "autoscaling" { "docs/autoscaling.md" } else { "docs/aws.md" }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>, CommonErrors of EC2 Auto Scaling, and the errors of each call.
    fn meaning(&self, action: &str, status: u16, code: &str) -> (Why, String) {
        match code {
            "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "Client.RequestLimitExceeded" => {
                (Why::Throttled, String::new())
            }
            // Of these each call says that it may be tried later.
            "ResourceContention"
            | "ScalingActivityInProgress"
            | "ServiceUnavailable"
            | "Unavailable"
            | "InternalError"
            | "ExpiredToken"
            | "ExpiredTokenException" => (Why::Unavailable, String::new()),
            "RequestExpired" | "SignatureDoesNotMatch" => (Why::Refused, " (is this machine's clock right?)".into()),
            "InvalidClientTokenId" | "UnrecognizedClientException" | "AuthFailure" => {
                (Why::Refused, format!(" (AWS does not know these credentials; {} has the policy that the role needs)", self.document()))
            }
            _ if DENIED.contains(&code) => {
                let statement = statement(self.service, action, &["*"]);
                (Why::Refused, format!(" (its role lacks {statement}; {} has a narrower one)", self.document()))
            }
            _ => (Why::of_status(status).unwrap_or(Why::Refused), String::new()),
        }
    }
}

fn lasts(known: &Known, until: SystemTime) -> bool {
    known.credentials.expiry().is_none_or(|expiry| expiry > until)
}

/// Of a policy: what allows a call about these.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>
pub fn statement<R: AsRef<str>>(service: &str, action: &str, resources: &[R]) -> String {
    let quoted: Vec<String> = resources.iter().map(|resource| format!("{:?}", resource.as_ref())).collect();
    let resource = if let [one] = &quoted[..] { one.clone() } else { format!("[{}]", quoted.join(", ")) };
    format!(r#"{{"Effect": "Allow", "Action": "{service}:{action}", "Resource": {resource}}}"#)
}

async fn text(mut response: reqwest::Response) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            let text = format!("the answer has more than {LONGEST} bytes: is `endpoint` one of AWS's?");
            return Err(Refusal::new(Why::Refused, text));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreachable(error: reqwest::Error) -> Refusal {
    let why = if error.is_timeout() { Why::TimedOut } else { Why::Unreachable };
    let text = format!("AWS does not answer ({}): may this machine reach it, or an endpoint of the VPC?", told(&error.without_url()));
    Refusal::new(why, text)
}

/// With all its causes.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(region: &str) -> Caller {
        Caller::new("ec2", region, None, Duration::from_secs(1)).expect("a caller")
    }

    #[test]
    fn what_aws_says_is_told_apart() {
        let said = |status, code| caller("eu-central-1").meaning("AssignPrivateIpAddresses", status, code).0;
        assert_eq!(said(400, "Throttling"), Why::Throttled);
        assert_eq!(said(503, "RequestLimitExceeded"), Why::Throttled);
        assert_eq!(said(500, "ResourceContention"), Why::Unavailable);
        assert_eq!(said(400, "ScalingActivityInProgress"), Why::Unavailable);
        assert_eq!(said(400, "ValidationError"), Why::Refused);
        assert_eq!(said(403, "UnauthorizedOperation"), Why::Refused);
        assert_eq!(said(502, ""), Why::Unavailable);
        assert_eq!(said(429, ""), Why::Throttled);
    }

    #[test]
    fn a_missing_permission_is_named_with_what_mends_it() {
        let (_, remedy) = caller("eu-central-1").meaning("ReplaceRoute", 403, "UnauthorizedOperation");
        assert!(remedy.contains(r#"{"Effect": "Allow", "Action": "ec2:ReplaceRoute", "Resource": "*"}"#), "{remedy}");
    }

    #[test]
    fn each_region_has_its_place() {
        for (region, place) in
            [("eu-central-1", "https://ec2.eu-central-1.amazonaws.com/"), ("cn-north-1", "https://ec2.cn-north-1.amazonaws.com.cn/")]
        {
            assert_eq!(caller(region).endpoint().as_str(), place);
        }
    }

    fn credentials(key: &str, expiry: Option<SystemTime>) -> Credentials {
        Credentials::new(key, "secret", None, expiry, "a test")
    }

    fn knowing(credentials: &Credentials) -> Caller {
        let caller = caller("eu-central-1");
        *caller.known() = Some(Known { credentials: credentials.clone(), is_doubtful: false });
        caller
    }

    /// Or one error would have the next claim wait for others.
    #[test]
    fn credentials_outlive_errors_that_are_not_theirs() {
        let mine = credentials("AKIAMINE", None);
        let after = |used: &Credentials, code: &str| {
            let caller = knowing(&mine);
            caller.doubt(used, code);
            let known = caller.known().clone();
            known.map(|known| known.is_doubtful)
        };
        for code in ["InternalError", "InvalidParameterValue", "RequestLimitExceeded", ALLOWED, ""] {
            assert_eq!(after(&mine, code), Some(false), "{code}");
        }
        // Another role may be there by now: that is asked beside calls.
        assert_eq!(after(&mine, "UnauthorizedOperation"), Some(true));
        assert_eq!(after(&mine, "ExpiredToken"), None);
        assert_eq!(after(&credentials("AKIAOLD", None), "ExpiredToken"), Some(false), "others have been got meanwhile");
    }

    #[tokio::test]
    async fn credentials_serve_to_their_end_if_nobody_gives_others() {
        let now = SystemTime::now();
        let ending = knowing(&credentials("AKIAENDING", Some(now + SPARE / 2)));
        // Somebody else asks, and gets no answer.
        let _asking = ending.renewal.lock().await;
        assert_eq!(ending.credentials(now).await.map(|found| found.access_key_id().to_owned()), Ok("AKIAENDING".into()));
        assert!(ending.warm(now).await.is_err_and(|refusal| refusal.failure.text.contains("nobody answers within 1s")));
        assert!(ending.credentials(now + SPARE).await.is_err());
        // Those that last are not waited for.
        let fresh = knowing(&credentials("AKIAFRESH", Some(now + FRESH / 2)));
        let _asking = fresh.renewal.lock().await;
        assert!(futures::FutureExt::now_or_never(fresh.credentials(now)).is_some_and(|found| found.is_ok()));
    }
}
