//! The HTTP faces that every daemon has: `/healthz`, `/readyz`, `/metrics`, `/v1/status`, and `/` for people.

use super::failed::Failed;
use super::meter::{Figures, Meter};
use super::names::Names;
use super::page;
use super::reconcile::{Refused, Report, Role, pass_beside};
use crate::kernel::Kernel;
use crate::metrics::Page;
use anyhow::Context;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{Mutex, Notify};

/// What the loop and the HTTP handlers share.
#[derive(Debug)]
pub struct Shared<R> {
    pub role: Mutex<R>,
    pub kernel: Arc<Kernel>,
    last: std::sync::Mutex<Option<Report>>,
    read: std::sync::Mutex<Read>,
    /// Something was left half done, or the role asks for it: look again soon.
    pub again: Arc<Notify>,
    passes: AtomicU64,
    repairs: AtomicU64,
    meter: Arc<Meter>,
    /// By which the admin listener is called.
    pub names: Names,
}

/// What came of reading the configuration.
#[derive(Debug, Clone, Serialize)]
struct Read {
    /// How often, the start included.
    times: u64,
    /// What is on disk is not in force.
    refused: Option<Refused>,
}

impl<R: Role> Shared<R> {
    pub fn new(role: R, kernel: Arc<Kernel>, names: Names) -> Self {
        Self {
            again: role.again(),
            role: Mutex::new(role),
            kernel,
            last: std::sync::Mutex::new(None),
            read: std::sync::Mutex::new(Read { times: 1, refused: None }),
            passes: AtomicU64::new(0),
            repairs: AtomicU64::new(0),
            meter: Arc::default(),
            names,
        }
    }

    /// Brings the kernel to what it should hold.
    pub async fn reconcile(&self) -> Report {
        let report = pass_beside(&self.role, &self.kernel).await;
        self.passes.fetch_add(1, Relaxed);
        self.repairs.fetch_add(u64::from(!report.steps.is_empty()), Relaxed);
        report.log();
        *self.last() = Some(report.clone());
        report
    }

    /// Lets a call change something, to the end though its caller may hang up: nobody would go on with half of it. What is left half
    /// done all the same is put right at once, not with the next look.
    pub async fn change<T, E>(&self, change: impl Future<Output = Result<T, Failed<E>>> + Send + 'static) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let again = self.again.clone();
        let changing = tokio::spawn(async move {
            let outcome = change.await;
            if let Err(Failed::Kernel(_)) = outcome {
                again.notify_one();
            }
            outcome
        });
        changing.await.context("the call was cut off")?
    }

    /// What the machine counts. Not under the role's lock: a device may be slow to answer.
    async fn figures(&self) -> Figures {
        let watched = self.role.lock().await.watched();
        self.meter.read(&self.kernel, watched).await
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Report>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The configuration was read once more.
    pub fn has_read(&self, refused: Option<Refused>) {
        let mut read = self.read();
        *read = Read { times: read.times + 1, refused };
    }

    fn ready(&self) -> bool {
        self.last().as_ref().is_some_and(Report::settled)
    }
}

/// The part that may be seen from the network.
pub fn read_only<R: Role>(shared: Arc<Shared<R>>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .merge(page::routes())
        .with_state(shared)
}

async fn readyz<R: Role>(Extract(shared): Extract<Arc<Shared<R>>>) -> Response {
    match shared.last().clone() {
        Some(report) if report.settled() => "ready\n".into_response(),
        Some(report) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready:\n{}\n", report.failures.join("\n"))).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n").into_response(),
    }
}

async fn status<R: Role>(Extract(shared): Extract<Arc<Shared<R>>>) -> Response {
    let figures = shared.figures().await;
    let mut status = shared.role.lock().await.status();
    let drops: BTreeMap<String, u64> =
        shared.kernel.counters().unwrap_or_default().into_iter().map(|(_, name, packets)| (reason(&name).to_owned(), packets)).collect();
    if let Some(map) = status.as_object_mut() {
        map.extend(figures.status());
        map.insert("role".into(), R::NAME.into());
        map.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        map.insert("drops".into(), serde_json::json!(drops));
        map.insert("ready".into(), shared.ready().into());
        map.insert("configuration".into(), serde_json::json!(*shared.read()));
        map.insert("failures".into(), shared.last().as_ref().map(|report| report.failures.clone()).unwrap_or_default().into());
    }
    Json(status).into_response()
}

/// A drop counter's name without what they all begin with.
fn reason(counter: &str) -> &str {
    counter.strip_prefix("drop_").unwrap_or(counter)
}

async fn metrics<R: Role>(Extract(shared): Extract<Arc<Shared<R>>>, asked: HeaderMap) -> Response {
    let mut page = Page::default();
    page.gauge("portway_ready", "1 when the kernel holds all that it should", &[], f64::from(u8::from(shared.ready())));
    page.counter("portway_reconcile_passes", "Times the kernel was compared with what it should hold", &[], shared.passes.load(Relaxed));
    page.counter("portway_reconcile_repairs", "Passes that had something to change", &[], shared.repairs.load(Relaxed));
    if let Some(report) = shared.last().as_ref() {
        page.gauge("portway_reconcile_seconds", "Duration of the last pass", &[], report.took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of failures is small")]
        page.gauge("portway_reconcile_failures", "Steps of the last pass that failed", &[], report.failures.len() as f64);
    }
    let help = "1 while the configuration on disk, having been read anew, is not in force";
    page.gauge("portway_configuration_refused", help, &[], f64::from(u8::from(shared.read().refused.is_some())));
    for (table, counter, packets) in shared.kernel.counters().unwrap_or_default() {
        page.counter(
            "portway_dropped_packets",
            "Packets dropped by the ruleset",
            &[("table", table), ("reason", reason(&counter))],
            packets,
        );
    }
    shared.names.metrics(&mut page);
    shared.figures().await.metrics(&mut page);
    shared.role.lock().await.metrics(&mut page);
    page.answer(&asked)
}
