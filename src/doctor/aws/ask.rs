//! What is to be asked of instance metadata and of EC2, where nothing is changed: calls that do something are tried out (`DryRun`).

use super::{HaVip, Instance, Refused, Seen, all_havips, attach};
use crate::cloud::aws::{Caller, Refusal};
use crate::cloud::ec2::interfaces as ec2_interfaces;
use crate::cloud::metadata::{self, Metadata, Reach};
use crate::config::{Aws, Gateway};
use crate::kernel::Survey;
use crate::model::{AllocationId, EniId, Failure, IfName, RouteTableId, SecurityGroupId, Why};
use crate::wire::arp;
use crate::wire::ec2::{self, Call, Interface, Interfaces, Unreadable};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::{sleep, timeout};

/// For an answer to one call.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the answers to all.
const BOUND: Duration = Duration::from_secs(15);
/// For what metadata say of the instance, and of each of its interfaces.
const TOLD: Duration = Duration::from_secs(4);
/// After a call that was throttled; twice as long after the next.
const PAUSE: Duration = Duration::from_millis(300);
/// Calls at once.
const AT_ONCE: usize = 8;
/// Values of a filter.
const VALUES: usize = 200;
/// Hosts whose interfaces are asked for: many have one security group.
const HOSTS: usize = 400;

/// Asks in the network namespace of this process, and comes to an end whoever answers.
pub async fn look(gateway: &Gateway, aws: &Aws) -> Seen {
    let metadata = Arc::new(Metadata::new(&aws.metadata));
    let mut seen = Seen::new(metadata.reach().await);
    if seen.reach != Reach::Answers {
        return seen;
    }
    let late = || format!("{} does not answer within {} s", metadata.endpoint(), TOLD.as_secs());
    let instance = match timeout(TOLD, instance(&metadata)).await.unwrap_or_else(|_| Err(late())) {
        Ok(instance) => instance,
        Err(why) => {
            seen.instance = Some(Err(why));
            return seen;
        }
    };
    seen.instance = Some(Ok(instance.clone()));
    let interfaces: BTreeSet<&IfName> =
        [&gateway.platform.interface].into_iter().chain(gateway.tenants.iter().map(|tenant| &tenant.interface)).collect();
    let found = join_all(interfaces.into_iter().map(|name| own(&metadata, name))).await;
    seen.own.extend(found);
    if aws.region.as_ref().is_some_and(|region| *region != instance.region) {
        return seen;
    }
    let caller = Caller::new("ec2", &instance.region, aws.endpoint.as_ref(), PATIENCE).map_err(|error| error.to_string());
    let ready = match caller {
        Ok(caller) => {
            let caller = caller.with_metadata(metadata);
            caller.warm(SystemTime::now()).await.map(|()| caller).map_err(|refusal| refusal.to_string())
        }
        Err(why) => Err(why),
    };
    seen.credentials = Some(ready.as_ref().map(drop).map_err(Clone::clone));
    if let Ok(caller) = ready {
        let asker = Asker { caller, until: Instant::now() + BOUND };
        asker.describe(&mut seen, gateway, aws, &instance).await;
        let silent = |refused: &Refused| matches!(refused.refusal.failure.why, Why::TimedOut | Why::Unreachable);
        if seen.allowed.is_empty() && seen.refused.iter().all(silent) {
            return seen;
        }
        asker.try_out(&mut seen, gateway, aws, &instance).await;
    }
    seen
}

async fn instance(metadata: &Metadata) -> Result<Instance, String> {
    let asked = |item: &'static str| async move { metadata.get(item).await.map_err(|failure| failure.to_string()) };
    let required = |item: &'static str| async move {
        let said = asked(item).await?;
        said.ok_or_else(|| format!("{} has no {item}: is this an EC2 instance?", metadata.endpoint()))
    };
    Ok(Instance {
        id: required("instance-id").await?,
        region: required("placement/region").await?,
        zone: required("placement/availability-zone").await?,
        role: asked("iam/security-credentials/").await?.filter(|role| !role.is_empty()),
    })
}

async fn own(metadata: &Metadata, name: &IfName) -> (IfName, Result<metadata::Interface, String>) {
    let found = async {
        let mac = Survey::mac(name).map_err(|error| error.to_string())?;
        let mac = mac.ok_or_else(|| format!("there is no interface {name} with a MAC here: is its ENI attached, and called so?"))?;
        let mac = arp::written(mac);
        let found = metadata.interface(&mac).await.map_err(|failure| failure.to_string())?;
        found.ok_or_else(|| format!("{name} ({mac}) is no ENI of this instance's: the configuration has to name the interface of one"))
    };
    let late = |_| Err(format!("{}, asked for {name}, does not answer within {} s", metadata.endpoint(), TOLD.as_secs()));
    (name.clone(), timeout(TOLD, found).await.unwrap_or_else(late))
}

struct Asker {
    caller: Caller,
    until: Instant,
}

/// A call, with what it is about.
pub(super) struct Question {
    action: &'static str,
    form: String,
    /// Whether it is allowed is all that is asked.
    dry: bool,
    about: Vec<String>,
}

