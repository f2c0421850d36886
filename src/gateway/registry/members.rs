//! This gateway as a node of its group: what it says of itself to the directory, what the directory says of the others, and the file in which that is
//! kept for the next process, `STATE_DIR/group.json`.

use super::{Inner, Registry, lock, now};
use crate::config::{DirectoryAt, Gateway};
use crate::daemon::state_file;
use crate::directory::client::ClientError;
use crate::directory::types::{Assignment, Member, MemberSpec};
use crate::gateway::members::{self, Known, Own};
use crate::metrics::Page;
use crate::model::{NodeName, TenantShard};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

const NAME: &str = "group.json";
const VERSION: u32 = 1;
/// Bytes; 64 nodes of thousands of shards take 10 MB.
const LONGEST: u64 = 64 << 20;
/// That it is still in force is written down this often.
const WRITE_AGAIN: Duration = Duration::from_secs(60);
/// Of an orderly end, for the last word.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Whose it is.
    gateway: NodeName,
    address: IpAddr,
    directory: String,
    /// Seconds since 1970, when it was in force.
    until: u64,
    #[serde(flatten)]
    known: Known,
}

/// What is in force at this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last change of the group that is.
    pub heeds: u64,
    pub known: Option<Known>,
    /// Shards that it has, or whose connections it keeps.
    pub served: BTreeSet<TenantShard>,
}

impl Standing {
    pub fn own(&self) -> Option<&Own> {
        self.known.as_ref()?.own.as_ref()
    }
}

#[derive(Debug, Default)]
pub(super) struct Membership {
    /// None: there is no group.
    pub(super) address: Option<IpAddr>,
    /// The directory says who the nodes are.
    by_directory: bool,
    said: Mutex<Said>,
    /// What the directory has said of the group, until it is fetched.
    news: Mutex<Option<Vec<Member>>>,
    /// The last that it was.
    told: Mutex<Vec<Member>>,
    /// Rung with it.
    again: Mutex<Option<Arc<Notify>>>,
    standing: watch::Sender<Standing>,
    /// What the directory has answered, to whoever waits for it.
    answer: watch::Sender<Answer>,
}

#[derive(Debug, Default)]
struct Said {
    /// What is to be said of it next.
    leaving: Option<bool>,
    /// It has left, for good.
    gone: bool,
}

/// What the directory makes of what this gateway says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its entry, as the directory has it.
    pub own: Option<Member>,
    /// It did not take what was said last.
    pub refused: bool,
    /// Why, the last time that it did not; and how often that was.
    pub why: String,
    pub refusals: u64,
}

impl Membership {
    pub(super) fn of(config: &Gateway) -> Self {
        let Some(ha) = &config.ha else { return Self::default() };
        let by_directory = ha.by_directory();
        let said = Said { leaving: (!by_directory).then(|| ha.leaving.contains(&config.node)), gone: false };
        Self { address: Some(config.platform.address), by_directory, said: Mutex::new(said), ..Self::default() }
    }

    /// The file's lists may be others.
    pub(super) fn reload(&self, config: &Gateway) {
        if let Some(ha) = config.ha.as_ref().filter(|ha| !ha.by_directory()) {
            lock(&self.said).leaving = Some(ha.leaving.contains(&config.node));
        }
    }

    /// What is to be said, if the directory has this of it; none: nothing.
    fn to_say(&self, present: Option<&Member>) -> Option<MemberSpec> {
        let (address, said) = (self.address?, lock(&self.said));
        let heeds = self.standing.borrow().heeds;
        let is_so = present.is_some_and(|present| {
            present.address == address && present.heeds >= heeds && said.leaving.is_none_or(|leaving| leaving == present.leaving)
        });
        (!is_so && !said.gone).then_some(MemberSpec { address, leaving: said.leaving, heeds })
    }

    pub(super) fn is_untold(&self) -> bool {
        self.answer.borrow().refused
    }

    pub(super) fn metrics(&self, out: &mut Page) {
        if self.address.is_some() {
            let help = "Times that the directory did not take what this gateway says of itself as a node of its group";
            out.counter("portway_directory_refused_member", help, &[], self.answer.borrow().refusals);
        }
    }

