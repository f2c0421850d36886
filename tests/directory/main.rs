//! The directory as its callers see it: over TLS and its socket, on SQLite and on PostgreSQL.

mod description;
mod encrypted;
mod enroll_command;
mod enrolling;
mod gateways;
mod group;
mod hostile;
mod issuer;
mod migrations;
mod oidc;
mod operation;
mod postgres;
mod registry;
mod roles;
mod support;
mod watching;

use support::Bed;

/// Each scenario is a test of its own on SQLite; on PostgreSQL all are one, as one server serves them.
macro_rules! on_both {
    ($($module:ident: $($name:ident)+;)+) => {
        mod on_sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$module::$name(crate::Bed::sqlite().await).await;
                }
            )+)+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_same_on_postgresql() {
            let server = postgres::Server::start();
            $($(
                eprintln!("{}", stringify!($name));
                $module::$name(Bed::new(server.database(stringify!($name)), |_| {}).await).await;
            )+)+
        }
    };
}

on_both! {
    registry:
        tenants_come_change_and_go
        inner_prefixes_are_stable_and_come_back_last
        a_new_shard_has_a_prefix_for_every_host
        pools_are_names_for_shards_of_the_tenant
        a_range_that_is_full_says_so
        a_shard_has_a_present_and_a_next_key
        a_key_is_one_hosts_or_one_shards
        long_lists_come_in_pages;
    roles:
        who_may_do_what
        the_fleet_is_shown_to_each_as_far_as_it_is_its_own
        of_tokens_their_hashes_alone_are_kept
        nobody_sees_another_tenant
        what_is_not_there_and_what_is_not_ones_own_look_the_same
        a_removed_token_is_refused_at_once
        a_gateways_token_is_good_for_no_more_than_its_makers
        tokens_expire
        a_caller_that_hangs_up_has_asked;
    enrolling:
        a_host_enrols_and_comes_again
        a_token_is_good_for_one_host
        nobody_takes_what_is_anothers
        a_claim_to_more_than_the_token_allows_is_refused
        without_the_private_key_nobody_enrols
        an_answer_counts_once
        a_host_of_no_tenant_is_not_for_whoever_names_it
        a_host_with_a_new_key_takes_a_token_of_its_own
        a_removed_host_does_not_come_back_by_itself
        two_keys_are_valid_while_one_is_changed;
    group:
        a_node_is_seen_by_those_that_share_a_tenant_with_it
        a_group_hears_of_what_changes_within_a_second
        a_node_that_does_not_fit_is_refused
        who_has_left_or_is_dead_is_taken_off;
    watching:
        changes_are_told_within_a_second
        each_hears_of_its_own
        what_happened_meanwhile_is_told_on_return
        who_comes_back_too_late_starts_again
        a_watch_ends_with_its_token;
    hostile:
        names_that_look_like_sql_are_names_or_refused
        bodies_that_are_none_are_refused
        every_refusal_is_counted
        answers_are_counted_by_route;
    oidc:
        a_machine_of_the_issuer_enrols
        bad_identity_tokens_are_refused
        a_slow_issuer_keeps_nobody_waiting
        keys_rotate;
}
