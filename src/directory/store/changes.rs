//! What became different, in the order of the revision.

use super::super::types::{Change, ChangeKind};
use super::{Done, Store, Writer, signed, stored, unsigned};
use crate::model::{PublicKey, TenantName};

/// A change with whom it concerns.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    pub change: Change,
    /// Whoever may see this tenant may know.
    pub tenant: Option<i64>,
    /// This one, too.
    pub host: Option<i64>,
    pub gateway: Option<i64>,
}

/// One more line of news, before it has its revision.
pub(super) struct Told<'a> {
    pub kind: ChangeKind,
    pub name: &'a str,
    pub tenant: Option<(i64, &'a TenantName)>,
    pub host: Option<i64>,
    pub gateway: Option<i64>,
    pub gone: bool,
    pub keys: &'a [PublicKey],
}

impl Told<'_> {
    pub fn of(kind: ChangeKind, name: &str) -> Told<'_> {
        Told { kind, name, tenant: None, host: None, gateway: None, gone: false, keys: &[] }
    }
}

impl Writer {
    pub(super) async fn tell(&mut self, told: Told<'_>) -> Done<()> {
        let change = Change {
            revision: unsigned(self.revision),
            kind: told.kind,
            name: told.name.to_owned(),
            tenant: told.tenant.map(|(_, name)| name.clone()),
            gone: told.gone,
            keys: told.keys.to_vec(),
        };
        let (revision, part) = (self.revision, self.parts);
        self.parts += 1;
        sqlx::query("INSERT INTO changes (revision, part, kind, tenant, host, gateway, body) VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(revision)
            .bind(part)
            .bind(stored(serde_json::to_value(change.kind))?.as_str().unwrap_or_default().to_owned())
            .bind(told.tenant.map(|(id, _)| id))
            .bind(told.host)
            .bind(told.gateway)
            .bind(stored(serde_json::to_string(&change))?)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

impl Store {
    /// Changes after a revision, at most `limit` and then as many as its last revision has; and which revision is reached with them.
    /// None: some of them are forgotten, or this revision has not been yet.
    pub async fn changes(&self, since: u64, limit: u32) -> Done<Option<(Vec<News>, u64)>> {
        let mut view = self.view("read what has changed").await?;
        let (revision, compacted): (i64, i64) = sqlx::query_as("SELECT revision, compacted FROM state").fetch_one(&mut *view).await?;
        if since < unsigned(compacted) || since > unsigned(revision) {
            return Ok(None);
        }
        let last: Option<(i64,)> =
            sqlx::query_as("SELECT revision FROM changes WHERE revision > $1 ORDER BY revision, part LIMIT 1 OFFSET $2")
                .bind(signed(since))
                .bind(i64::from(limit))
                .fetch_optional(&mut *view)
                .await?;
        let until = last.map_or(revision, |(last,)| last);
        type Row = (Option<i64>, Option<i64>, Option<i64>, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant, host, gateway, body FROM changes WHERE revision > $1 AND revision <= $2 ORDER BY revision, part",
        )
        .bind(signed(since))
        .bind(until)
        .fetch_all(&mut *view)
        .await?;
        let news = rows
            .into_iter()
            .map(|(tenant, host, gateway, body)| Ok(News { change: stored(serde_json::from_str(&body))?, tenant, host, gateway }));
        Ok(Some((news.collect::<Done<_>>()?, unsigned(until))))
    }

    /// Forgets all changes but the last `keep` revisions'. Nothing if there are not half as many more, so that this is seldom work.
    pub async fn compact(&self, keep: u64) -> Done<()> {
        let mut tx = self.write.begin().await?;
        let (revision, compacted): (i64, i64) = sqlx::query_as("SELECT revision, compacted FROM state").fetch_one(&mut *tx).await?;
        let until = revision.saturating_sub(signed(keep));
        if until.saturating_sub(compacted) < signed(keep / 2).max(1) {
            return Ok(());
        }
        sqlx::query("UPDATE state SET compacted = $1 WHERE compacted < $1").bind(until).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM changes WHERE revision <= $1").bind(until).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
