//! Somebody who serves the page, and says of itself what a test wants.

use axum::Json;
use axum::http::StatusCode;
use axum::routing::get;
use portway::daemon::page;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

type Says = Box<dyn Fn(f64) -> (u16, Value) + Send>;

pub struct Fake {
    says: Arc<Mutex<Says>>,
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Fake {
    /// `says`: the answer to `/v1/status` so many seconds after the start.
    pub fn start(says: impl Fn(f64) -> Value + Send + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(Box::new(move |at| (200, says(at)))));
        let (answers, begun) = (says.clone(), Instant::now());
        let status = move || {
            let (status, body) = answers.lock().unwrap()(begun.elapsed().as_secs_f64());
            std::future::ready((StatusCode::from_u16(status).unwrap(), Json(body)))
        };
        let address = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = page::routes().route("/v1/status", get(status));
            tokio::spawn(async move { axum::serve(listener, routes).await });
            address
        });
        Self { says, address, runtime: Some(runtime) }
    }

    pub fn say(&self, says: impl Fn(f64) -> (u16, Value) + Send + 'static) {
        *self.says.lock().unwrap() = Box::new(says);
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// It answers nothing any more.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn here() -> Command {
    Command::new("sh")
}
