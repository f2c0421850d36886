//! The roles and playbooks of ansible/: linted, and applied to machines that have systemd as their process 1.

mod fleet;
mod lint;
mod machine;
mod pair;
mod roles;
