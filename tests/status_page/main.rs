//! The page at `/` of each daemon, as a headless Chromium shows it.

mod browser;
mod daemons;
mod looks;
mod statuses;
mod support;
