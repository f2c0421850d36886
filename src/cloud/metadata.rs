//! What an EC2 instance is told of itself: the Instance Metadata Service, version 2 alone.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use super::aws::told;
use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// What the instance is about to become: `InService`, `Terminated`, `Standby` and others. Only of an instance of an Auto Scaling group.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html>
pub const TARGET_LIFECYCLE_STATE: &str = "autoscaling/target-lifecycle-state";

/// It is a hop away. Whoever asks decides when to ask again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds that a token is good for. It is renewed two minutes before its end.
const TOKEN: Duration = Duration::from_secs(300);

/// Asks it, again and again, with a token that is renewed in time.
#[derive(Debug)]
pub struct Metadata {
    endpoint: Url,
    client: Mutex<Option<Client>>,
}

/// There is no answer that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error(
        "{endpoint} does not answer ({why}): is this an EC2 instance, with metadata enabled (HttpEndpoint), and in reach of as many hops as there are (HttpPutResponseHopLimit: 2 in a container)?"
    )]
    Silent { endpoint: Url, why: String },
    #[error("{endpoint} answers with {status}: are metadata enabled for this instance (HttpEndpoint)?")]
    Refused { endpoint: Url, status: u16 },
}

impl Metadata {
    pub fn new(endpoint: &Url) -> Self {
        Self { endpoint: endpoint.clone(), client: Mutex::new(None) }
    }

    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// An item below `/latest/meta-data/`. None: this instance has none of that name.
    pub async fn get(&self, item: &str) -> Result<Option<String>, Failure> {
        let known = self.known().clone();
        let client = known.map_or_else(|| self.client(), Ok)?;
        match client.get(format!("/latest/meta-data/{item}")).await {
            Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
            Err(error) => {
                // Whatever it was, the next one begins with a new token.
                *self.known() = None;
                Err(self.failure(&error))
            }
        }
    }

    /// For whoever finds credentials there.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        // Without a proxy, whatever the environment names: a token is for this machine alone.
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
        let builder = Client::builder().configure(&ProviderConfig::default().with_http_client(http)).max_attempts(1).token_ttl(TOKEN);
        let builder = builder.connect_timeout(PATIENCE).read_timeout(PATIENCE).operation_timeout(2 * PATIENCE);
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        let builder = builder.endpoint(endpoint).map_err(|error| self.silent(&*error))?;
        Ok(self.known().insert(builder.build()).clone())
    }

    fn failure(&self, error: &ImdsError) -> Failure {
        match error {
            ImdsError::ErrorResponse(answer) => {
                Failure::Refused { endpoint: self.endpoint.clone(), status: answer.response().status().as_u16() }
            }
            other => self.silent(other),
        }
    }

    fn silent(&self, error: &(dyn Error + 'static)) -> Failure {
        Failure::Silent { endpoint: self.endpoint.clone(), why: told(error) }
    }

    fn known(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
