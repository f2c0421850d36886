//! A host comes, or comes again, and what it may have.
//!
//! | the name is | with the key | |
//! |---|---|---|
//! | new | of nobody | added |
//! | its own | its own | the same again, with a new token; more tenants if it may have more |
//! | of a host without key, or the one that the token is for | of nobody | that host from now on, if the token is good for all its tenants |
//! | another's | any | refused |
//! | any | another's | refused |

use super::super::proof::{self, NoProof, Nonce};
use super::super::refusal::{Code, Refusal};
use super::super::token::TokenHash;
use super::super::types::{HostKey, Membership, Role};
use super::hosts::{self, Row, membership, name_taken};
use super::{Done, Scope, Store, Writer, tenants, tokens};
use crate::model::{NodeName, PublicKey, TenantName, TenantShard};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// By what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A token for one enrolment, which its owner has shown.
    Token { id: String },
    /// An issuer's word, which has been verified.
    Identity { tenants: Vec<TenantName>, host: Option<NodeName> },
}

/// A host that has proved to have its private key.
#[derive(Debug)]
pub struct Enrollment<'a> {
    pub grant: Grant,
    pub name: &'a NodeName,
    pub public_key: PublicKey,
    /// What it has answered for that.
    pub nonce: Nonce,
    pub tenants: Option<&'a BTreeSet<TenantName>>,
    pub inner: Option<&'a BTreeMap<TenantShard, Vec<IpNet>>>,
    /// What will be the host's own token.
    pub credential: (&'a str, TokenHash),
}

/// What a grant comes to.
struct Allowed {
    tenants: BTreeMap<i64, TenantName>,
    /// The only name that it is good for.
    pinned: Option<NodeName>,
}

fn for_another(name: &NodeName) -> Refusal {
    Refusal::new(Code::Forbidden, format!("this token is not for {name}"), "use the token that was made for this host")
}

impl Store {
    pub async fn enroll(&self, now: i64, wanted: &Enrollment<'_>) -> Done<Membership> {
        let mut writer = self.writer("enrol a host", now).await?;
        writer.answered(&wanted.nonce).await?;
        let allowed = writer.allowed(wanted).await?;
        if allowed.pinned.as_ref().is_some_and(|pinned| pinned != wanted.name) {
            return Err(for_another(wanted.name).into());
        }
        let asked = asked(&allowed, wanted.tenants)?;
        let mut row = match hosts::find(writer.connection(), wanted.name).await? {
            None => writer.add_host(wanted.name).await?,
            Some(row) => row,
        };
        if row.present_key() != Some(wanted.public_key) {
            // Who a host without tenants was made by, or for, is not known any more.
            let may = row.keys.is_empty() || allowed.pinned.is_some() && !row.tenants.is_empty();
            if !may || row.tenants.keys().any(|tenant| !allowed.tenants.contains_key(tenant)) {
                return Err(name_taken(wanted.name).into());
            }
            writer.replace_keys(&mut row, wanted.public_key).await?;
        }
        let mut all = row.tenants.clone();
        all.extend(asked);
        writer.set_host_tenants(&mut row, &all).await?;
        writer.credential(&row, wanted).await?;
        if let Grant::Token { id } = &wanted.grant {
            sqlx::query("UPDATE tokens SET used_by = $2, used_key = $3 WHERE id = $1")
                .bind(id.clone())
                .bind(wanted.name.as_str().to_owned())
                .bind(wanted.public_key.bytes().to_vec())
                .execute(writer.connection())
                .await?;
        }
        let scope = Scope::Only(Arc::new(all));
        let membership = membership(writer.connection(), &scope, row.id, wanted.name, now).await?;
        let differs = |(of, nets): (&TenantShard, &Vec<IpNet>)| membership.host.inner.get(of) != Some(nets);
        if wanted.inner.into_iter().flatten().any(differs) {
            let message = "an inner prefix that this host claims is not its own";
            return Err(Refusal::new(Code::InnerTaken, message, "leave `inner` out, and take what the answer says").into());
        }
        writer.commit().await?;
        Ok(membership)
    }

