//! Who watches is told from memory: one reading of the database serves all, here and whatever another process has written.

use super::store::changes::News;
use super::store::{Access, Scope, Store, StoreError};
use super::types::{Change, ChangeKind, Role};
use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Changes that are kept in memory; who comes back after more is served from the database.
const KEPT: usize = 10_000;
/// Everybody who watches looks up at a ring, so under many changes one is for all within this time; the last ring comes with the next look
/// (`directory::LOOK`).
const PACE: Duration = Duration::from_millis(100);
/// Changes read, or told, at once; somewhat more if one revision has them.
pub const AT_ONCE: u32 = 1_000;

#[derive(Debug)]
pub struct Feed {
    recent: RwLock<Recent>,
    /// Up to which revision all was known at the last ring, and when that was.
    bell: watch::Sender<u64>,
    rung: std::sync::Mutex<Option<Instant>>,
    /// One reads at a time; the others would read the same.
    reading: Mutex<()>,
}

/// All changes after `from` up to `to`.
#[derive(Debug, Default)]
struct Recent {
    from: u64,
    to: u64,
    news: VecDeque<News>,
}

/// What somebody may know of what has changed, and from where to ask next.
#[derive(Debug, PartialEq)]
pub enum Since {
    Told(Vec<Change>, u64),
    /// What was then is forgotten, or has never been.
    Forgotten,
}

impl Feed {
    /// From the present revision on.
    pub fn new(revision: u64) -> Self {
        let recent = Recent { from: revision, to: revision, news: VecDeque::new() };
        Self { recent: RwLock::new(recent), bell: watch::Sender::new(revision), rung: std::sync::Mutex::default(), reading: Mutex::new(()) }
    }

    pub fn revision(&self) -> u64 {
        self.recent().to
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    pub fn watchers(&self) -> usize {
        self.bell.receiver_count()
    }

    fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is new, and gives it to `heed` before anybody else hears of it. None for `heed`: everything may have changed.
    pub async fn catch_up(&self, store: &Store, heed: impl Fn(Option<&News>)) -> Result<(), StoreError> {
        let _alone = self.reading.lock().await;
        loop {
            let to = self.revision();
            let Some((news, reached)) = store.changes(to, AT_ONCE).await? else {
                // Another database, such as a backup that was put back, or a process that slept for too long.
                tracing::warn!("changes after revision {to} are not in the database: everybody who watches lists anew");
                heed(None);
                let revision = store.ping().await?;
                *self.recent.write().unwrap_or_else(PoisonError::into_inner) =
                    Recent { from: revision, to: revision, news: VecDeque::new() };
                self.ring(Instant::now());
                return Ok(());
            };
            if reached == to {
                self.ring(Instant::now());
                return Ok(());
            }
            news.iter().for_each(|one| heed(Some(one)));
            self.recent.write().unwrap_or_else(PoisonError::into_inner).push(news, reached);
        }
    }

    /// Wakes whoever watches, if there is something new and the last time is not just now.
    fn ring(&self, now: Instant) {
        let revision = self.revision();
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.bell.borrow() != revision && rung.is_none_or(|last| now.saturating_duration_since(last) >= PACE) {
            *rung = Some(now);
            self.bell.send_replace(revision);
        }
    }

    pub async fn since(&self, store: &Store, who: &Access, since: u64) -> Result<Since, StoreError> {
        if let Some(told) = self.recent().told(who, since) {
            return Ok(told);
        }
        let Some((news, reached)) = store.changes(since, AT_ONCE).await? else { return Ok(Since::Forgotten) };
        Ok(Since::Told(news.iter().filter(|one| concerns(who, one)).map(|one| one.change.clone()).collect(), reached))
    }
}

impl Recent {
    fn push(&mut self, news: Vec<News>, reached: u64) {
        self.news.extend(news);
        self.to = reached;
        while self.news.len() > KEPT
            && let Some(oldest) = self.news.front().map(|one| one.change.revision)
        {
            // A revision goes as a whole.
            while self.news.front().is_some_and(|one| one.change.revision == oldest) {
                self.news.pop_front();
            }
            self.from = oldest;
        }
    }