    pub(super) fn status(&self) -> serde_json::Value {
        let answer = self.answer.borrow();
        match (self.address, answer.refused, &answer.own) {
            (None, ..) => serde_json::Value::Null,
            (Some(_), true, _) => json!(format!("refused: {}", answer.why)),
            (Some(_), false, Some(_)) => json!("told"),
            (Some(_), false, None) => json!("not told yet"),
        }
    }
}

impl Registry {
    /// What the directory has said of the group since the last call, if the nodes are those that it names.
    pub fn group_news(&self) -> Option<Vec<Member>> {
        lock(&self.0.membership.news).take()
    }

    /// Rung when there are such.
    pub fn ring(&self, again: Arc<Notify>) {
        if lock(&self.0.membership.news).is_some() {
            again.notify_one();
        }
        *lock(&self.0.membership.again) = Some(again);
    }

    /// What is in force here now; the others are told.
    pub fn stands(&self, standing: Standing) {
        let mut others_wait = false;
        let membership = &self.0.membership;
        membership.standing.send_if_modified(|present| {
            others_wait = standing.heeds > present.heeds;
            let differs = *present != standing;
            if differs {
                *present = standing;
            }
            differs
        });
        if others_wait {
            self.0.tell.notify_one();
        }
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.membership.standing.subscribe()
    }

    pub fn answers(&self) -> watch::Receiver<Answer> {
        self.0.membership.answer.subscribe()
    }

    /// Has the directory tell the others that this node leaves, or does not. What comes of it: [`Registry::answers`], [`Registry::standing`].
    pub fn say_leaving(&self, leaving: bool) {
        lock(&self.0.membership.said).leaving = Some(leaving);
        self.0.tell.notify_one();
    }

    /// It is not to be said any more, if it has not been.
    pub fn say_nothing(&self) {
        lock(&self.0.membership.said).leaving = None;
    }

    /// It has left, and nobody waits for it: takes it off the list for good.
    pub async fn leave_the_group(&self) {
        let inner = &self.0;
        lock(&inner.membership.said).gone = true;
        let said = inner.session.ask(|client| async move { client.remove_member().await });
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(Ok(())) => tracing::info!("left the group: the directory has taken this node off the list"),
            Ok(Err(error)) => tracing::warn!("the directory still has this node on the list: {error}"),
            Err(_) => tracing::warn!("the directory still has this node on the list: it does not answer within {PATIENCE:?}"),
        }
        if let Err(error) = std::fs::remove_file(&inner.group_file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", inner.group_file.display());
        }
    }
}

impl Inner {
    /// Says what this gateway is to its group, where the directory has it otherwise, and passes on who else there is.
    pub(super) async fn join(&self, assignment: &Assignment) -> Result<(), ClientError> {
        let membership = &self.membership;
        if membership.address.is_none() {
            return Ok(());
        }
        let present = assignment.members.iter().find(|member| member.name == self.node);
        let (members, said, refused) = match membership.to_say(present) {
            None => (assignment.members.clone(), None, None),
            Some(spec) => match self.session.ask(|client| async move { client.put_member(&spec).await }).await {
                Ok(group) => (group.members, spec.leaving, None),
                Err(error @ ClientError::Refused { .. }) => (assignment.members.clone(), spec.leaving, Some(error.to_string())),
                Err(error) => return Err(error),
            },
        };
        let own = members.iter().find(|member| member.name == self.node).cloned();
        if membership.by_directory {
            // It was said, or is so. Whether it is to be said again after a refusal is up to whoever wanted it; the rest is to be told without it.
            let mut saying = lock(&membership.said);
            let is_so = |leaving: &bool| own.as_ref().is_some_and(|own| own.leaving == *leaving);
            saying.leaving = saying.leaving.filter(|leaving| said != Some(*leaving) && !is_so(leaving));
            if said.is_some() && refused.is_some() {
                self.tell.notify_one();
            }
        }
        membership.answer.send_modify(|answer| {
            if let Some(why) = &refused {
                if !answer.refused || answer.why != *why {
                    tracing::error!("the directory does not take what {} says of itself as a node of its group: {why}", self.node);
                }
                answer.refusals += 1;
                answer.why.clone_from(why);
            }
            (answer.own, answer.refused) = (own.clone(), refused.is_some());
        });
        if membership.by_directory {
            let in_force = |own: &Member| {
                let standing = membership.standing.borrow();
                standing.own().is_some_and(|standing| (standing.leaving, &standing.shards) == (own.leaving, &own.shards))
            };
            let mut told = lock(&membership.told);
            // That somebody goes by a list concerns those only who wait for it.
            let without_heeds = |members: &[Member]| members.iter().map(|member| Member { heeds: 0, ..member.clone() }).collect::<Vec<_>>();
            let concerns = without_heeds(&told) != without_heeds(&members) || !own.as_ref().is_some_and(in_force);
            told.clone_from(&members);
            *lock(&membership.news) = Some(members);
            if concerns {
                lock(&membership.again).iter().for_each(|again| again.notify_one());
            }
        }
        Ok(())
    }

