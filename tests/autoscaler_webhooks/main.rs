//! The door of an autoscaler: what is posted over loopback, what is asked of a Prometheus, and what both change.

mod alertmanager;
mod demands;
mod prometheus;
mod real;
mod refusals;
mod restarts;
mod sns;
mod support;
