//! Connections for look-ups, which are many and short.
//!
//! A pool asks every connection whether it still lives, when it is taken and when it is given back: three journeys to another thread or machine where the
//! question itself is one. These stay at hand instead; one over which something went wrong, or whose question was given up, goes back to the
//! pool, which finds out.

use super::{Done, PATIENCE, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug, Clone)]
pub struct Readers(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    pool: AnyPool,
    room: Semaphore,
    idle: Idle,
}

/// None: it is over.
type Idle = Mutex<Option<Vec<PoolConnection<Any>>>>;

/// A connection, back at hand by `Reader::keep`.
pub(super) struct Reader<'r> {
    connection: PoolConnection<Any>,
    idle: &'r Idle,
    /// Whether it was at hand: what fails over such a one may have ended long ago.
    pub old: bool,
    _place: SemaphorePermit<'r>,
}

impl Readers {
    /// At most so many out of a pool that has more.
    pub fn new(pool: AnyPool, most: usize) -> Self {
        Self(Arc::new(Kept { pool, room: Semaphore::new(most), idle: Mutex::new(Some(Vec::new())) }))
    }

    pub(super) async fn take(&self, doing: &'static str) -> Done<Reader<'_>> {
        let failed = |source| StoreError::Database { doing, source };
        let waited = tokio::time::timeout(PATIENCE, self.0.room.acquire()).await;
        let place = waited.map_err(|_| failed(sqlx::Error::PoolTimedOut))?.map_err(|_| failed(sqlx::Error::PoolClosed))?;
        let kept = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Vec::pop);
        let old = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.0.pool.acquire().await.map_err(failed)?,
        };
        Ok(Reader { connection, idle: &self.0.idle, old, _place: place })
    }

    /// Lets go of all, and gives out no more.
    pub fn close(&self) {
        self.0.room.close();
        *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reader<'_> {
    /// For the next one: nothing went wrong.
    pub fn keep(self) {
        if let Some(idle) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            idle.push(self.connection);
        }
    }
}

impl Deref for Reader<'_> {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}