    /// Writes down what is in force when it changes, from time to time, and at the end.
    pub(super) async fn keep_group(self: Arc<Self>) {
        let mut changes = self.membership.standing.subscribe();
        let mut complained = false;
        loop {
            let ended = self.end.run_until_cancelled(async {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep(WRITE_AGAIN) => {}
                }
            });
            let ended = ended.await.is_none();
            if ended && !changes.has_changed().unwrap_or(false) {
                // A successor may be writing it by now.
                return;
            }
            match self.save_group().await {
                Err(error) if !complained => {
                    tracing::error!("cannot write {}, the group is not known after a restart: {error:#}", self.group_file.display());
                    complained = true;
                }
                Err(_) => {}
                Ok(()) => complained = false,
            }
            if ended {
                return;
            }
        }
    }

    pub(super) async fn save_group(&self) -> anyhow::Result<()> {
        let (known, gone) = (self.membership.standing.borrow().known.clone(), lock(&self.membership.said).gone);
        let (Some(known), Some(address), false) = (known, self.membership.address, gone) else { return Ok(()) };
        let directory = self.session.at().url.as_str().to_owned();
        let stored = Stored { version: VERSION, gateway: self.node.clone(), address, directory, until: now(), known };
        let path = self.group_file.clone();
        let write = move || anyhow::Ok(state_file::write(&path, &serde_json::to_vec(&stored)?)?);
        tokio::task::spawn_blocking(write).await.map_err(anyhow::Error::from).flatten()
    }
}

pub(super) fn file(at: &DirectoryAt) -> PathBuf {
    at.state_dir.join(NAME)
}

/// What a process before this one knew of the group, and how long ago that was in force. Why it is of no use is told in the log.
pub fn recall(config: &Gateway) -> Option<(Known, Duration)> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let at = config.directory.as_ref().filter(|_| config.ha.as_ref().is_some_and(|ha| ha.by_directory()))?;
    let path = file(at);
    let read = || -> anyhow::Result<Option<Stored>> {
        let Some(text) = state_file::read(&path, LONGEST)? else { return Ok(None) };
        let Version { version } = serde_json::from_slice(&text)?;
        anyhow::ensure!(version == VERSION, "it is of version {version}, not {VERSION}");
        let stored: Stored = serde_json::from_slice(&text)?;
        anyhow::ensure!(stored.gateway == config.node, "it is {}'s", stored.gateway);
        anyhow::ensure!(stored.address == config.platform.address, "it is of a gateway at {}", stored.address);
        anyhow::ensure!(stored.directory == at.url.as_str(), "it is from another directory, {}", stored.directory);
        members::check(config, &stored.known.members)?;
        Ok(Some(stored))
    };
    let stored = read().unwrap_or_else(|error| {
        tracing::warn!("the group as it was before the start is not known any more, {} is of no use: {error:#}", path.display());
        None
    })?;
    // A clock that was put back makes nothing older.
    Some((stored.known, Duration::from_secs(now().saturating_sub(stored.until))))
}
