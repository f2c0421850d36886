//! As much of EC2 Auto Scaling as an autoscaler needs, on loopback: groups, instances and their lifecycle, hooks, throttling, refusals; and of EC2 what an
//! instance is told of itself ([`metadata`]).
//!
//! It answers as <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/> says, and forgets nothing that it was asked.

pub mod ec2;
pub mod gateways;
pub mod metadata;

use axum::Router;
use axum::extract::State;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The access key that is good here.
pub const ACCESS_KEY: &str = "AKIDPORTWAYLAB";

/// An account with its groups, in one region. It ends with the runtime that it was started on.
#[derive(Debug, Clone)]
pub struct Cloud {
    pub endpoint: String,
    account: Arc<Mutex<Account>>,
}

#[derive(Debug, Default)]
struct Account {
    groups: BTreeMap<String, Group>,
    launched: u32,
    calls: Vec<String>,
    /// Over which there was a call.
    connections: BTreeSet<u64>,
    faults: Vec<(&'static str, u16, &'static str)>,
    /// Instances whose calls are lost on their way, and whose answers are.
    cut_off: BTreeSet<String>,
    ec2: ec2::Ec2,
}

/// An account, as whoever reaches a listener has it.
#[derive(Debug, Clone)]
struct Door {
    account: Arc<Mutex<Account>>,
    /// Whose calls come here; none: whoever's.
    of: Option<String>,
}

#[derive(Debug)]
struct Group {
    min: u32,
    max: u32,
    desired: u32,
    /// From a launch to an instance that is in service.
    boot: Duration,
    hook: Option<Hook>,
    instances: Vec<Instance>,
}

/// In which instances wait before they end.
#[derive(Debug, Clone)]
pub struct Hook {
    pub name: String,
    /// How long, if nobody says anything.
    pub timeout: Duration,
}

#[derive(Debug)]
struct Instance {
    id: String,
    state: Lifecycle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Pending { until: Instant },
    InService,
    Waits { until: Instant },
}

impl Lifecycle {
    /// As AWS writes it.
    fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Pending { .. } => "Pending",
            Lifecycle::InService => "InService",
            Lifecycle::Waits { .. } => "Terminating:Wait",
        }
    }
}

/// One that was accepted; its number is no other's.
#[derive(Debug, Clone, Copy)]
struct Connection(u64);

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Relaxed))
    }
}