    /// A host's new key beside its present one, which stays valid for `grace`. The host by its number, too: another may have its name by now.
    pub async fn rotate(&self, now: i64, (host, name): (i64, &NodeName), key: PublicKey, nonce: &Nonce, grace: Duration) -> Done<()> {
        let mut writer = self.writer("change a host's key", now).await?;
        let row = hosts::find(writer.connection(), name).await?.filter(|row| row.id == host);
        let mut row = row.ok_or_else(Refusal::unauthenticated)?;
        if row.present_key() == Some(key) {
            return Ok(());
        }
        writer.answered(nonce).await?;
        if let Some(HostKey { expires: Some(expires), .. }) = row.keys.iter().find(|key| key.expires.is_some_and(|at| at > now)) {
            let message = format!("the key before the present one is still valid for {} s", expires - now);
            return Err(Refusal::new(Code::Rotating, message, "change it again when that is over").into());
        }
        writer.key_is_free(&key, None).await?;
        let expires = now.saturating_add(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        sqlx::query("UPDATE host_keys SET expires = $2 WHERE host = $1 AND expires IS NULL")
            .bind(row.id)
            .bind(expires)
            .execute(writer.connection())
            .await?;
        writer.add_key(row.id, &key).await?;
        row.keys.push(HostKey { public_key: key, expires: None });
        writer.tell_host(&row, &row.all_keys()).await?;
        writer.commit().await?;
        Ok(())
    }
}

/// The tenants that a host is to have, of those it may have.
fn asked(allowed: &Allowed, wanted: Option<&BTreeSet<TenantName>>) -> Done<BTreeMap<i64, TenantName>> {
    let mut asked = allowed.tenants.clone();
    if let Some(wanted) = wanted {
        if let Some(tenant) = wanted.iter().find(|tenant| !allowed.tenants.values().any(|name| name == *tenant)) {
            let remedy = "ask for others, or have an operator make a token for it";
            return Err(Refusal::new(Code::TenantRefused, format!("the token is not good for tenant {tenant}"), remedy).into());
        }
        asked.retain(|_, name| wanted.contains(name));
    }
    if asked.is_empty() {
        let remedy = "ask for at least one tenant that there is and that the token allows";
        return Err(Refusal::new(Code::TenantRefused, "a host of no tenant has nothing to do here", remedy).into());
    }
    Ok(asked)
}

impl Writer {
    /// This answer counts once.
    async fn answered(&mut self, nonce: &Nonce) -> Done<()> {
        // A while longer than it is good for: the clocks of those that share the database may differ.
        let over = self.now.saturating_sub(i64::try_from(proof::LIFE.as_secs()).unwrap_or(i64::MAX));
        sqlx::query("DELETE FROM nonces WHERE expires < $1").bind(over).execute(self.connection()).await?;
        let new = sqlx::query("INSERT INTO nonces (nonce, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(nonce.bytes().to_vec())
            .bind(nonce.expires())
            .execute(self.connection())
            .await?;
        if new.rows_affected() == 1 { Ok(()) } else { Err(Refusal::from(NoProof::Used).into()) }
    }

    async fn allowed(&mut self, wanted: &Enrollment<'_>) -> Done<Allowed> {
        let id = match &wanted.grant {
            Grant::Token { id } => id,
            Grant::Identity { tenants: names, host } => {
                let mut tenants = BTreeMap::new();
                for name in names {
                    tenants.extend(tenants::find(self.connection(), name).await?.map(|row| (row.id, row.name)));
                }
                return Ok(Allowed { tenants, pinned: host.clone() });
            }
        };
        type Row = (String, Option<String>, Option<i64>, Option<String>, Option<Vec<u8>>);
        // Again, now that nobody else can use it at the same time.
        let row: Option<Row> = sqlx::query_as("SELECT role, pinned, expires, used_by, used_key FROM tokens WHERE id = $1")
            .bind(id.clone())
            .fetch_optional(self.connection())
            .await?;
        let Some((role, pinned, expires, used_by, used_key)) = row else { return Err(Refusal::unauthenticated().into()) };
        let by_itself = used_by.is_none_or(|name| name == wanted.name.as_str() && used_key.as_deref() == Some(wanted.public_key.bytes()));
        if tokens::role(&role)? != Role::Enroll || expires.is_some_and(|expires| expires <= self.now) || !by_itself {
            return Err(Refusal::unauthenticated().into());
        }
        let pinned = pinned.map(|name| super::stored(name.parse())).transpose()?;
        Ok(Allowed { tenants: tokens::tenants_of_token(self.connection(), id).await?, pinned })
    }

    /// The host's own token; those from before are no more.
    async fn credential(&mut self, row: &Row, wanted: &Enrollment<'_>) -> Done<()> {
        self.revoke_of_host(row.id).await?;
        let (id, hash) = &wanted.credential;
        let now = self.now;
        sqlx::query("INSERT INTO tokens (id, hash, role, everywhere, host, created) VALUES ($1, $2, $3, 0, $4, $5)")
            .bind((*id).to_owned())
            .bind(hash.bytes().to_vec())
            .bind(Role::Host.as_str().to_owned())
            .bind(row.id)
            .bind(now)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