impl Question {
    fn look(call: Call<'_>, about: impl IntoIterator<Item = String>) -> Self {
        Self { action: call.action(), form: call.form(false), dry: false, about: about.into_iter().collect() }
    }

    pub(super) fn dry(call: Call<'_>, about: impl IntoIterator<Item = String>) -> Self {
        Self { action: call.action(), form: call.form(true), dry: true, about: about.into_iter().collect() }
    }

    fn refused(&self, refusal: Refusal) -> Refused {
        Refused { action: self.action, about: self.about.clone(), dry: self.dry, refusal }
    }

    fn failed(&self, why: Why, text: String) -> Refused {
        self.refused(Refusal { code: String::new(), failure: Failure { why, text, after: None } })
    }
}

impl Asker {
    async fn describe(&self, seen: &mut Seen, gateway: &Gateway, aws: &Aws, instance: &Instance) {
        let havips = all_havips(gateway, aws);
        let own: Vec<EniId> = seen.own.values().flatten().map(|own| own.id.clone()).collect();
        let addresses = of_interest(gateway, &havips);
        let these = (!own.is_empty()).then_some(Interfaces::These(&own));
        let having = addresses.chunks(VALUES).map(Interfaces::Having);
        let interfaces = join_all(these.into_iter().chain(having).map(|of| self.interfaces(of)));
        let pools = join_all(attach::attached(gateway).map(|(tenant, of)| async move {
            (&tenant.name, self.interfaces(Interfaces::Tagged { zone: &instance.zone, tags: &of.tags }).await)
        }));
        let tables: Vec<RouteTableId> = havips.iter().flat_map(HaVip::tables).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let tables = self.each(
            &tables,
            |some| Question::look(Call::DescribeRouteTables { tables: some }, some.iter().map(RouteTableId::to_string)),
            ec2::tables,
        );
        let public: BTreeSet<AllocationId> = havips.iter().filter_map(|havip| havip.public.cloned()).collect();
        let public: Vec<AllocationId> = public.into_iter().collect();
        let elastics = self.each(
            &public,
            |some| Question::look(Call::DescribeAddresses { allocations: some }, some.iter().map(AllocationId::to_string)),
            ec2::elastics,
        );
        let (interfaces, pools, tables, elastics) = tokio::join!(interfaces, pools, tables, elastics);
        for interface in seen.take("DescribeNetworkInterfaces", interfaces) {
            if !seen.interfaces.iter().any(|known| known.id == interface.id) {
                seen.interfaces.push(interface);
            }
        }
        for (tenant, pool) in pools {
            let is_known = pool.is_ok();
            let pool = seen.take("DescribeNetworkInterfaces", vec![pool]);
            if is_known {
                seen.pools.insert(tenant.clone(), pool);
            }
        }
        seen.tables = seen.take("DescribeRouteTables", tables);
        seen.elastics = seen.take("DescribeAddresses", elastics);
    }

    async fn try_out(&self, seen: &mut Seen, gateway: &Gateway, aws: &Aws, instance: &Instance) {
        let own: Vec<&EniId> = seen.own.values().flatten().map(|own| &own.id).collect();
        let of_own = seen.interfaces.iter().filter(|interface| own.contains(&&interface.id));
        let groups: BTreeSet<SecurityGroupId> = of_own.flat_map(|interface| interface.groups().cloned()).collect();
        let groups: Vec<SecurityGroupId> = groups.into_iter().collect();
        let mut trials = trials(seen, &all_havips(gateway, aws), &instance.region);
        trials.extend(attach::trials(seen, gateway, instance));
        let groups = self.each(
            &groups,
            |some| Question::look(Call::DescribeSecurityGroups { groups: some }, some.iter().map(SecurityGroupId::to_string)),
            ec2::security_groups,
        );
        let trials = stream::iter(trials).map(|question| async move {
            let tried = self.say(&question).await;
            (question.action, tried)
        });
        let (groups, tried) = tokio::join!(groups, trials.buffer_unordered(AT_ONCE).collect::<Vec<_>>());
        seen.groups = seen.take("DescribeSecurityGroups", groups);
        for (action, tried) in tried {
            match tried {
                Ok(_) => drop(seen.allowed.insert(action)),
                Err(refused) => seen.refused.push(refused),
            }
        }
    }

    /// Page by page.
    async fn interfaces(&self, of: Interfaces<'_>) -> Result<Vec<Interface>, Refused> {
        let about: Vec<String> = match of {
            Interfaces::These(enis) => enis.iter().map(EniId::to_string).collect(),
            Interfaces::Having(_) | Interfaces::Tagged { .. } => vec![],
        };
        let question = |form| Question { form, ..Question::look(Call::DescribeNetworkInterfaces { of }, about.clone()) };
        let odd = |unreadable: Unreadable| question(String::new()).failed(Why::Unavailable, unreadable.to_string());
        ec2_interfaces(of, |form| async { self.say(&question(form)).await }, odd).await
    }