/// Status, code, message.
type Refusal = (u16, &'static str, String);

impl Cloud {
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let cloud = Self { endpoint, account: Arc::default() };
        cloud.serve(listener, None);
        Ok(cloud)
    }

    /// The same account once more, for an instance: by a listener in its namespace.
    pub fn also_at(&self, instance: &str, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.serve(TcpListener::from_std(listener)?, Some(instance.to_owned()));
        Ok(())
    }

    /// Whatever this instance calls, and what it is answered, gets lost from now on. What was lost stays so.
    pub fn cut_off(&self, instance: &str) {
        self.account().cut_off.insert(instance.to_owned());
    }

    /// Its calls arrive again.
    pub fn reconnect(&self, instance: &str) {
        self.account().cut_off.remove(instance);
    }

    fn serve(&self, listener: TcpListener, of: Option<String>) {
        let routes = Router::new().route("/", post(answer)).with_state(Door { account: self.account.clone(), of });
        let service = routes.into_make_service_with_connect_info::<Connection>();
        tokio::spawn(async move { axum::serve(listener, service).await });
    }

    /// A group whose `desired` instances are in service.
    pub fn group(&self, name: &str, (min, max): (u32, u32), desired: u32, boot: Duration, hook: Option<Hook>) {
        let mut account = self.account();
        let mut group = Group { min, max, desired, boot, hook, instances: vec![] };
        account.launch(&mut group, Duration::ZERO);
        account.groups.insert(name.to_owned(), group);
    }

    /// By somebody else than who calls.
    pub fn desire(&self, name: &str, nodes: u32) {
        // Of groups that there are, and as nobody refuses an operator here.
        let _ = self.account().desire(name, nodes);
    }

    /// The next calls of this action are answered so: status and code.
    pub fn refuse(&self, action: &'static str, faults: impl IntoIterator<Item = (u16, &'static str)>) {
        self.account().faults.extend(faults.into_iter().map(|(status, code)| (action, status, code)));
    }

    pub fn desired(&self, name: &str) -> Option<u32> {
        self.account().groups.get(name).map(|group| group.desired)
    }

    /// Id and lifecycle state.
    pub fn instances(&self, name: &str) -> Vec<(String, &'static str)> {
        let mut account = self.account();
        account.settle();
        let instances = account.groups.get(name).into_iter().flat_map(|group| &group.instances);
        instances.map(|instance| (instance.id.clone(), instance.state.as_str())).collect()
    }

    /// How often this was asked.
    pub fn called(&self, action: &str) -> usize {
        self.account().calls.iter().filter(|call| *call == action).count()
    }

    /// Over how many connections there was a call.
    pub fn connections(&self) -> usize {
        self.account().connections.len()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// What has come about by itself.
    fn settle(&mut self) {
        let now = Instant::now();
        for group in self.groups.values_mut() {
            group.instances.retain(|instance| !matches!(instance.state, Lifecycle::Waits { until } if until <= now));
            for instance in &mut group.instances {
                if matches!(instance.state, Lifecycle::Pending { until } if until <= now) {
                    instance.state = Lifecycle::InService;
                }
            }
        }
    }

    /// What an instance is about to become. None: there never was one of this id.
    fn target(&mut self, id: &str) -> Option<&'static str> {
        self.settle();
        let instance = self.groups.values().flat_map(|group| &group.instances).find(|instance| instance.id == id);
        match instance.map(|instance| instance.state) {
            Some(Lifecycle::Pending { .. } | Lifecycle::InService) => Some("InService"),
            Some(Lifecycle::Waits { .. }) => Some("Terminated"),
            None => (1..=self.launched).any(|number| self::id(number) == id).then_some("Terminated"),
        }
    }

    fn launch(&mut self, group: &mut Group, boot: Duration) {
        let stay = |instance: &&Instance| !matches!(instance.state, Lifecycle::Waits { .. });
        let until = Instant::now() + boot;
        let state = if boot.is_zero() { Lifecycle::InService } else { Lifecycle::Pending { until } };
        while group.instances.iter().filter(stay).count() < group.desired as usize {
            self.launched += 1;
            group.instances.push(Instance { id: id(self.launched), state });
        }
    }

    fn desire(&mut self, name: &str, nodes: u32) -> Result<(), Refusal> {
        let mut group = self.groups.remove(name).ok_or_else(|| no_group(name))?;
        group.desired = nodes;
        let boot = group.boot;
        self.launch(&mut group, boot);
        let until = group.hook.as_ref().map(|hook| Instant::now() + hook.timeout);
        let waits = |instance: &Instance| matches!(instance.state, Lifecycle::Waits { .. });
        let mut surplus = group.instances.iter().filter(|instance| !waits(instance)).count().saturating_sub(nodes as usize);
        // The oldest go first.
        group.instances.retain_mut(|instance| {
            if surplus == 0 || waits(instance) {
                return true;
            }
            surplus -= 1;
            instance.state = until.map_or(instance.state, |until| Lifecycle::Waits { until });
            until.is_some()
        });
        self.groups.insert(name.to_owned(), group);
        Ok(())
    }

    fn answer(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        self.settle();
        let get = |name: &str| form.get(name).map(String::as_str).ok_or_else(|| invalid(format!("The parameter {name} is required")));
        match get("Action")? {
            "DescribeAutoScalingGroups" => Ok(self.describe(get("AutoScalingGroupNames.member.1")?)),
            "SetDesiredCapacity" => {
                let name = get("AutoScalingGroupName")?;
                let nodes: u32 = get("DesiredCapacity")?.parse().map_err(|_| invalid("DesiredCapacity must be a number".into()))?;
                let group = self.groups.get(name).ok_or_else(|| no_group(name))?;
                let what = format!("New SetDesiredCapacity value {nodes} is");
                if nodes > group.max {
                    return Err(invalid(format!("{what} above max value {} for the AutoScalingGroup.", group.max)));
                }
                if nodes < group.min {
                    return Err(invalid(format!("{what} below min value {} for the AutoScalingGroup.", group.min)));
                }
                self.desire(name, nodes).map(|()| String::new())
            }
            action @ ("CompleteLifecycleAction" | "RecordLifecycleActionHeartbeat") => {
                let (name, id, hook) = (get("AutoScalingGroupName")?, get("InstanceId")?, get("LifecycleHookName")?);
                let group = self.groups.get_mut(name).ok_or_else(|| no_group(name))?;
                let known = group.hook.clone().filter(|known| known.name == hook);
                let waits = group.instances.iter().position(|one| one.id == id && matches!(one.state, Lifecycle::Waits { .. }));
                let (Some(hook), Some(at)) = (known, waits) else {
                    return Err(invalid(format!("No active Lifecycle Action found with instance ID {id}")));
                };
                if action == "CompleteLifecycleAction" {
                    group.instances.remove(at);
                } else {
                    group.instances[at].state = Lifecycle::Waits { until: Instant::now() + hook.timeout };
                }
                Ok(String::new())
            }
            other => Err((400, "InvalidAction", format!("Could not find operation {other} for version 2011-01-01"))),
        }
    }

    fn describe(&self, name: &str) -> String {
        let mut members = String::new();
        if let Some(Group { min, max, desired, instances, .. }) = self.groups.get(name) {
            let instances: String = instances.iter().fold(String::new(), |mut all, Instance { id, state }| {
                let state = state.as_str();
                let _ = write!(all, "<member><InstanceId>{id}</InstanceId><LifecycleState>{state}</LifecycleState><HealthStatus>Healthy</HealthStatus></member>");
                all
            });
            members = format!(
                "<member><AutoScalingGroupName>{name}</AutoScalingGroupName><MinSize>{min}</MinSize><MaxSize>{max}</MaxSize>\
                 <DesiredCapacity>{desired}</DesiredCapacity><DefaultCooldown>300</DefaultCooldown><Instances>{instances}</Instances></member>"
            );
        }
        format!("<AutoScalingGroups>{members}</AutoScalingGroups>")
    }
}