    /// None: it is not in memory.
    fn told(&self, who: &Access, since: u64) -> Option<Since> {
        if since > self.to || since < self.from {
            return None;
        }
        let first = self.news.partition_point(|one| one.change.revision <= since);
        let mut told: Vec<Change> = Vec::new();
        for one in self.news.range(first..).filter(|one| concerns(who, one)) {
            // A revision is told as a whole; the rest is for the next call.
            if told.len() >= AT_ONCE as usize
                && let Some(last) = told.last().map(|change| change.revision)
                && last < one.change.revision
            {
                return Some(Since::Told(told, last));
            }
            told.push(one.change.clone());
        }
        Some(Since::Told(told, self.to))
    }
}

/// Whether somebody may know, and needs to.
fn concerns(who: &Access, news: &News) -> bool {
    let in_scope = news.tenant.is_some_and(|tenant| who.scope.has(tenant));
    let kind = news.change.kind;
    match who.role {
        Role::Operator => in_scope || who.scope == Scope::All,
        Role::Gateway => in_scope && kind != ChangeKind::Token || news.gateway.is_some() && news.gateway == who.gateway,
        // Not of other hosts.
        Role::Host => in_scope && matches!(kind, ChangeKind::Shard | ChangeKind::Tenant) || news.host.is_some() && news.host == who.host,
        Role::Enroll | Role::Observer => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn news(revision: u64, kind: ChangeKind, tenant: Option<i64>, host: Option<i64>) -> News {
        let change = Change { revision, kind, name: format!("n{revision}"), tenant: None, gone: false, keys: vec![] };
        News { change, tenant, host, gateway: None }
    }

    fn access(role: Role, tenants: &[i64], host: Option<i64>) -> Access {
        let tenants: BTreeMap<_, _> = tenants.iter().map(|id| (*id, format!("t{id}").parse().unwrap())).collect();
        Access { role, gateway: Some(1), host, name: None, scope: Scope::Only(Arc::new(tenants)), expires: None }
    }

    fn revisions(since: Option<Since>) -> (Vec<u64>, u64) {
        let Some(Since::Told(changes, reached)) = since else { panic!("{since:?}") };
        (changes.iter().map(|change| change.revision).collect(), reached)
    }

    #[test]
    fn each_hears_of_its_own_tenants_and_a_host_of_no_other_host() {
        let mut recent = Recent { from: 10, to: 10, news: VecDeque::new() };
        recent.push(
            vec![
                news(11, ChangeKind::Host, Some(1), Some(5)),
                news(12, ChangeKind::Shard, Some(1), None),
                news(13, ChangeKind::Host, Some(2), Some(6)),
                news(14, ChangeKind::Token, None, None),
                news(15, ChangeKind::Tenant, Some(1), None),
            ],
            15,
        );
        assert_eq!(revisions(recent.told(&access(Role::Gateway, &[1], None), 10)), (vec![11, 12, 15], 15));
        assert_eq!(revisions(recent.told(&access(Role::Gateway, &[2], None), 10)), (vec![13], 15));
        assert_eq!(revisions(recent.told(&access(Role::Host, &[1], Some(5)), 10)), (vec![11, 12, 15], 15));
        assert_eq!(revisions(recent.told(&access(Role::Host, &[1, 2], Some(7)), 10)), (vec![12, 15], 15));
        let all = Access { scope: Scope::All, ..access(Role::Operator, &[], None) };
        assert_eq!(revisions(recent.told(&all, 11)), (vec![12, 13, 14, 15], 15));
        assert_eq!(revisions(recent.told(&all, 15)), (vec![], 15));
        assert_eq!((recent.told(&all, 9), recent.told(&all, 16)), (None, None));
    }

    #[test]
    fn who_is_far_behind_is_told_in_pieces() {
        let (mut recent, most) = (Recent::default(), u64::from(AT_ONCE));
        for revision in 1..=most + 1 {
            recent.push(vec![news(revision, ChangeKind::Tenant, Some(1), None); 2], revision);
        }
        let all = Access { scope: Scope::All, ..access(Role::Operator, &[], None) };
        let (told, reached) = revisions(recent.told(&all, 0));
        assert_eq!((told.len(), told.last().copied(), reached), (AT_ONCE as usize, Some(most / 2), most / 2));
        let (told, reached) = revisions(recent.told(&all, reached + 1));
        assert_eq!((told[0], told.len(), reached), (most / 2 + 2, AT_ONCE as usize, most + 1));
    }

    #[test]
    fn many_changes_wake_everybody_seldom() {
        let feed = Feed::new(0);
        let (mut bell, begun, mut woken) = (feed.subscribe(), Instant::now(), 0);
        for revision in 1..=1_000 {
            feed.recent.write().unwrap().push(vec![], revision);
            feed.ring(begun + Duration::from_millis(revision));
            woken += u32::from(bell.has_changed().unwrap());
            bell.mark_unchanged();
        }
        assert_eq!(woken, 10);
        // The last one is not forgotten, and nothing new is no reason.
        feed.ring(begun + Duration::from_secs(2));
        assert_eq!((bell.has_changed().unwrap(), *bell.borrow_and_update()), (true, 1_000));
        feed.ring(begun + Duration::from_secs(3));
        assert!(!bell.has_changed().unwrap());
    }

    #[test]
    fn the_oldest_are_let_go_by_whole_revisions() {
        let mut recent = Recent::default();
        let two = |revision| vec![news(revision, ChangeKind::Tenant, Some(1), None); 2];
        for revision in 1..=u64::try_from(KEPT / 2).unwrap() + 3 {
            recent.push(two(revision), revision);
        }
        assert_eq!((recent.news.len(), recent.from, recent.news[0].change.revision), (KEPT, 3, 4));
    }
}