    /// All at once; each alone, if one of them is not there.
    async fn each<I, T>(
        &self,
        ids: &[I],
        question: impl Fn(&[I]) -> Question,
        read: fn(&str) -> Result<Vec<T>, Unreadable>,
    ) -> Vec<Result<Vec<T>, Refused>> {
        if ids.is_empty() {
            return vec![];
        }
        match self.get(question(ids), read).await {
            Err(refused) if ids.len() > 1 && refused.refusal.code.ends_with(".NotFound") => {
                let alone: Vec<Question> = ids.chunks(1).map(&question).collect();
                stream::iter(alone).map(|one| self.get(one, read)).buffered(AT_ONCE).collect().await
            }
            other => vec![other],
        }
    }

    async fn get<T>(&self, question: Question, read: fn(&str) -> Result<Vec<T>, Unreadable>) -> Result<Vec<T>, Refused> {
        let xml = self.say(&question).await?;
        read(&xml).map_err(|error| question.failed(Why::Unavailable, error.to_string()))
    }

    /// Again while it is throttled, as long as there is time.
    async fn say(&self, question: &Question) -> Result<String, Refused> {
        let mut pause = PAUSE;
        loop {
            let left = PATIENCE.min(self.until.saturating_duration_since(Instant::now()));
            let (now, form) = (SystemTime::now(), question.form.clone());
            let call = async {
                if question.dry {
                    self.caller.try_out(now, question.action, form).await.map(|()| String::new())
                } else {
                    self.caller.call(now, question.action, form).await
                }
            };
            let Ok(said) = timeout(left, call).await else {
                let text =
                    format!("AWS does not answer within {} s: may this machine reach it, or an endpoint of the VPC?", PATIENCE.as_secs());
                return Err(question.failed(Why::TimedOut, text));
            };
            match said {
                Err(refusal) if refusal.failure.why == Why::Throttled && Instant::now() + pause < self.until => sleep(pause).await,
                said => return said.map_err(|refusal| question.refused(refusal)),
            }
            pause *= 2;
        }
    }
}

impl Seen {
    /// What came of calls of one action.
    fn take<T>(&mut self, action: &'static str, answers: Vec<Result<Vec<T>, Refused>>) -> Vec<T> {
        let mut all = vec![];
        for answer in answers {
            match answer {
                Ok(some) => {
                    self.allowed.insert(action);
                    all.extend(some);
                }
                Err(refused) => self.refused.push(refused),
            }
        }
        all
    }
}

/// Addresses of which it matters whose they are: HaVips, nodes', and those of hosts that are known.
fn of_interest(gateway: &Gateway, havips: &[HaVip<'_>]) -> Vec<IpAddr> {
    let nodes = gateway.ha.iter().flat_map(|ha| ha.nodes.values().copied());
    let hosts = gateway.peers.iter().filter_map(|peer| peer.outer()).take(HOSTS);
    let all = havips.iter().map(|havip| havip.address).chain(nodes).chain(hosts).filter(IpAddr::is_ipv4);
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What policies call a thing of EC2's, in whatever account.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
pub(super) fn arn(region: &str, kind: &str, id: impl Display) -> String {
    let partition = match region {
        china if china.starts_with("cn-") => "aws-cn",
        government if government.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:ec2:{region}:*:{kind}/{id}")
}

/// What the gateway will call, of what it is configured to have and what is there.
fn trials(seen: &Seen, havips: &[HaVip<'_>], region: &str) -> Vec<Question> {
    let arn = |kind, id: &dyn Display| arn(region, kind, id);
    let is_there = |id: &dyn Display| {
        let id = id.to_string();
        !seen.refused.iter().any(|refused| refused.refusal.code.ends_with(".NotFound") && refused.about == [id.as_str()])
    };
    let mut all = vec![];
    for (name, own) in &seen.own {
        let Ok(own) = own else { continue };
        let here = || havips.iter().filter(|havip| havip.interface == *name);
        let addresses: Vec<IpAddr> = here().filter(|havip| havip.is_within(own)).map(|havip| havip.address).collect();
        if !addresses.is_empty() {
            let call = Call::AssignPrivateIpAddresses { eni: &own.id, addresses: &addresses };
            all.push(Question::dry(call, [arn("network-interface", &own.id)]));
        }
        let mut tables = BTreeSet::new();
        for (havip, table) in here().filter(|havip| !havip.is_within(own)).flat_map(|havip| havip.tables().map(move |table| (havip, table)))
        {
            if is_there(table) && tables.insert(table) {
                let to = IpNet::from(havip.address);
                for call in [Call::ReplaceRoute { table, to, eni: &own.id }, Call::CreateRoute { table, to, eni: &own.id }] {
                    all.push(Question::dry(call, [arn("route-table", table)]));
                }
            }
        }
        let public = here().filter(|havip| havip.is_within(own)).filter_map(|havip| Some((havip, havip.public?)));
        for (havip, allocation) in public.filter(|(_, allocation)| is_there(allocation)) {
            let call = Call::AssociateAddress { allocation, eni: &own.id, address: havip.address };
            all.push(Question::dry(call, [arn("elastic-ip", allocation), arn("network-interface", &own.id)]));
        }
    }
    all
}