async fn answer(
    State(Door { account, of }): State<Door>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let action = form.get("Action").cloned().unwrap_or_default();
    let lock = || account.lock().unwrap_or_else(PoisonError::into_inner);
    let is_cut_off = || of.as_ref().is_some_and(|instance| lock().cut_off.contains(instance));
    let service = signed(&headers);
    let is_new = lock().connections.insert(connection.0);
    let latency = if service == Ok(Service::Ec2) { lock().ec2_latency() } else { Duration::ZERO };
    let handshake = if is_new { lock().ec2_handshake() } else { Duration::ZERO };
    tokio::time::sleep(handshake + latency).await;
    if is_cut_off() {
        return std::future::pending().await;
    }
    if lock().is_silent(&action) {
        lock().calls.push(action);
        return std::future::pending().await;
    }
    let answer = {
        let mut account = lock();
        account.calls.push(action.clone());
        let fault = account.faults.iter().position(|(of, ..)| *of == action).map(|at| account.faults.remove(at));
        match (&service, fault) {
            (Err(refusal), _) => Err(refusal.clone()),
            (Ok(_), Some((_, status, code))) => Err((status, code, "as the lab was told".to_owned())),
            (Ok(Service::Autoscaling), None) => account.answer(&form),
            (Ok(Service::Ec2), None) => account.answer_ec2(&form),
        }
    };
    tokio::time::sleep(latency).await;
    if is_cut_off() {
        return std::future::pending().await;
    }
    let (status, text) = if service == Ok(Service::Ec2) { as_ec2(&action, answer) } else { as_autoscaling(&action, answer) };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, "text/xml")], text).into_response();
    if !status.is_success() {
        // As EC2 does: whoever comes back after an error connects anew.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

const REQUEST: &str = "7c6e177f-f082-11e1-ac58-3714b0000000";

fn as_autoscaling(action: &str, answer: Result<String, Refusal>) -> (u16, String) {
    const XMLNS: &str = "xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"";
    match answer {
        Ok(result) => {
            let metadata = format!("<ResponseMetadata><RequestId>{REQUEST}</RequestId></ResponseMetadata>");
            (200, format!("<{action}Response {XMLNS}><{action}Result>{result}</{action}Result>{metadata}</{action}Response>"))
        }
        Err((status, code, message)) => {
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            (status, format!("<ErrorResponse {XMLNS}>{error}<RequestId>{REQUEST}</RequestId></ErrorResponse>"))
        }
    }
}

fn as_ec2(action: &str, answer: Result<String, Refusal>) -> (u16, String) {
    const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    match answer {
        Ok(result) => {
            let xmlns = "xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"";
            (200, format!("{XML}<{action}Response {xmlns}><requestId>{REQUEST}</requestId>{result}</{action}Response>"))
        }
        Err((status, code, message)) => {
            let error = format!("<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>");
            (status, format!("{XML}<Response>{error}<RequestID>{REQUEST}</RequestID></Response>"))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Autoscaling,
    Ec2,
}

/// Whether there is a signature of version 4 for one of the services, by our key; what it is worth, only the holder of the secret knows.
fn signed(headers: &HeaderMap) -> Result<Service, Refusal> {
    let refused = |code, message: &str| (403, code, message.to_owned());
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let value = value.ok_or(refused("MissingAuthenticationToken", "Request is missing Authentication Token"))?;
    let incomplete = || refused("IncompleteSignature", "Authorization header is none of AWS4-HMAC-SHA256");
    let parts = value.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
    let part = |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name)).ok_or_else(incomplete);
    let (scope, names, signature) = (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
    let scope: Vec<&str> = scope.split('/').collect();
    let [key, date, _region, service, "aws4_request"] = scope[..] else { return Err(incomplete()) };
    let service = match service {
        "autoscaling" => Service::Autoscaling,
        "ec2" => Service::Ec2,
        _ => return Err(incomplete()),
    };
    let time = headers.get("x-amz-date").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let covers = |name: &str| names.split(';').any(|covered| covered == name);
    let is_whole = time.starts_with(date) && covers("host") && covers("x-amz-date");
    if !is_whole || signature.len() != 64 || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(incomplete());
    }
    if key != ACCESS_KEY {
        return Err(refused("InvalidClientTokenId", "The security token included in the request is invalid."));
    }
    Ok(service)
}

fn id(number: u32) -> String {
    format!("i-{number:017x}")
}

fn invalid(message: String) -> Refusal {
    (400, "ValidationError", message)
}

fn no_group(name: &str) -> Refusal {
    invalid(format!("AutoScalingGroup name not found - {name}"))
}
